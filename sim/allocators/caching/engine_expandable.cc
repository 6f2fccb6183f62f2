// expandable_segments: address space for more than the device has, into which pages are mapped where and when they are
// needed.
//
//   | a | free, mapped | b | free, mapped |  unmapped … to the end of the address space   |
//   0                                     | <- the next request may grow from here        | 9/8 of the device
#include <fmt/format.h>

#include <algorithm>

#include "graph/base/check.h"
#include "sim/allocators/caching/engine.h"
#include "sim/allocators/caching/rounding.h"

namespace tidemark::caching {

int64_t CachingAllocator::PageOf(const Block& block) const {
  return block.small ? kSmallBuffer : static_cast<int64_t>(settings_.large_segment_size);
}

void CachingAllocator::InsertUnmapped(BlockId block) {
  std::vector<BlockId>& list = indices_[blocks_[block].index].unmapped;
  const auto address = [&](BlockId id) {
    const Block& b = blocks_[id];
    return segments_[b.segment].address + b.position - segments_[b.segment].position;
  };
  list.insert(std::ranges::lower_bound(list, address(block), {}, address), block);
}

void CachingAllocator::EraseUnmapped(BlockId block) {
  std::vector<BlockId>& list = indices_[blocks_[block].index].unmapped;
  const auto found = std::ranges::find(list, block);
  DCHECK(found != list.end());
  list.erase(found);
}

// find_expandable_block: the lowest place where free and unmapped ranges in a row are large enough; else a new segment.
BlockId CachingAllocator::FindGrowable(const Request& request) {
  for (const BlockId c : indices_[request.index].unmapped) {
    BlockId start = c;
    if (blocks_[c].prev != kNone && IsIdle(blocks_[blocks_[c].prev])) start = blocks_[c].prev;
    int64_t room = 0;
    for (BlockId b = start; b != kNone && IsIdle(blocks_[b]); b = blocks_[b].next) {
      room += blocks_[b].size;
      if (room >= request.size) return start;
    }
  }
  return NewExpandableSegment(request);
}

// Address space of an expandable segment, in bytes: 9/8 of the device, or what the conf string says, if that is less.
int64_t CachingAllocator::AddressSpace() const {
  const int64_t most = driver_.total() + driver_.total() / 8;
  if (!settings_.expandable_segments_reserve) return most;
  const double wanted = settings_.expandable_segments_reserve->On(static_cast<double>(driver_.total()));
  return wanted < static_cast<double>(most) ? static_cast<int64_t>(wanted) : most;
}

// Reserves it in whole pages, one at least: address space, not memory.
BlockId CachingAllocator::NewExpandableSegment(const Request& request) {
  const int64_t page = pools_[request.pool].small ? kSmallBuffer : static_cast<int64_t>(settings_.large_segment_size);
  const int64_t pages = std::max<int64_t>(1, (AddressSpace() + page - 1) / page);
  const SegmentId segment = NewSegment(pages * page, request, /*expandable=*/true);
  const BlockId block = segments_[segment].first;
  blocks_[block].mapped = false;
  blocks_[block].expandable = true;
  InsertUnmapped(block);
  return block;
}

// try_allocate_expandable_block. Pages mapped before one could not be stay mapped.
BlockId CachingAllocator::AllocateExpandable(const Request& request) {
  BlockId block = FindGrowable(request);
  if (settings_.expandable_segments_reserve && !blocks_[block].IsSplit() && !blocks_[block].mapped &&
      blocks_[block].size < request.size) {
    ForgetExpandableSegment(block);  // a fresh one: none will do
    return kNone;
  }
  if (!blocks_[block].mapped && !Map(block, std::min(blocks_[block].size, request.size))) return kNone;
  while (blocks_[block].size < request.size) {
    const BlockId next = blocks_[block].next;
    if (next == kNone || blocks_[next].mapped) return kNone;  // a fresh segment that is too small
    if (!Map(next, std::min(request.size - blocks_[block].size, blocks_[next].size))) return kNone;
    block = next;  // has absorbed the one before
  }
  EraseFree(block);
  return block;
}

// map_block: memory for the pages of [0, bytes) of an unmapped block, which starts at a page; all or nothing.
bool CachingAllocator::Map(BlockId block, int64_t bytes) {
  const int64_t page = PageOf(blocks_[block]);
  if (page % Driver::kPage != 0) {
    Unsupported(
        fmt::format("expandable segments with pages of {} bytes: the driver maps multiples of 2 MiB "
                    "(CUDA driver error: invalid argument)",
                    page));
    return false;
  }
  const int64_t mapped = (bytes + page - 1) / page * page;
  if (!driver_.Take(mapped)) return false;
  EraseUnmapped(block);
  if (mapped < blocks_[block].size) {
    const BlockId rest = NewBlock();
    Block& b = blocks_[block];
    Block& r = blocks_[rest];
    r.position = b.position + mapped;
    r.size = b.size - mapped;
    r.prev = block;
    r.next = b.next;
    r.segment = b.segment;
    r.index = b.index;
    r.expandable = true;
    r.small = b.small;
    r.mapped = false;
    if (r.next != kNone) blocks_[r.next].prev = rest;
    b.next = rest;
    b.size = mapped;
    InsertUnmapped(rest);
  }
  blocks_[block].mapped = true;
  Absorb(block, blocks_[block].prev);
  Absorb(block, blocks_[block].next);
  InsertFree(block);
  Segment& segment = segments_[blocks_[block].segment];
  if (segment.ordinal < 0) segment.ordinal = next_ordinal_++;
  held_ += mapped;
  RaisePeak(kReservedBytes, ClassOf(blocks_[block]), mapped);
  ++stats_.num_device_alloc;
  return true;
}

// unmap_block: gives back the pages that lie wholly inside a free block; what is left at its ends stays mapped and
// free.
void CachingAllocator::Unmap(BlockId block) {
  const int64_t page = PageOf(blocks_[block]);
  const int64_t base = segments_[blocks_[block].segment].position;
  const int64_t begin = blocks_[block].position - base;
  const int64_t end = begin + blocks_[block].size;
  const int64_t first = (begin + page - 1) / page * page;
  const int64_t last = end / page * page;
  if (first >= last) return;
  EraseFree(block);
  const auto cut = [&](int64_t from, int64_t to, bool before) {
    if (from >= to) return;
    const BlockId piece = NewBlock();
    Block& b = blocks_[block];
    Block& p = blocks_[piece];
    p.position = base + from;
    p.size = to - from;
    p.segment = b.segment;
    p.index = b.index;
    p.expandable = true;
    p.small = b.small;
    p.prev = before ? b.prev : block;
    p.next = before ? block : b.next;
    (before ? b.prev : b.next) = piece;
    if (before && p.prev != kNone) blocks_[p.prev].next = piece;
    if (before && p.prev == kNone) segments_[p.segment].first = piece;
    if (!before && p.next != kNone) blocks_[p.next].prev = piece;
    InsertFree(piece);
  };
  cut(begin, first, /*before=*/true);
  cut(last, end, /*before=*/false);
  Block& b = blocks_[block];
  b.position = base + first;
  b.size = last - first;
  b.mapped = false;
  Absorb(block, blocks_[block].prev);
  Absorb(block, blocks_[block].next);
  InsertUnmapped(block);
  driver_.Give(last - first);
  clock_.WaitForStream(segments_[blocks_[block].segment].stream);
  held_ -= last - first;
  stats_.Decrease(kReservedBytes, ClassOf(blocks_[block]), last - first);
  ++stats_.num_device_free;
  PrivatePool& owner = OwnerOf(blocks_[block]);
  if (pools_[segments_[blocks_[block].segment].pool].owner != 0 && --owner.driver_allocations < 0) {
    Unsupported(
        "a private pool gives back more expandable memory than it counted: PyTorch ends in an internal assertion");
  }
}

// The whole segment is unmapped: its address space goes back.
void CachingAllocator::ForgetExpandableSegment(BlockId block) {
  if (blocks_[block].mapped) return;
  EraseUnmapped(block);
  segments_[blocks_[block].segment].live = false;
  free_segments_.push_back(blocks_[block].segment);
  DeleteBlock(block);
}

}  // namespace tidemark::caching
