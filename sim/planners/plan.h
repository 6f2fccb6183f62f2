// Static memory planning: every buffer's lifetime and size are known; give each an offset so that no two that are alive
// at the same time overlap, and the highest end is low.
//
//   offset
//        |   c c c c            A plan: a, b and c at 0, 0 and 2; its height is 3.
//        | a a   b b b
//        +-0-1-2-3-4-5--> step
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "graph/base/interval.h"

namespace tidemark {

// Sizes and offsets are in units of the caller (bytes, or multiples of an alignment).
struct PlanBuffer {
  Interval alive;  // not empty
  int64_t size = 0;
  bool operator==(const PlanBuffer&) const = default;
};

struct StaticPlan {
  std::vector<int64_t> offsets;  // by buffer
  int64_t height = 0;
  bool operator==(const StaticPlan&) const = default;
};

// The highest sum of sizes that are alive at once: no plan is lower. O(n log n).
int64_t LiveLowerBound(std::span<const PlanBuffer> buffers);

// The same buffers with lifetimes counted in the steps that matter: those whose set of live buffers is in no
// neighbour's. Two buffers overlap in the result exactly if they did before. O(n log n).
std::vector<PlanBuffer> CompressLifetimes(std::span<const PlanBuffer> buffers);

// Puts one buffer after the other, in the order given, to the lowest place that is free for its whole life. Offsets in
// `plan` of buffers that aren't in `order` are taken as given. O(n * placed buffers below the found place).
void FirstFit(std::span<const PlanBuffer> buffers, std::span<const uint32_t> order, std::span<const uint32_t> given,
              StaticPlan& plan);

enum class PlanOrder : uint8_t {
  kSize,      // largest first
  kLifetime,  // longest first
  kArea,      // largest size x lifetime first
};

// First fit in a fixed order; ties by the other measure, then by position.
StaticPlan PlanInOrder(std::span<const PlanBuffer> buffers, PlanOrder order);

struct PlanLimits {
  int64_t capacity = 0;      // a plan of at most this height is good enough; 0: as low as possible
  uint64_t nodes = 4000000;  // of the search; about as many are visited in 4 s
};

// The strong planner: the search of valley_search.h for all buffers or for the large ones, with the rest by first fit,
// in rising capacities from the lower bound on; and PlanInOrder, whatever is best. Deterministic.
StaticPlan PlanStrongly(std::span<const PlanBuffer> buffers, const PlanLimits& limits);

// In order of time, best fit among what is free then: a plan as an allocator without foresight makes one. O(n log n).
StaticPlan PlanInTime(std::span<const PlanBuffer> buffers);

// How a plan came about, for people: "first fit, largest first".
enum class PlanMethod : uint8_t { kLargestFirst, kSearchLargest, kSearch, kLargestArea, kInTime };
std::string_view Name(PlanMethod method);

struct QuickPlan {
  StaticPlan plan;
  PlanMethod method = PlanMethod::kLargestFirst;
};

// For reports: the first of a few cheap methods that comes within a thousandth of the lower bound, or the best of them.
// Milliseconds for thousands of buffers, 0.1 s for twenty thousand; of more than thirty thousand only the largest are
// planned with care. Deterministic.
QuickPlan PlanQuickly(std::span<const PlanBuffer> buffers);

}  // namespace tidemark
