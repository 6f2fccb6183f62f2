// Memory rules of reductions.
#include <algorithm>
#include <array>
#include <span>

#include "graph/op.h"

namespace tidemark {
namespace {

struct Run {  // a dimension of the iteration: neighbouring ones that are one run in memory are merged
  int64_t size;
  int64_t stride;
};

class Runs {
 public:
  void Add(Run run) { runs_[count_++] = run; }
  // Sorts by stride and merges what lies in one run.
  void Coalesce() {
    std::ranges::stable_sort(std::span(runs_.data(), count_), {}, &Run::stride);
    size_t kept = 0;
    for (size_t i = 1; i < count_; ++i) {
      if (runs_[i].stride == runs_[kept].stride * runs_[kept].size) {
        runs_[kept].size *= runs_[i].size;
      } else {
        runs_[++kept] = runs_[i];
      }
    }
    if (count_ > 0) count_ = kept + 1;
  }
  size_t count() const { return count_; }
  const Run& operator[](size_t i) const { return runs_[i]; }
  int64_t Product() const {
    int64_t n = 1;
    for (size_t i = 0; i < count_; ++i) n *= runs_[i].size;
    return n;
  }

 private:
  std::array<Run, Dims::kMaxDims> runs_{};
  size_t count_ = 0;
};

int64_t LastPowerOfTwo(int64_t n) {
  int64_t p = 1;
  while (p * 2 <= n) p *= 2;
  return p;
}

// How many neighbouring outputs a thread reduces at once: at most 4, and a divisor of the first kept dimension and of
// every other stride.
int64_t OutputVector(const Runs& reduced, const Runs& kept) {
  int64_t v = 4;
  const auto divide = [&v](int64_t n) {
    while (n % v != 0) v /= 2;
  };
  divide(kept[0].size);
  for (size_t i = 0; i < reduced.count(); ++i) divide(reduced[i].stride);
  for (size_t i = 1; i < kept.count(); ++i) divide(kept[i].stride);
  return v;
}

}  // namespace

ReductionScratch ScratchOfReduction(const TensorInfo& from, const Dims& to, const DeviceSpec& device) {
  Runs reduced;
  Runs kept;
  const int leading = from.sizes.size() - to.size();
  for (int i = 0; i < from.sizes.size(); ++i) {
    if (from.sizes[i] == 1) continue;
    const bool is_reduced = i < leading || to[i - leading] == 1;
    (is_reduced ? reduced : kept).Add({from.sizes[i], from.strides[i]});
  }
  reduced.Coalesce();
  kept.Coalesce();
  const int64_t inputs = reduced.Product();
  const int64_t outputs = kept.Product();
  if (reduced.count() == 0) return {};

  const bool fast = kept.count() == 0 || reduced[0].stride < kept[0].stride;
  int64_t d0 = fast ? inputs : outputs;
  const int64_t d1 = fast ? outputs : inputs;
  const int64_t nearest_stride = fast ? reduced[0].stride : kept[0].stride;
  int64_t vector = 1;
  if (nearest_stride == 1) {
    if (fast && d0 > 128 && reduced.count() + kept.count() == 1) {
      d0 /= 4;
    } else if (!fast) {
      vector = OutputVector(reduced, kept);
      d0 /= vector;
    }
  }
  const int64_t max_threads = 512 / vector;
  const int64_t p0 = LastPowerOfTwo(std::min(d0, max_threads));
  const int64_t p1 = LastPowerOfTwo(std::min(d1, max_threads));
  int64_t width = std::min<int64_t>(p0, 32);
  const int64_t height = std::min(p1, max_threads / width);
  width = std::min(p0, max_threads / height);

  int64_t step_in = fast ? width : 1;
  int64_t step_out = fast ? 1 : width;
  int64_t per_thread = DivUp(inputs, step_in);
  const bool across_warps = per_thread >= 16 * height || per_thread >= 256;
  (across_warps ? step_in : step_out) *= height;
  per_thread = DivUp(inputs, step_in);
  const int64_t grid = DivUp(outputs / vector, step_out);
  const int64_t target = device.multiprocessors * (device.threads_per_multiprocessor / (width * height));
  if (!across_warps || per_thread < 256 || grid > target) return {};
  const int64_t parts = std::max(std::min(DivUp(target, grid), DivUp(per_thread, 16)), DivUp(per_thread, 256));
  if (parts <= 1) return {};
  const DType accumulator = IsHalf(from.dtype) ? DType::kFloat32 : from.dtype;
  int64_t staging = SizeOf(accumulator).count() * outputs * parts;
  if (!fast) staging *= width * vector;
  return {Bytes(staging), Bytes(4 * grid)};
}

namespace memory_rules {

namespace {
// A result and, where the kernel splits the reduction, its staging buffers.
void SplitReduction(const TensorInfo& from, const Dims& to, const DeviceSpec& device, MemoryPlan& plan) {
  const ReductionScratch scratch = ScratchOfReduction(from, to, device);
  if (scratch.staging == Bytes()) return;
  const int staging = plan.Temporary(scratch.staging, "staging of a reduction");
  const int semaphores = plan.Temporary(scratch.semaphores, "semaphores of a reduction");
  plan.Free(semaphores);
  plan.Free(staging);
}
}  // namespace

void Reduction(const OpView& op, const DeviceSpec& device, MemoryPlan& plan) {
  plan.Result(0);
  SplitReduction(op.in(0), op.out(0).sizes, device, plan);
}

// A cast of an operand of another dtype; one row takes CUB's scan, whose temporary storage is 511 bytes and, for each
// tile and 32 more, a partial sum with its state: in one word of 8 bytes where the sum is one of 4, else in 16. The
// same for sm_75 to sm_120.
void Cumsum(const OpView& op, const DeviceSpec&, MemoryPlan& plan) {
  plan.Result(0);
  const int64_t n = NumElements(op.in(0).sizes);
  const bool is_cast = op.in(0).dtype != op.out(0).dtype;
  const int cast = is_cast ? plan.Temporary(SizeOf(op.out(0).dtype) * n, "operand of a scan") : -1;
  if (n == op.in(0).sizes.back()) {
    const bool is_narrow = SizeOf(op.out(0).dtype) == Bytes(4);
    const int64_t tiles = 32 + DivUp(n, is_narrow ? 1920 : 896);
    const int scan = plan.Temporary(Bytes(511) + RoundUp(Bytes((is_narrow ? 8 : 16) * tiles), Bytes(256)), "cub");
    plan.Free(scan);
  }
  if (is_cast) plan.Free(cast);
}

void SafeSoftmax(const OpView& op, const DeviceSpec&, MemoryPlan& plan) {
  const int64_t n = NumElements(op.in(0).sizes);
  plan.Result(0);
  const int masked = plan.Temporary(Bytes(n), "whether a score is minus infinity");
  const int rows = plan.Temporary(Bytes(n / op.in(0).sizes.back()), "whether a whole row is masked");
  const int zero = plan.Temporary(SizeOf(op.out(0).dtype), "zero");
  plan.Free(zero);
  plan.Free(rows);
  plan.Free(masked);
}

void SoftmaxBackward(const OpView& op, const DeviceSpec&, MemoryPlan& plan) {
  plan.Result(0);
  const int product = plan.Temporary(SizeOf(op.in(0).dtype) * NumElements(op.in(0).sizes), "gradient times result");
  plan.Free(product);
}

namespace {
// The kernels of layer norm read contiguous tensors. Returns the temporary, or -1 where there is none.
int ContiguousCopy(const TensorInfo& t, MemoryPlan& plan) {
  if (IsContiguous(t.sizes, t.strides)) return -1;
  return plan.Temporary(SizeOf(t.dtype) * NumElements(t.sizes), "operand, contiguous");
}

// Results 1 and 2. For very many rows of few columns the kernel sums parts of the rows first, and a sum over those
// takes the place of what was allocated as the result. Source: PyTorch 2.14,
// aten/src/ATen/native/cuda/layer_norm_kernel.cu.
void WeightGradients(const OpView& op, const DeviceSpec& device, MemoryPlan& plan) {
  const int64_t columns = op.in(1).sizes.back();
  const int64_t rows = NumElements(op.in(1).sizes) / columns;
  if (rows <= 65536 || columns / 32 >= device.multiprocessors / 2) {
    for (int i = 1; i < op.results(); ++i) plan.Result(i);
    return;
  }
  std::vector<int> unused;
  for (int i = 1; i < op.results(); ++i) {
    unused.push_back(plan.Temporary(SizeOf(op.out(i).dtype) * columns, "result that a sum of parts replaces"));
  }
  const int64_t parts = std::min(DivUp(rows, 32), 32768 / DivUp(columns, 32));
  const DType dtype = op.out(1).dtype;
  const Bytes bytes = SizeOf(dtype) * (parts * columns);
  const TensorInfo partial = {StorageId(), dtype, 0, {parts, columns}, {columns, 1}};
  const int weight = plan.Temporary(bytes, "partial gradient of the weight");
  const int bias = plan.Temporary(bytes, "partial gradient of the bias");
  for (int i = 1; i < op.results(); ++i) {
    plan.Result(i);
    SplitReduction(partial, {1, columns}, device, plan);
    plan.Free(unused[static_cast<size_t>(i - 1)]);
  }
  plan.Free(bias);
  plan.Free(weight);
}
}  // namespace

void LayerNorm(const OpView& op, const DeviceSpec&, MemoryPlan& plan) {
  const int copy = ContiguousCopy(op.in(0), plan);
  for (int i = 0; i < op.results(); ++i) plan.Result(i);
  if (copy >= 0) plan.Free(copy);
}

void LayerNormBackward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan) {
  const int copy = ContiguousCopy(op.in(1), plan);
  plan.Result(0);
  WeightGradients(op, device, plan);
  if (copy >= 0) plan.Free(copy);
}

// Partial norms of every 65,536 elements, as many for each tensor as the largest needs.
// Source: PyTorch 2.14, aten/src/ATen/native/cuda/ForeachReduceOp.cu.
void ForeachNorm(const OpView& op, const DeviceSpec&, MemoryPlan& plan) {
  int64_t chunks = 0;
  for (int i = 0; i < op.inputs(); ++i) {
    chunks = std::max(chunks, (NumElements(op.in(i).sizes) + 65535) / 65536);
  }
  const int partial = plan.Temporary(Bytes(4 * chunks * op.inputs()), "partial norms");
  for (int i = 0; i < op.results(); ++i) plan.Result(i);
  plan.Free(partial);
}

}  // namespace memory_rules
}  // namespace tidemark
