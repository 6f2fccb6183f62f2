// Matrix products: fp32 matrices where they are, 16-bit ones through fp32 copies.
#include <array>

#include "kernels/host/elements.h"
#include "kernels/host/gemm.h"
#include "kernels/host/kernel.h"
#include "kernels/host/parallel.h"

namespace tidemark::host {
namespace {

// The matrix [rows, columns] that a tensor's last two dimensions are, at `offset` elements; as fp32.
class Operand {
 public:
  Operand(const TensorSpan& t, int64_t offset) {
    const int last = t.sizes.size() - 1;
    TensorSpan matrix = t;
    matrix.data += offset * SizeOf(t.dtype).count();
    matrix.sizes = {t.sizes[last - 1], t.sizes[last]};
    matrix.strides = {t.strides[last - 1], t.strides[last]};
    view_ = {nullptr, matrix.sizes[0], matrix.sizes[1], matrix.strides[0], matrix.strides[1]};
    if (t.dtype == DType::kFloat32 && (view_.row_stride == 1 || view_.column_stride == 1) && Big(view_)) {
      view_.data = reinterpret_cast<const float*>(matrix.data);
      return;
    }
    // A transposed matrix is copied as what it is the transpose of.
    const bool transposed = view_.row_stride == 1 && view_.column_stride != 1;
    if (transposed) {
      matrix.sizes = {view_.columns, view_.rows};
      matrix.strides = {view_.column_stride, view_.row_stride};
    }
    copy_ = Floats(matrix);
    view_.data = copy_.data();
    view_.row_stride = transposed ? 1 : view_.columns;
    view_.column_stride = transposed ? view_.rows : 1;
  }
  const ConstMatrix& view() const { return view_; }

 private:
  // Whether the outer stride spans the inner dimension (not so for a broadcast one).
  static bool Big(const ConstMatrix& m) {
    return m.column_stride == 1 ? m.row_stride >= m.columns : m.column_stride >= m.rows;
  }
  std::vector<float> copy_;
  ConstMatrix view_;
};

// out = a b, plus `start` (a row of out, or all of it) where there is one.
void Multiply(const ConstMatrix& a, const ConstMatrix& b, const TensorSpan& out, const std::vector<float>* start) {
  const int64_t rows = a.rows;
  const int64_t columns = b.columns;
  const auto begin_with = [&](float* to) {
    if (start == nullptr) return;
    if (start->size() == static_cast<size_t>(rows * columns)) {
      std::copy(start->begin(), start->end(), to);
      return;
    }
    for (int64_t i = 0; i < rows; ++i) std::copy(start->begin(), start->end(), to + i * columns);
  };
  if (out.dtype == DType::kFloat32 && IsContiguous(out)) {
    auto* to = reinterpret_cast<float*>(out.data);
    begin_with(to);
    Gemm(a, b, {to, columns}, 1, start != nullptr);
    return;
  }
  std::vector<float> product(static_cast<size_t>(rows * columns));
  begin_with(product.data());
  Gemm(a, b, {product.data(), columns}, 1, start != nullptr);
  const Elements elements(out);
  ParallelChunks(elements.size(), kChunk,
                 [&](int64_t begin, int64_t n) { elements.Store(begin, n, &product[static_cast<size_t>(begin)]); });
}

Result<RunOutcome> Mm(const KernelCall& c) {
  const Operand a(c.in[0], 0);
  const Operand b(c.in[1], 0);
  Multiply(a.view(), b.view(), c.out[0], nullptr);
  return RunOutcome::kDone;
}

Result<RunOutcome> Addmm(const KernelCall& c) {
  const std::vector<float> bias = Floats(c.in[0]);
  if (c.in[0].sizes.size() != 1 && !(c.in[0].sizes == c.out[0].sizes)) {
    return InvalidInput("expects a vector or a matrix of the result's sizes to add");
  }
  const Operand a(c.in[1], 0);
  const Operand b(c.in[2], 0);
  Multiply(a.view(), b.view(), c.out[0], &bias);
  return RunOutcome::kDone;
}

Result<RunOutcome> Bmm(const KernelCall& c) {
  const TensorSpan& out = c.out[0];
  const int64_t work = out.sizes[1] * out.sizes[2] * c.in[0].sizes[2];
  Parallel(out.sizes[0], work, [&](int64_t i) {
    const Operand a(c.in[0], i * c.in[0].strides[0]);
    const Operand b(c.in[1], i * c.in[1].strides[0]);
    TensorSpan matrix = out;
    matrix.data += i * out.strides[0] * SizeOf(out.dtype).count();
    matrix.sizes = {out.sizes[1], out.sizes[2]};
    matrix.strides = {out.strides[1], out.strides[2]};
    Multiply(a.view(), b.view(), matrix, nullptr);
  });
  return RunOutcome::kDone;
}

}  // namespace

std::span<const KernelEntry> ProductKernels() {
  static constexpr std::array kEntries = {
      KernelEntry{OpKind::kMm, &Mm},
      KernelEntry{OpKind::kAddmm, &Addmm},
      KernelEntry{OpKind::kBmm, &Bmm},
  };
  return kEntries;
}

}  // namespace tidemark::host
