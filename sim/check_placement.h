// The oracle of every allocator and planner: obviously right and quadratic. It knows nothing of how a placement came
// about.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/base/interval.h"
#include "graph/base/result.h"
#include "graph/base/units.h"
#include "sim/replay.h"
#include "sim/tape.h"

namespace tidemark {

// An allocation at its place: [offset, offset + bytes) of its segment while `alive`, in events.
struct Placed {
  AllocationId allocation;
  int64_t segment = 0;
  Bytes offset;
  Bytes bytes;
  Interval alive;
  bool operator==(const Placed&) const = default;
};

struct PlacementRules {
  Bytes capacity = Bytes(int64_t{1} << 62);  // of each segment
  Bytes alignment = Bytes(1);                // of offsets
};

// Error: the first (by position in the list) allocation that lies below 0 or above the capacity, is not aligned, or
// shares a byte with an earlier one while both are alive. O(n^2).
Status CheckPlacement(std::span<const Placed> placed, const PlacementRules& rules);

// Collects what a replay places. Allocations that are never freed live to the end.
class PlacementRecorder final : public ReplayObserver {
 public:
  void OnEvent(const Observation& observation) override;
  // By allocation; failed requests and those of 0 bytes are left out.
  std::vector<Placed> Finish() &&;

 private:
  std::vector<Placed> placed_;
  std::vector<uint32_t> by_allocation_;
  uint64_t events_ = 0;
};

}  // namespace tidemark
