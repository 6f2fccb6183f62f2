#include "sim/planners/tape_buffers.h"

#include <fmt/format.h>

#include <utility>

namespace tidemark {
namespace {

constexpr Bytes kMost{int64_t{1} << 60};

struct Life {
  Interval alive{-1, -1};
  Bytes bytes;
  bool shared = false;  // another stream uses it
};

}  // namespace

Result<TapeBuffers> BuffersOf(const Tape& tape, EventTiming events, const InitialState* initial) {
  const int64_t end = static_cast<int64_t>(tape.events.size()) + 1;
  std::vector<Life> lives(tape.allocations.size());
  if (initial != nullptr) {
    for (const InitialSegment& segment : initial->segments) {
      for (const InitialBlock& block : segment.blocks) {
        if (block.allocation.valid()) lives[block.allocation.index()] = {{0, end}, block.requested};
      }
    }
  }
  std::vector<AllocationId> waiting;
  for (int64_t step = 1; step < end; ++step) {
    const Event& event = tape.events[static_cast<size_t>(step - 1)];
    if (event.kind == EventKind::kSynchronize || event.kind == EventKind::kEmptyCache) {
      for (const AllocationId allocation : std::exchange(waiting, {})) lives[allocation.index()].alive.end = step;
    }
    if (!event.allocation.valid()) continue;
    Life& life = lives[event.allocation.index()];
    if (event.kind == EventKind::kAlloc) {
      if (event.bytes >= kMost) {
        return InvalidInput(fmt::format("allocation {} of {} bytes can't be planned",
                                        tape.allocations[event.allocation].id, event.bytes.count()));
      }
      life = {{step, end}, event.bytes};
    } else if (event.kind == EventKind::kRecordStream) {
      life.shared = events == EventTiming::kLazy;
    } else if (life.shared) {
      waiting.push_back(event.allocation);
    } else {
      life.alive.end = step;
    }
  }
  TapeBuffers out;
  for (size_t k = 0; k < lives.size(); ++k) {
    if (lives[k].alive.begin < 0 || lives[k].bytes == Bytes(0)) continue;
    out.buffers.push_back({lives[k].alive, RoundUp(lives[k].bytes, kPlanStep).count() / kPlanStep.count()});
    out.allocations.push_back(AllocationId(k));
  }
  return out;
}

}  // namespace tidemark
