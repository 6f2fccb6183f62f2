// Kernels that reduce, and softmaxes: a block for each result or row.
#include <cmath>
#include <limits>

#include "kernels/cuda/map.h"

namespace tidemark::cuda {
namespace {

struct SumStep {
  __device__ double operator()(double sum, double v) const { return sum + v; }
};
struct SquareStep {
  __device__ double operator()(double sum, double v) const { return sum + v * v; }
};
struct AnyStep {
  __device__ double operator()(double found, double v) const { return found + (v != 0 ? 1 : 0); }
};
struct AnyFalseStep {
  __device__ double operator()(double found, double v) const { return found + (v == 0 ? 1 : 0); }
};
struct Identity {
  __device__ double operator()(double sum, int64_t) const { return sum; }
};
struct DivideByCount {
  __device__ double operator()(double sum, int64_t n) const { return sum / static_cast<double>(n); }
};
struct Root {
  __device__ double operator()(double sum, int64_t) const { return std::sqrt(sum); }
};
struct IsPositive {
  __device__ double operator()(double found, int64_t) const { return found > 0 ? 1 : 0; }
};
struct IsZero {
  __device__ double operator()(double found, int64_t) const { return found > 0 ? 0 : 1; }
};

// `in` has the kept dimensions first and the reduced ones, of `n` elements, behind.
template <typename Step, typename Finish>
__global__ void ReduceRows(View in, View out, int64_t n, Step step, Finish finish) {
  double mine = 0;
  for (int64_t i = ThreadInBlock(); i < n; i += ThreadsInBlock()) mine = step(mine, in.Load<double>(BlockX() * n + i));
  const double sum = BlockSum(mine, reinterpret_cast<double*>(SharedFloats()));
  if (ThreadInBlock() == 0) out.Store<double>(BlockX(), finish(sum, n));
}

// `in` has the reduced dimensions first: neighbouring threads read neighbouring numbers.
template <typename Step, typename Finish>
__global__ void ReduceColumns(View in, View out, int64_t n, Step step, Finish finish) {
  for (int64_t k = FirstElement(); k < out.size; k += ElementStride()) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum = step(sum, in.Load<double>(i * out.size + k));
    out.Store<double>(k, finish(sum, n));
  }
}

// A dimension is reduced whose size in the result is 1, or which is missing there in front.
struct Split {
  View view;
  int64_t reduced = 1;
};
Split Reordered(const TensorSpan& in, const Dims& out, bool reduced_first) {
  const int leading = in.sizes.size() - out.size();
  Split split;
  TensorSpan t = in;
  t.sizes = t.strides = {};
  for (const bool want_reduced : {reduced_first, !reduced_first}) {
    for (int i = 0; i < in.sizes.size(); ++i) {
      const bool reduced = i < leading || (out[i - leading] == 1 && in.sizes[i] != 1);
      if (reduced != want_reduced) continue;
      t.sizes.Append(in.sizes[i]);
      t.strides.Append(in.strides[i]);
      if (reduced) split.reduced *= in.sizes[i];
    }
  }
  split.view = ViewOf(t);
  return split;
}

template <typename Step, typename Finish>
Status Reduce(const KernelCall& c, const Context& x) {
  constexpr int64_t kManyResults = 1024;
  const TensorSpan& in = c.in[0];
  const View out = ViewOf(c.out[0]);
  const bool last_is_kept =
      out.size > 1 && c.out[0].sizes.size() > 0 && c.out[0].sizes.back() == in.sizes.back() && in.sizes.back() != 1;
  if (last_is_kept || out.size >= kManyResults) {
    const Split split = Reordered(in, c.out[0].sizes, true);
    Launch(x, Over(out.size), &ReduceColumns<Step, Finish>, split.view, out, split.reduced, Step{}, Finish{});
    return {};
  }
  const Split split = Reordered(in, c.out[0].sizes, false);
  Launch(x, {.grid = {out.size}, .threads = kRowThreads, .shared_floats = 2 * kRowThreads, .barriers = true},
         &ReduceRows<Step, Finish>, split.view, out, split.reduced, Step{}, Finish{});
  return {};
}

// --- Rows of the last dimension, a block each

Shape ForRows(int64_t rows) {
  return {.grid = {rows}, .threads = kRowThreads, .shared_floats = kRowThreads, .barriers = true};
}

__device__ inline float RowMax(const View& in, int64_t begin, int64_t width) {
  float highest = -INFINITY;
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock()) {
    const float v = in.Load<float>(begin + i);
    if (!(v <= highest)) highest = v;  // a NaN stays
  }
  return BlockMax(highest, SharedFloats());
}

// `safe`: 0 where a row is minus infinity throughout.
__global__ void SoftmaxKernel(View in, View out, int64_t width, bool safe) {
  const int64_t begin = BlockX() * width;
  const float highest = RowMax(in, begin, width);
  const bool masked = safe && highest == -INFINITY;
  float mine = 0;
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock())
    mine += std::exp(in.Load<float>(begin + i) - highest);
  const float factor = 1 / BlockSum(mine, SharedFloats());
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock()) {
    out.Store<float>(begin + i, masked ? 0 : std::exp(in.Load<float>(begin + i) - highest) * factor);
  }
}

__global__ void LogSoftmaxKernel(View in, View out, int64_t width) {
  const int64_t begin = BlockX() * width;
  const float highest = RowMax(in, begin, width);
  float mine = 0;
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock())
    mine += std::exp(in.Load<float>(begin + i) - highest);
  const float shift = highest + std::log(BlockSum(mine, SharedFloats()));
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock()) {
    out.Store<float>(begin + i, in.Load<float>(begin + i) - shift);
  }
}

__global__ void SoftmaxBackwardKernel(View gradient, View result, View out, int64_t width) {
  const int64_t begin = BlockX() * width;
  float mine = 0;
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock()) {
    mine += gradient.Load<float>(begin + i) * result.Load<float>(begin + i);
  }
  const float sum = BlockSum(mine, SharedFloats());
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock()) {
    out.Store<float>(begin + i, result.Load<float>(begin + i) * (gradient.Load<float>(begin + i) - sum));
  }
}

__global__ void LogSoftmaxBackwardKernel(View gradient, View result, View out, int64_t width) {
  const int64_t begin = BlockX() * width;
  float mine = 0;
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock()) mine += gradient.Load<float>(begin + i);
  const float sum = BlockSum(mine, SharedFloats());
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock()) {
    out.Store<float>(begin + i, gradient.Load<float>(begin + i) - std::exp(result.Load<float>(begin + i)) * sum);
  }
}

__global__ void CumsumKernel(View in, View out, int64_t width) {
  for (int64_t row = FirstElement(); row < in.size / width; row += ElementStride()) {
    double sum = 0;
    for (int64_t i = row * width; i < (row + 1) * width; ++i) out.Store<double>(i, sum += in.Load<double>(i));
  }
}

Status Softmax(const KernelCall& c, const Context& x) {
  const View in = ViewOf(c.in[0]);
  const int64_t width = c.in[0].sizes.back();
  Launch(x, ForRows(in.size / width), &SoftmaxKernel, in, ViewOf(c.out[0]), width, c.kind == OpKind::kSafeSoftmax);
  return {};
}
Status LogSoftmax(const KernelCall& c, const Context& x) {
  const View in = ViewOf(c.in[0]);
  const int64_t width = c.in[0].sizes.back();
  Launch(x, ForRows(in.size / width), &LogSoftmaxKernel, in, ViewOf(c.out[0]), width);
  return {};
}
template <void (*kKernel)(View, View, View, int64_t)>
Status RowsBackward(const KernelCall& c, const Context& x) {
  const View in = ViewOf(c.in[0]);
  const int64_t width = c.in[0].sizes.back();
  Launch(x, ForRows(in.size / width), kKernel, in, ViewOf(c.in[1]), ViewOf(c.out[0]), width);
  return {};
}
Status Cumsum(const KernelCall& c, const Context& x) {
  const View in = ViewOf(c.in[0]);
  const int64_t width = c.in[0].sizes.back();
  Launch(x, Over(in.size / width), &CumsumKernel, in, ViewOf(c.out[0]), width);
  return {};
}

constexpr KernelEntry kEntries[] = {
    {OpKind::kSum, &Reduce<SumStep, Identity>},
    {OpKind::kMean, &Reduce<SumStep, DivideByCount>},
    {OpKind::kNorm, &Reduce<SquareStep, Root>},
    {OpKind::kAny, &Reduce<AnyStep, IsPositive>},
    {OpKind::kAll, &Reduce<AnyFalseStep, IsZero>},
    {OpKind::kSoftmax, &Softmax},
    {OpKind::kSafeSoftmax, &Softmax},
    {OpKind::kSoftmaxBackward, &RowsBackward<&SoftmaxBackwardKernel>},
    {OpKind::kLogSoftmax, &LogSoftmax},
    {OpKind::kLogSoftmaxBackward, &RowsBackward<&LogSoftmaxBackwardKernel>},
    {OpKind::kCumsum, &Cumsum},
};

}  // namespace

std::span<const KernelEntry> ReductionKernels() { return kEntries; }

}  // namespace tidemark::cuda
