// Kernels that create and move numbers.
#include <cmath>

#include "kernels/cuda/map.h"

namespace tidemark::cuda {
namespace {

struct Rising {
  double start;
  __device__ double operator()(int64_t i) const { return start + static_cast<double>(i); }
};

int64_t Bytes1(const TensorSpan& t) { return SizeOf(t.dtype).count(); }

// `size` elements of dimension `dim` from `begin` on, every `step`th.
TensorSpan Part(TensorSpan t, int dim, int64_t begin, int64_t size, int64_t step = 1) {
  t.data += begin * t.strides[dim] * Bytes1(t);
  t.sizes[dim] = size;
  t.strides[dim] *= step;
  return t;
}

// To the host's pinned memory and back: kernels reach it by its address.
Status Transfer(const KernelCall& c, const Context& x) { return Copy(c.in[0], c.out[0], x); }

Status Arange(const KernelCall& c, const Context& x) { return Generate(c.out[0], Rising{c.attributes.number}, x); }
Status Full(const KernelCall& c, const Context& x) { return Generate(c.out[0], Constant{c.attributes.number}, x); }
Status OnesLike(const KernelCall& c, const Context& x) { return Generate(c.out[0], Constant{1}, x); }

Status Cat(const KernelCall& c, const Context& x) {
  const int dim = static_cast<int>(c.attributes.integer[0]);
  int64_t begin = 0;
  for (const TensorSpan& part : c.in) {
    RETURN_IF_ERROR(Copy(part, Part(c.out[0], dim, begin, part.sizes[dim]), x));
    begin += part.sizes[dim];
  }
  return {};
}

Status Stack(const KernelCall& c, const Context& x) {
  int64_t at = 0;
  for (const TensorSpan& part : c.in) {
    TensorSpan to = c.out[0];
    to.data += at++ * to.strides[0] * Bytes1(to);
    to.sizes = {};
    to.strides = {};
    RETURN_IF_ERROR(Copy(part, to, x));
  }
  return {};
}

Status ConstantPad(const KernelCall& c, const Context& x) {
  RETURN_IF_ERROR(Generate(c.out[0], Constant{c.attributes.number}, x));
  TensorSpan corner = c.out[0];
  corner.sizes = c.in[0].sizes;
  return Copy(c.in[0], corner, x);
}

Status SliceBackward(const KernelCall& c, const Context& x) {
  RETURN_IF_ERROR(Generate(c.out[0], Constant{0}, x));
  const int dim = static_cast<int>(c.attributes.integer[0]);
  return Copy(c.in[0], Part(c.out[0], dim, c.attributes.integer[1], c.in[0].sizes[dim], c.attributes.integer[2]), x);
}

__global__ void TrilKernel(View in, View out, int64_t rows, int64_t columns) {
  for (int64_t i = FirstElement(); i < in.size; i += ElementStride()) {
    const bool kept = i % columns <= i / columns % rows;
    out.Store<double>(i, kept ? in.Load<double>(i) : 0);
  }
}
Status Tril(const KernelCall& c, const Context& x) {
  const Dims& sizes = c.out[0].sizes;
  const View in = ViewOf(c.in[0]);
  Launch(x, Over(in.size), &TrilKernel, in, ViewOf(c.out[0]), sizes[sizes.size() - 2], sizes.back());
  return {};
}

// Each slice of the dimension several times: a dimension more, along which the source doesn't move.
Status Repeat(const KernelCall& c, const Context& x) {
  const int dim = static_cast<int>(c.attributes.integer[0]);
  const int64_t times = c.attributes.integer[1];
  TensorSpan from = c.in[0];
  TensorSpan to = c.out[0];
  from.sizes = from.strides = to.sizes = to.strides = {};
  for (int i = 0; i < c.in[0].sizes.size(); ++i) {
    from.sizes.Append(c.in[0].sizes[i]);
    from.strides.Append(c.in[0].strides[i]);
    to.sizes.Append(c.in[0].sizes[i]);
    to.strides.Append(c.out[0].strides[i] * (i == dim ? times : 1));
    if (i != dim) continue;
    from.sizes.Append(times);
    from.strides.Append(0);
    to.sizes.Append(times);
    to.strides.Append(c.out[0].strides[i]);
  }
  return Copy(from, to, x);
}

// A matrix whose rows and columns are looked up.
struct Table {
  void* data;
  DType dtype;
  int64_t rows, columns, row_stride, column_stride;
};
Table TableOf(const TensorSpan& t) { return {t.data, t.dtype, t.sizes[0], t.sizes[1], t.strides[0], t.strides[1]}; }

__global__ void GatherKernel(Table from, View index, View out, int64_t width, int* bad) {
  for (int64_t i = FirstElement(); i < out.size; i += ElementStride()) {
    const int64_t at = index.Load<int64_t>(i);
    if (at < 0 || at >= from.columns) {
      *bad = 1;
      continue;
    }
    const int64_t offset = i / width * from.row_stride + at * from.column_stride;
    out.Store<double>(i, LoadAs<double>(from.data, from.dtype, offset));
  }
}
Status Gather(const KernelCall& c, const Context& x) {
  if (c.in[0].sizes.size() != 2) return InvalidInput("expects a matrix");
  const View out = ViewOf(c.out[0]);
  Launch(x, Over(out.size), &GatherKernel, TableOf(c.in[0]), ViewOf(c.in[1]), out, c.in[1].sizes[1], x.bad_index);
  return {};
}

__global__ void EmbeddingKernel(Table table, View index, View out, int* bad) {
  for (int64_t i = FirstElement(); i < out.size; i += ElementStride()) {
    const int64_t row = index.Load<int64_t>(i / table.columns);
    if (row < 0 || row >= table.rows) {
      *bad = 1;
      continue;
    }
    const int64_t offset = row * table.row_stride + i % table.columns * table.column_stride;
    out.Store<float>(i, LoadAs<float>(table.data, table.dtype, offset));
  }
}
Status Embedding(const KernelCall& c, const Context& x) {
  const View out = ViewOf(c.out[0]);
  Launch(x, Over(out.size), &EmbeddingKernel, TableOf(c.in[0]), ViewOf(c.in[1]), out, x.bad_index);
  return {};
}

// A block for each index. The first of equal ones sums the rows of all of them, in order.
__global__ void EmbeddingBackwardKernel(View gradient, View index, Table out, int* bad) {
  const int64_t i = BlockX();
  const int64_t row = index.Load<int64_t>(i);
  if (row < 0 || row >= out.rows) {
    *bad = 1;
    return;
  }
  for (int64_t k = 0; k < i; ++k) {
    if (index.Load<int64_t>(k) == row) return;
  }
  for (int64_t column = ThreadInBlock(); column < out.columns; column += ThreadsInBlock()) {
    float sum = 0;
    for (int64_t k = i; k < index.size; ++k) {
      if (index.Load<int64_t>(k) == row) sum += gradient.Load<float>(k * out.columns + column);
    }
    StoreAs<float>(out.data, out.dtype, row * out.row_stride + column * out.column_stride, sum);
  }
}
Status EmbeddingBackward(const KernelCall& c, const Context& x) {
  RETURN_IF_ERROR(Generate(c.out[0], Constant{0}, x));
  const View index = ViewOf(c.in[1]);
  Launch(x, {.grid = {index.size}, .threads = kRowThreads}, &EmbeddingBackwardKernel, ViewOf(c.in[0]), index,
         TableOf(c.out[0]), x.bad_index);
  return {};
}

// One block, so that there is one sum.
__global__ void CountNaNsKernel(View t, int64_t* count) {
  int64_t mine = 0;
  for (int64_t i = ThreadInBlock(); i < t.size; i += ThreadsInBlock()) {
    const double value = t.Load<double>(i);
    mine += value != value ? 1 : 0;
  }
  const float sum = BlockSum(static_cast<float>(mine), SharedFloats());
  if (ThreadInBlock() == 0) *count += static_cast<int64_t>(sum);
}

constexpr KernelEntry kEntries[] = {
    {OpKind::kOffload, &Transfer},
    {OpKind::kFetch, &Transfer},
    {OpKind::kArange, &Arange},
    {OpKind::kFull, &Full},
    {OpKind::kOnesLike, &OnesLike},
    {OpKind::kCat, &Cat},
    {OpKind::kStack, &Stack},
    {OpKind::kConstantPad, &ConstantPad},
    {OpKind::kSliceBackward, &SliceBackward},
    {OpKind::kTril, &Tril},
    {OpKind::kRepeat, &Repeat},
    {OpKind::kGather, &Gather, true},
    {OpKind::kEmbedding, &Embedding, true},
    {OpKind::kEmbeddingBackward, &EmbeddingBackward, true},
};

}  // namespace

std::span<const KernelEntry> MoveKernels() { return kEntries; }

Status FillRows(const TensorSpan& vector, const TensorSpan& out, const Context& context) {
  return Copy(vector, out, context);
}

void CountNaNs(const TensorSpan& t, int64_t* count, const Context& context) {
  constexpr unsigned kThreads = 1024;
  Launch(context, {.threads = kThreads, .shared_floats = kThreads, .barriers = true}, &CountNaNsKernel, ViewOf(t),
         count);
}

}  // namespace tidemark::cuda
