// Blocks and segments, linked by index.
//
//   segment   | a  512 | b  1024 (free) | c  614400 | d  the rest (free) |
//             prev <-> next run through them in order of address; two free neighbours never coexist, they are merged at
//             once.
#pragma once

#include <cstdint>
#include <limits>

namespace tidemark::caching {

using BlockId = uint32_t;
using SegmentId = uint32_t;
using IndexId = uint32_t;  // of a FreeIndex: the free blocks of one pool and stream
using UsesId = uint32_t;
constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

// 64 bytes: a cache line. Positions are virtual: they order blocks as the profile wants ties to be broken, and differ
// from addresses by a constant of the segment.
struct alignas(64) Block {
  int64_t position = 0;
  int64_t size = 0;
  int64_t requested = 0;
  BlockId prev = kNone;  // neighbours in the segment
  BlockId next = kNone;
  BlockId left = kNone;  // children in the tree of a FreeIndex
  BlockId right = kNone;
  SegmentId segment = kNone;
  IndexId index = kNone;
  UsesId uses = kNone;  // other streams; kNone almost always
  bool allocated = false;
  bool mapped = true;       // false: address space of an expandable segment without memory
  bool expandable = false;  // lies in an expandable segment
  bool small = false;       // of a small pool
  uint32_t created = 0;     // its number among all blocks ever made
  uint64_t age_base = 0;    // the pool's lookups when it became free

  bool IsSplit() const { return prev != kNone || next != kNone; }
};

struct Segment {
  int64_t ordinal = -1;  // of creation; -1: an expandable segment that never had a page
  int64_t position = 0;  // of its first byte
  int64_t address = 0;
  int64_t size = 0;       // address space
  BlockId first = kNone;  // valid while the segment lives; kept up to date by whoever splits or merges at its start
  int32_t stream = 0;
  uint32_t pool = 0;  // BlockPool
  bool expandable = false;
  bool live = false;
};

}  // namespace tidemark::caching
