// Two tapes, event by event: what a run was predicted to ask of its allocator, and what it asked.
#pragma once

#include <cstdint>
#include <string>

#include "sim/tape.h"

namespace tidemark {

struct TapeDifference {
  uint64_t events = 0;  // of the measured tape
  uint64_t first = 0;   // the first event that differs, from 0; `events` where the tapes are identical
  // What the two tapes have there, with phase and op; empty where they are identical.
  std::string predicted;
  std::string measured;
  bool identical() const { return first == events && predicted.empty(); }
  bool operator==(const TapeDifference&) const = default;
};

// What must agree, in order: every allocation's size and stream, which earlier allocation each free or record_stream
// names, every y and e. The numbers of allocations needn't, nor does the order within a run of consecutive frees: it
// changes nothing in memory, and where PyTorch clears its cache of casts it follows a hash of addresses. Resets of
// peaks and marks don't count. O(events log events).
TapeDifference CompareTapes(const Tape& predicted, const Tape& measured);

}  // namespace tidemark
