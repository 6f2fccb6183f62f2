// Tape x allocator -> Replay: peaks, final statistics, requests that failed. Everything beyond those few numbers is
// told to an observer while it happens or asked for afterwards (StateAt), so that a replay costs nothing but the
// allocator's own work.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "graph/base/result.h"
#include "graph/base/units.h"
#include "sim/allocator.h"
#include "sim/tape.h"
#include "sim/tape_io.h"

namespace tidemark {

// The highest value and the first event during which it was reached (an index into Tape::events).
struct Peak {
  Bytes bytes;
  uint32_t event = 0;
  bool operator==(const Peak&) const = default;
};

struct Replay {
  Peak requested, allocated, active, reserved;  // over the whole run, whatever `r` events forget
  Usage final_usage;
  std::vector<Statistic> statistics;       // at the end; keys of torch.cuda.memory_stats()
  std::vector<OutOfMemory> out_of_memory;  // in order; the first kMaxFailures of them
  int64_t failures = 0;                    // all of them
  uint64_t events = 0;                     // that were replayed

  static constexpr size_t kMaxFailures = 1024;
  bool operator==(const Replay&) const = default;
};

// What an observer is told after each event. `block_bytes` of a free are those of the block that went.
struct Observation {
  uint64_t event = 0;  // index in the tape
  EventKind kind = EventKind::kAlloc;
  AllocationId allocation;  // a, f, s; invalid in a streamed replay
  uint64_t id = 0;          // the tape's number of it
  // Of the request; of the request that it undoes, for an f.
  AllocateOutcome outcome = AllocateOutcome::kPlaced;
  Placement placement;  // kPlaced: where the block is; where it was, for an f
  Usage usage;          // after the event
};

class ReplayObserver {
 public:
  virtual ~ReplayObserver() = default;
  virtual void OnEvent(const Observation& observation) = 0;
};

struct ReplayOptions {
  AllocatorOptions allocator{};
  bool stop_at_out_of_memory = false;  // else the tape goes on without the block, as the recordings do
  std::vector<ReplayObserver*> observers{};
};

// Errors: what MakeAllocator says; events that the policy can't simulate.
Result<Replay> RunReplay(const Tape& tape, const ReplayOptions& options);
// The same for a tape that is read while it is replayed: memory is that of what is alive, however long the tape. Ids
// that rise cost nothing to remember; others cost 16 bytes for each gap. Offline planners can't do this: an error.
Result<Replay> RunReplay(TapeReader& reader, const ReplayOptions& options);

// What is held after an event.
struct LiveBlock {
  AllocationId allocation;
  Bytes requested;
  Bytes block;
  int64_t segment = 0;
  Bytes offset;
  bool pending = false;  // freed, but waits for another stream
  bool operator==(const LiveBlock&) const = default;
};

struct MemoryState {
  uint32_t event = 0;
  Usage usage;
  std::vector<LiveBlock> live;        // by segment and offset
  std::vector<SegmentView> segments;  // by ordinal
};

// Replays the tape up to and including `event`, and looks. O(events).
Result<MemoryState> StateAt(const Tape& tape, const AllocatorOptions& options, uint32_t event);

// A segment that holds free memory which nobody else can have, and who keeps it.
struct PinnedSegment {
  int64_t segment = 0;
  Bytes size;
  Bytes live;
  std::vector<LiveBlock> pinned_by;  // by offset
  bool operator==(const PinnedSegment&) const = default;
};

struct Fragmentation {
  uint32_t event = 0;
  Usage usage;
  Bytes rounding;        // allocated - requested, over allocated blocks
  Bytes cached_free;     // reserved - active
  Bytes largest_free;    // the largest free block
  Bytes free_whole;      // free memory in segments that hold nothing: what empty_cache would give back
  Bytes inactive_split;  // free memory in segments that hold something
  int64_t free_blocks = 0;
  std::vector<PinnedSegment> pinned;  // most free bytes first
  bool operator==(const Fragmentation&) const = default;
};

Fragmentation MeasureFragmentation(const MemoryState& state);

// The highest sum of live requested bytes: no allocator can take less. `initial` (may be null): what is alive before
// the first event. O(events).
Peak LiveBytesPeak(const Tape& tape, const InitialState* initial = nullptr);

}  // namespace tidemark
