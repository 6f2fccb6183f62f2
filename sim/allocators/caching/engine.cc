#include "sim/allocators/caching/engine.h"

#include <algorithm>
#include <utility>

#include "graph/base/check.h"
#include "sim/allocators/caching/rounding.h"

namespace tidemark::caching {

Allocated CachingAllocator::Allocate(AllocationId allocation, Bytes bytes, int32_t stream) {
  current_stream_ = stream;
  Request request;
  request.bytes = bytes.count();
  request.stream = stream;
  if (request.bytes == 0) return {AllocateOutcome::kZeroBytes, kNoBlock};
  if (request.bytes >= kTooLarge) return FailTooLarge(allocation, request);
  if (!queues_.order.empty() || !deferred_.empty()) {
    if (!HoldsBackEvents(stream)) ProcessEvents();
  }
  request.size = RoundSize(request.bytes, settings_);
  request.pool = PoolFor(request.size <= kSmallSize, stream);
  request.index = IndexFor(request.pool, stream);
  request.expandable = settings_.expandable_segments;
  BlockId block = FindFree(request);
  if (block == kNone) {
    request.segment = SegmentSize(request.size, settings_);
    block = AllocateSlowly(request);
    if (block == kNone) {
      if (!unsupported_.empty()) return {AllocateOutcome::kUnsupported, kNoBlock};
      return Fail(allocation, request);
    }
  }
  return {AllocateOutcome::kPlaced, HandOut(block, request)};
}

// get_free_block: the smallest free block that is large enough, unless a rule bars it; then there is none, however good
// the next.
BlockId CachingAllocator::FindFree(Request& request) {
  if (limit_ && settings_.garbage_collection_threshold > 0) ++pools_[request.pool].lookups;
  FreeIndex& index = indices_[request.index];
  const FreeIndex::Found found = index.BestFit(blocks_.data(), request.size);
  BlockId block = found.block;
  if (block == kNone) return kNone;
  if (blocks_[block].expandable) {
    block = SkipForExpandable(request, index, block);
    if (block == kNone) return kNone;
  }
  const int64_t size = blocks_[block].size;
  if (!IsOversize(request.size)) {
    if (IsOversize(size)) return kNone;
  } else if (static_cast<uint64_t>(size) >= static_cast<uint64_t>(request.size) + settings_.max_non_split_rounding) {
    return kNone;
  }
  if (block == found.block) {
    index.Take(blocks_.data(), found);
  } else {
    index.Erase(blocks_.data(), block);
  }
  return block;
}

// Among expandable blocks, one that can't grow is better than a slightly smaller one that can: walks on while the size
// counted with what could be mapped behind it shrinks. Without expandable allocation such blocks are passed over.
BlockId CachingAllocator::SkipForExpandable(const Request& request, const FreeIndex& index, BlockId block) const {
  const auto next = [&](BlockId b) { return index.Next(blocks_.data(), b); };
  if (!request.expandable) {
    while (block != kNone && blocks_[block].expandable) block = next(block);
    return block;
  }
  const auto grown = [&](BlockId b) {
    const BlockId behind = blocks_[b].next;
    return blocks_[b].size + (behind != kNone && !blocks_[behind].mapped ? blocks_[behind].size : 0);
  };
  while (blocks_[block].expandable) {
    const BlockId following = next(block);
    if (following == kNone || grown(following) >= grown(block)) break;
    block = following;
  }
  return block;
}

// Everything that malloc tries once no free block fits.
BlockId CachingAllocator::AllocateSlowly(Request& request) {
  if (limit_ && settings_.garbage_collection_threshold > 0) CollectGarbage();
  BlockId block = AllocateFromDriver(request, /*retry=*/false);
  if (block != kNone || request.rejected) return block;
  block = AllocateFromOtherPools(request);
  if (block != kNone) return block;
  if (ReleaseBarredBlocks(request)) block = AllocateFromDriver(request, /*retry=*/false);
  if (block != kNone || HoldsBackEvents(request.stream)) return block;
  ReleaseCachedBlocks();
  return AllocateFromDriver(request, /*retry=*/true);
}

// alloc_block: a new segment, or new pages.
BlockId CachingAllocator::AllocateFromDriver(Request& request, bool retry) {
  if (retry) ++stats_.num_alloc_retries;
  if (limit_ && held_ + request.segment > *limit_) return kNone;
  if (settings_.throw_on_cudamalloc_oom && held_ + request.segment > rejection_limit_) {
    ++stats_.num_oom_rejections;
    request.rejected = true;
    return kNone;
  }
  if (request.expandable) {
    const BlockId block = AllocateExpandable(request);
    if (block != kNone) ++OwnerOf(blocks_[block]).driver_allocations;
    return block;
  }
  if (!driver_.Take(request.segment)) return kNone;
  held_ += request.segment;
  const SegmentId segment = NewSegment(request.segment, request, /*expandable=*/false);
  const BlockId block = segments_[segment].first;
  ++OwnerOf(blocks_[block]).driver_allocations;
  const PoolClass pool = ClassOf(blocks_[block]);
  stats_.Increase(kSegment, pool, 1);
  RaisePeak(kReservedBytes, pool, request.segment);
  if (IsOversize(request.segment)) stats_.oversize_segments.Increase(1);
  ++stats_.num_device_alloc;
  return block;
}

// try_mempool_fallback: a request of the default pool may take free memory of pools that allow it.
BlockId CachingAllocator::AllocateFromOtherPools(Request& request) {
  if (pools_[request.pool].owner != 0) return kNone;
  for (uint32_t id = 1; id < private_pools_.size(); ++id) {
    const PrivatePool& pool = private_pools_[id];
    if (!pool.use_on_oom) continue;
    if (pool.exists && pool.users == 0) {
      Unsupported("a pool without users is flagged for use when out of memory: PyTorch ends in an internal assertion");
      return kNone;
    }
    if (!pool.exists) continue;
    if (std::ranges::any_of(scopes_, [&](const Scope& scope) { return scope.pool == id; })) {
      Unsupported(
          "a pool is asked when out of memory while a stream is captured into it: PyTorch says "
          "\"beginAllocateToPool: already recording to mempool_id\"");
      return kNone;
    }
    Request other = request;
    other.pool = pools_[request.pool].small ? pool.small : pool.large;
    other.index = IndexFor(other.pool, request.stream);
    other.expandable = false;
    const BlockId block = FindFree(other);
    if (block == kNone) continue;
    request = other;
    return block;
  }
  return kNone;
}

bool CachingAllocator::ShouldSplit(const Block& block, const Request& request) const {
  const int64_t rest = block.size - request.size;
  if (rest < kMinBlockSize) return false;  // nothing below is weaker
  const BlockPool& pool = pools_[request.pool];
  if (pool.owner != 0 && private_pools_[pool.owner].no_split) return false;
  if (pool.small || request.expandable) return true;
  return !IsOversize(request.size) && rest > kSmallSize;
}

// Cuts the first `size` bytes off a free block that is in no index: they become a new block, and the old one, now the
// rest, goes back into its index.
BlockId CachingAllocator::SplitOff(BlockId rest_id, int64_t size) {
  const BlockId id = NewBlock();
  Block& low = blocks_[id];
  Block& rest = blocks_[rest_id];
  const bool was_split = rest.IsSplit();
  low.position = rest.position;
  low.size = size;
  low.prev = rest.prev;
  low.next = rest_id;
  low.segment = rest.segment;
  low.index = rest.index;
  low.expandable = rest.expandable;
  low.small = rest.small;
  if (low.prev == kNone) {
    segments_[low.segment].first = id;
  } else {
    blocks_[low.prev].next = id;
  }
  rest.prev = id;
  rest.position += size;
  rest.size -= size;
  InsertFree(rest_id);
  if (rest.expandable) return id;
  if (was_split) {
    stats_.Decrease(kInactiveSplitBytes, ClassOf(rest), size);
  } else {
    stats_.Increase(kInactiveSplit, ClassOf(rest), 1);
    stats_.Increase(kInactiveSplitBytes, ClassOf(rest), rest.size);
  }
  return id;
}

// alloc_found_block: splits if it is worth it (the low end is handed out) and counts.
BlockId CachingAllocator::HandOut(BlockId found, const Request& request) {
  const PoolClass pool = ClassOf(blocks_[found]);
  BlockId block = found;
  if (ShouldSplit(blocks_[found], request)) {
    block = SplitOff(found, request.size);
  } else if (blocks_[found].IsSplit() && !blocks_[found].expandable) {
    stats_.Decrease(kInactiveSplit, pool, 1);
    stats_.Decrease(kInactiveSplitBytes, pool, blocks_[found].size);
  }
  Block& b = blocks_[block];
  b.allocated = true;
  b.requested = request.bytes;
  stats_.Increase(kAllocation, pool, 1);
  stats_.Increase(kActive, pool, 1);
  RaisePeak(kAllocatedBytes, pool, b.size);
  RaisePeak(kActiveBytes, pool, b.size);
  RaisePeak(kRequestedBytes, pool, b.requested);
  if (IsOversize(b.size)) stats_.oversize_allocations.Increase(1);
  return block;
}

void CachingAllocator::Free(BlockHandle block) {
  Block& b = blocks_[block];
  DCHECK(b.allocated);
  const PoolClass pool = ClassOf(b);
  b.allocated = false;
  stats_.Decrease(kAllocation, pool, 1);
  stats_.Decrease(kAllocatedBytes, pool, b.size);
  if (IsOversize(b.size)) stats_.oversize_allocations.Decrease(1);
  if (b.uses == kNone) return FreeBlock(block);
  if (HoldsBackEvents(current_stream_)) {
    deferred_.push_back(block);
  } else {
    InsertEvents(block);
  }
}

// Whether a block can be merged with a free neighbour or grow into one.
bool CachingAllocator::IsIdle(const Block& block) const { return !block.allocated && block.uses == kNone; }

// free_block: from here on the memory can be handed out again.
void CachingAllocator::FreeBlock(BlockId block) {
  Block& b = blocks_[block];
  const PoolClass pool = ClassOf(b);
  const int64_t size = b.size;
  int64_t split_blocks = 0;
  int64_t split_bytes = 0;
  for (const BlockId neighbour : {b.prev, b.next}) {
    const int64_t absorbed = Absorb(block, neighbour);
    if (absorbed == 0) continue;
    --split_blocks;
    split_bytes -= absorbed;
  }
  InsertFree(block);
  if (b.IsSplit()) {
    ++split_blocks;
    split_bytes += b.size;
  }
  if (!b.expandable) {
    stats_.Change(kInactiveSplit, pool, split_blocks);
    stats_.Change(kInactiveSplitBytes, pool, split_bytes);
  }
  stats_.Decrease(kActive, pool, 1);
  stats_.Decrease(kActiveBytes, pool, size);
  stats_.Decrease(kRequestedBytes, pool, b.requested);
}

// try_merge_blocks: makes a free neighbour part of a free block. Returns its size, or 0.
int64_t CachingAllocator::Absorb(BlockId into, BlockId from) {
  if (from == kNone) return 0;
  Block& a = blocks_[into];
  const Block& b = blocks_[from];
  if (!IsIdle(b) || a.mapped != b.mapped) return 0;
  if (b.mapped) {
    EraseFree(from);
  } else {
    EraseUnmapped(from);
  }
  const int64_t size = b.size;
  if (a.prev == from) {
    a.position = b.position;
    a.prev = b.prev;
    if (a.prev == kNone) {
      segments_[a.segment].first = into;
    } else {
      blocks_[a.prev].next = into;
    }
  } else {
    a.next = b.next;
    if (a.next != kNone) blocks_[a.next].prev = into;
  }
  a.size += size;
  DeleteBlock(from);
  return size;
}

}  // namespace tidemark::caching
