// What a caching allocator holds before the first event of a tape: how a recording that starts in the middle of a
// process is replayed. Taken from the segments of a PyTorch memory snapshot, walked back to the start of its trace.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/base/units.h"
#include "sim/tape.h"

namespace tidemark {

struct InitialBlock {
  Bytes size;
  Bytes requested;  // 0: free
  AllocationId
      allocation;      // invalid: free. Else an allocation of the tape that has no `a` event; the tape may free it.
  bool mapped = true;  // false: pages of an expandable segment without memory, between others that have some
  bool operator==(const InitialBlock&) const = default;
};

// Blocks cover the segment without gaps. An expandable segment begins and ends with memory; beyond it, the address
// space that PyTorch reserves follows.
struct InitialSegment {
  int64_t address = 0;
  Bytes size;
  int32_t stream = 0;
  bool large = false;
  bool expandable = false;
  std::vector<InitialBlock> blocks;  // by address
  bool operator==(const InitialSegment&) const = default;
};

// Segments that are created later take the addresses in `later_addresses` one by one (as recorded), and after those
// whatever the address order gives.
struct InitialState {
  std::vector<InitialSegment> segments;
  std::vector<int64_t> later_addresses;
  bool operator==(const InitialState&) const = default;
};

}  // namespace tidemark
