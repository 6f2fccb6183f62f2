// A tape as a planning problem: when each allocation is alive, and how large it is.
#pragma once

#include <vector>

#include "graph/base/result.h"
#include "graph/base/units.h"
#include "sim/allocator.h"
#include "sim/initial_state.h"
#include "sim/planners/plan.h"
#include "sim/tape.h"

namespace tidemark {

// Plans place buffers at multiples of this, as allocators do: what kernels expect of an address.
constexpr Bytes kPlanStep{512};

// Allocations that have a size. Steps: 0 is before the first event, event k is k + 1. Sizes: in steps of kPlanStep.
struct TapeBuffers {
  std::vector<PlanBuffer> buffers;
  std::vector<AllocationId> allocations;  // by buffer
};

// An allocation lives until it is freed; with lazy events, one that another stream uses lives until the next
// synchronisation. `initial` (may be null): blocks that are there before the first event. Error: a size that no plan
// can hold. O(events).
Result<TapeBuffers> BuffersOf(const Tape& tape, EventTiming events, const InitialState* initial);

}  // namespace tidemark
