// Where an allocator puts each allocation of a tape, and when it asks the driver for segments: what an executor
// follows.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sim/allocator.h"
#include "sim/replay.h"
#include "sim/tape.h"

namespace tidemark {

// During `event`, before the allocation's placement counts: a segment has `bytes` from here on; 0: it is given back.
struct SegmentChange {
  uint32_t event = 0;
  int64_t segment = 0;
  Bytes bytes;
  bool operator==(const SegmentChange&) const = default;
};

struct PlacedSegment {
  Bytes most;  // that it ever has, or of address space that blocks in it need
  bool expandable = false;
};

struct PlacedTape {
  Column<AllocationId, Placement> placements;  // segment -1: the request failed
  std::vector<SegmentChange> segment_changes;  // by event; those given back before those taken
  std::vector<PlacedSegment> segments;         // by number
  bool has_gaps = false;                       // some expandable segment has blocks behind a range without memory
  Replay replay;                               // peaks and statistics, as RunReplay says them
};

// Errors: as RunReplay. A tape that doesn't fit is placed up to its first failed request.
Result<PlacedTape> Place(const Tape& tape, const AllocatorOptions& options);

}  // namespace tidemark
