#include "passes/compile/split_reduction.h"

#include <algorithm>
#include <cstdlib>

namespace tidemark::compile {
namespace {

constexpr int64_t kWarp = 32;
constexpr int64_t kThreads = 8 * kWarp;  // of a block
constexpr int64_t kMinPerThread = 32;    // elements
constexpr int64_t kMaxPerThread = 512;
constexpr int64_t kOuterResultsPerBlock = 128;
constexpr int64_t kOuterValuesPerThread = 4;

// The divisor of n that is nearest to `to`; of two equally near the smaller.
int64_t NearestDivisor(int64_t n, int64_t to) {
  int64_t best = 1;
  const auto consider = [&](int64_t d) {
    const int64_t distance = std::abs(d - to);
    const int64_t so_far = std::abs(best - to);
    if (distance < so_far || (distance == so_far && d < best)) best = d;
  };
  for (int64_t d = 1; d * d <= n; ++d) {
    if (n % d != 0) continue;
    consider(d);
    consider(n / d);
  }
  return best;
}

// Elements a thread takes.
int64_t PerThread(int64_t length, int64_t wanted, int64_t tolerance, bool at_least_minimum) {
  const int64_t nearest = NearestDivisor(length, wanted);
  if (std::abs(nearest - wanted) >= tolerance) return wanted;
  return at_least_minimum ? std::max(nearest, kMinPerThread) : nearest;
}

int64_t InnerSplits(int64_t results, int64_t length, const DeviceSpec& device) {
  const int64_t sms = device.multiprocessors;
  const int64_t threads = sms * device.threads_per_multiprocessor;
  int64_t unsplit = 8192;
  if (device.compute_capability >= 100) unsplit = results < sms ? 32768 : 40960;
  if (results >= 2 * sms || length <= unsplit) return 1;
  int64_t size = 0;
  if (length * results <= kMinPerThread * threads) {
    size = kMinPerThread;
  } else if (length * results < kMaxPerThread * threads) {
    const int64_t blocks = DivUp(threads / (2 * kThreads), results);
    size = PerThread(length, DivUp(length, kThreads * blocks), 30, true);
  } else {
    size = PerThread(length, kMaxPerThread, 50, false);
  }
  return DivUp(length, size * kThreads);
}

int64_t OuterSplits(int64_t results, int64_t length, const DeviceSpec& device) {
  const int64_t threads = int64_t{device.multiprocessors} * device.threads_per_multiprocessor;
  int64_t size = 0;
  if (length * results < kMinPerThread * threads) {
    size = kMinPerThread;
  } else if (length * results < kMaxPerThread * threads) {
    const int64_t blocks = DivUp(threads / kThreads, DivUp(results, kOuterResultsPerBlock));
    size = PerThread(length, DivUp(length, kOuterValuesPerThread * blocks), 20, true);
  } else {
    size = PerThread(length, kMaxPerThread, 50, false);
  }
  return DivUp(length, kOuterValuesPerThread * size);
}

}  // namespace

std::optional<ReductionPlan> EasyReductionPlan(int64_t results, int64_t length, const DeviceSpec& device) {
  if (results == 1) return ReductionPlan{InnerSplits(results, length, device), ReductionHint::kInner};
  if (length <= kMinPerThread || results >= int64_t{device.multiprocessors} * 2 * 32) return ReductionPlan{};
  return {};
}

ReductionPlan SplitReduction(int64_t results, int64_t length, bool inner, const DeviceSpec& device) {
  if (inner) return {InnerSplits(results, length, device), ReductionHint::kInner};
  return {OuterSplits(results, length, device), ReductionHint::kOuter};
}

}  // namespace tidemark::compile
