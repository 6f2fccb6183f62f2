// From a memory snapshot to something that can be replayed: the state before its trace, the trace as a tape, and where
// each allocation really was.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/base/result.h"
#include "sim/initial_state.h"
#include "sim/replay.h"
#include "sim/tape.h"
#include "tools/formats/snapshot.h"

namespace tidemark {

struct SnapshotReplay {
  InitialState initial;
  // Allocations that live before the trace come first, without an `a` event, then those of the trace in order.
  Tape tape;
  std::vector<int64_t> addresses;  // by AllocationId: as recorded
  bool maps_pages = false;         // the trace has expandable segments, whose address ranges it doesn't tell
  std::string incomparable;        // why the recorded addresses say nothing; empty: they do
  std::vector<std::string> notes;  // what could not be carried over
};

// Walks the trace back from the final segments: an undone alloc leaves a hole, an undone free a block. Holes always
// merge, so the blocks in use decide everything; a block's size follows from the rule by which blocks are split.
//
//   final      [ a ][ b ][    hole    ]
//   - alloc b  [ a ][      hole       ]
//   - free c   [ a ][  c  ][   hole   ]      c's block: its request as rounded by the recorded settings, and
//                                              what would be too little to split off
//
// Of a trace without segments, frees are matched with allocations forwards; what is freed without one was there before
// the trace and comes first in the tape. Where the trace begins in the middle of a process, nobody knows what else was.
//
// A free is replayed where it completed, since that is when its memory can be used again. Segments given back become an
// empty_cache. Private pools are left out (a note says so).
SnapshotReplay ReplayOf(const Snapshot& snapshot);

// Compares where a replay puts allocations with where they were. An expandable segment that begins within the trace has
// an address range that nothing tells: its first allocation shows how far the replay's is from the recorded one.
class AddressCheck final : public ReplayObserver {
 public:
  explicit AddressCheck(const SnapshotReplay& recorded);
  void OnEvent(const Observation& observation) override;

  int64_t compared() const { return compared_; }
  int64_t equal() const { return equal_; }
  // The first that differs, in words; empty if none does.
  const std::string& first_difference() const { return first_difference_; }

 private:
  // How far recorded addresses of that segment are above the replay's.
  int64_t ShiftOf(int64_t segment, int64_t recorded, int64_t predicted);

  const SnapshotReplay& recorded_;
  std::unordered_map<int64_t, int64_t> shifts_;  // of segments that begin within the trace
  int64_t compared_ = 0;
  int64_t equal_ = 0;
  std::string first_difference_;
};

}  // namespace tidemark
