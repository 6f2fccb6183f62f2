// Memory rule of the embedding's gradient: from 3,073 indices on it sorts them, sums runs of equal ones in pieces, then
// the pieces. CUB's temporary storage follows its tuning for the architecture.
// Source: PyTorch 2.14, aten/src/ATen/native/cuda/{Embedding,EmbeddingBackwardKernel}.cu; CUB of CUDA 13.0; sizes
// measured for sm_75, 80, 86, 89, 90, 100 and 120.
#include <algorithm>
#include <bit>

#include "graph/op.h"

namespace tidemark::memory_rules {
namespace {

constexpr Bytes kCubOverhead{511};
constexpr Bytes Aligned(int64_t bytes) { return RoundUp(Bytes(bytes), Bytes(256)); }

// How many items one tile of CUB's kernels takes.
int64_t SortTile(int capability) { return capability < 80 ? 2816 : capability < 90 ? 3840 : 4608; }
int64_t UniqueTile(int capability) { return capability >= 90 ? 4928 : capability == 80 ? 1344 : 320; }

Bytes RadixSort(int64_t n, int64_t vocabulary, int64_t tile) {
  const int64_t passes = DivUp(static_cast<int64_t>(std::bit_width(static_cast<uint64_t>(vocabulary))), 8);
  Bytes bytes = kCubOverhead + Bytes(2048 * passes + 1024 * DivUp(n, tile));
  if (passes > 1) bytes += Aligned(8 * n) * 2;
  return bytes;
}

Bytes Scan(int64_t n, int64_t tile) { return kCubOverhead + Aligned(16 * (32 + DivUp(n, tile))); }

}  // namespace

void EmbeddingBackward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan) {
  const TensorInfo& gradient = op.in(0);
  const TensorInfo& indices = op.in(1);
  const int64_t n = NumElements(indices.sizes);
  const int64_t vocabulary = op.out(0).sizes[0];
  const int64_t columns = op.out(0).sizes[1];
  const Bytes i64 = Bytes(8);
  int indices_copy = -1;
  int gradient_copy = -1;
  if (!IsContiguous(indices.sizes, indices.strides)) indices_copy = plan.Temporary(i64 * n, "indices, contiguous");
  if (!IsContiguous(gradient.sizes, gradient.strides)) {
    gradient_copy = plan.Temporary(SizeOf(gradient.dtype) * NumElements(gradient.sizes), "gradient, contiguous");
  }
  const auto drop_copies = [&] {
    if (gradient_copy >= 0) plan.Free(gradient_copy);
    if (indices_copy >= 0) plan.Free(indices_copy);
  };
  if (n <= 3072) {
    plan.Result(0);
    drop_copies();
    return;
  }
  const int64_t runs = std::min(n, vocabulary);
  const int64_t pieces = runs + n / 10;
  const int sorted = plan.Temporary(i64 * n, "sorted indices");
  const int origin = plan.Temporary(i64 * n, "where each sorted index came from");
  const int range = plan.Temporary(i64 * n, "0, 1, 2, …");
  const int radix = plan.Temporary(RadixSort(n, vocabulary, SortTile(device.compute_capability)), "cub");
  plan.Free(radix);
  plan.Free(range);
  plan.Result(0);
  const int segments = plan.Temporary(i64 * n, "where runs begin");
  const int run_count = plan.Temporary(i64, "count of runs");
  const int dummy = plan.Temporary(i64 * n, "unused result of unique");
  const int unique = plan.Temporary(Scan(n, UniqueTile(device.compute_capability)), "cub");
  plan.Free(unique);
  plan.Free(dummy);
  const int per_run = plan.Temporary(i64 * runs, "pieces of each run");
  const int offsets = plan.Temporary(i64 * runs, "first piece of each run");
  const int scan = plan.Temporary(Scan(runs, 896), "cub");
  plan.Free(scan);
  const int piece_count = plan.Temporary(i64, "count of pieces");
  const int piece_begins = plan.Temporary(i64 * pieces, "where pieces begin");
  std::vector<int> last;
  if (n > 30 * vocabulary && vocabulary < int64_t{4} * device.multiprocessors) {
    last.push_back(plan.Temporary(i64 * pieces, "run of each piece"));
    if (IsHalf(gradient.dtype)) last.push_back(plan.Temporary(Bytes(4 * vocabulary * columns), "sums in fp32"));
  } else {
    last.push_back(plan.Temporary(Bytes(4 * pieces * columns), "sums of pieces"));
  }
  for (size_t i = last.size(); i-- > 0;) plan.Free(last[i]);
  for (const int temporary : {piece_begins, piece_count, offsets, per_run, run_count, segments, origin, sorted}) {
    plan.Free(temporary);
  }
  drop_copies();
}

}  // namespace tidemark::memory_rules
