// Giving memory back to the driver: garbage collection, out-of-memory retries, empty_cache.
#include <algorithm>
#include <utility>

#include "graph/base/check.h"
#include "sim/allocators/caching/engine.h"

namespace tidemark::caching {

// garbage_collect_cached_blocks: while more than a part of the limit is held, whole free segments of the default large
// pool that have been free for longer (in lookups of the pool) than the average go. A pass doesn't stop at its target.
void CachingAllocator::CollectGarbage() {
  const int64_t threshold = static_cast<int64_t>(settings_.garbage_collection_threshold * static_cast<double>(*limit_));
  if (held_ <= threshold) return;
  const int64_t target = held_ - threshold;
  const BlockPool& pool = pools_[1];
  const auto age = [&](BlockId block) { return static_cast<double>(pool.lookups - blocks_[block].age_base); };
  std::vector<BlockId> unsplit;
  double ages = 0;
  int64_t count = 0;
  for (const IndexId id : pool.by_stream) {
    if (id == kNone) continue;
    const FreeIndex& index = indices_[id];
    for (BlockId b = index.First(blocks_.data()); b != kNone; b = index.Next(blocks_.data(), b)) {
      if (blocks_[b].IsSplit()) continue;
      unsplit.push_back(b);
      ages += age(b);
      ++count;
    }
  }
  int64_t collected = 0;
  bool freed = true;
  while (collected < target && freed && count > 0) {
    const double average = ages / static_cast<double>(count);
    freed = false;
    for (BlockId& block : unsplit) {
      if (block == kNone || blocks_[block].expandable || age(block) < average) continue;
      freed = true;
      collected += blocks_[block].size;
      ages -= age(block);
      --count;
      ReleaseSegment(std::exchange(block, kNone));
    }
  }
}

// release_available_cached_blocks: with a split limit, free blocks that were barred from this request because they are
// too large. What is released stays released, whether or not it was enough.
bool CachingAllocator::ReleaseBarredBlocks(const Request& request) {
  if (settings_.max_split_size == Settings::kNoLimit) return false;
  const uint64_t wanted = std::max(static_cast<uint64_t>(request.size), settings_.max_split_size);
  const FreeIndex& index = indices_[request.index];
  constexpr int64_t kLargest = std::numeric_limits<int64_t>::max() / 4;
  const int64_t from = static_cast<int64_t>(std::min<uint64_t>(wanted, kLargest / 2));
  const BlockId above = index.LowerBound(blocks_.data(), from, std::numeric_limits<int64_t>::min());
  if (above != kNone && !blocks_[above].expandable) {
    ReleaseSegment(above);
    return true;
  }
  uint64_t released = 0;
  BlockId block = index.Previous(blocks_.data(), from, std::numeric_limits<int64_t>::min());
  while (block != kNone && released < wanted && IsOversize(blocks_[block].size)) {
    const BlockId below = index.Previous(blocks_.data(), blocks_[block].size, index.TieOf(blocks_[block]));
    if (!blocks_[block].expandable) {
      released += static_cast<uint64_t>(blocks_[block].size);
      ReleaseSegment(block);
    }
    block = below;
  }
  return released >= wanted;
}

// release_cached_blocks: waits for all events, then gives back every whole free segment and every free page. Releases
// for which an entered pool is a capture leave the default pool alone meanwhile.
void CachingAllocator::ReleaseCachedBlocks() {
  if (!profile_.scope_counts_as_capture || scopes_.empty()) {
    if (!HoldsBackEvents(current_stream_)) WaitForEvents(/*owner=*/0, /*all=*/true);
    ReleaseBlocks(1);
    ReleaseBlocks(0);
  }
  for (const uint32_t pool : std::vector<uint32_t>(freeable_)) ReleasePrivatePool(pool);
}

void CachingAllocator::EmptyCache() { ReleaseCachedBlocks(); }

// empty_cache of one pool, which torch.cuda.MemPool calls when it goes: nothing while the pool has users.
void CachingAllocator::EmptyPrivatePool(uint32_t pool) {
  if (std::ranges::find(freeable_, pool) == freeable_.end()) return;
  if (profile_.scope_counts_as_capture && !scopes_.empty()) {
    Unsupported("a private pool is emptied while another is entered: PyTorch ends in an internal assertion");
    return;
  }
  WaitForEvents(pool, /*all=*/false);
  ReleasePrivatePool(pool);
}

// A pool that nobody uses gives back what is free, and is forgotten once it holds nothing.
void CachingAllocator::ReleasePrivatePool(uint32_t id) {
  ReleaseBlocks(private_pools_[id].small);
  ReleaseBlocks(private_pools_[id].large);
  if (private_pools_[id].driver_allocations != 0) return;
  private_pools_[id].exists = false;
  std::erase(freeable_, id);
  for (const Segment& segment : segments_) {
    if (segment.live && pools_[segment.pool].owner == id) {
      Unsupported("a private pool is forgotten while it holds expandable memory: PyTorch may crash here");
    }
  }
}

void CachingAllocator::ReleaseBlocks(uint32_t pool) {
  for (size_t k = 0; k < pools_[pool].by_stream.size(); ++k) {
    const IndexId id = pools_[pool].by_stream[k];
    if (id == kNone) continue;
    const FreeIndex& index = indices_[id];
    std::vector<BlockId> expandable;
    for (BlockId b = index.First(blocks_.data()); b != kNone;) {
      const BlockId next = index.Next(blocks_.data(), b);
      if (blocks_[b].expandable) {
        expandable.push_back(b);
      } else if (!blocks_[b].IsSplit()) {
        ReleaseSegment(b);
      }
      b = next;
    }
    for (const BlockId b : expandable) {
      Unmap(b);
      if (!blocks_[b].IsSplit()) ForgetExpandableSegment(b);
    }
  }
}

// release_block: cudaFree of a segment that is one free block. The device is waited for.
void CachingAllocator::ReleaseSegment(BlockId block) {
  const Block& b = blocks_[block];
  DCHECK(!b.IsSplit() && !b.expandable);
  const PoolClass pool = ClassOf(b);
  EraseFree(block);
  ++stats_.num_device_free;
  driver_.Give(b.size);
  clock_.WaitForDevice();
  held_ -= b.size;
  stats_.Decrease(kSegment, pool, 1);
  stats_.Decrease(kReservedBytes, pool, b.size);
  if (IsOversize(b.size)) stats_.oversize_segments.Decrease(1);
  --OwnerOf(b).driver_allocations;
  segments_[b.segment].live = false;
  free_segments_.push_back(b.segment);
  DeleteBlock(block);
}

}  // namespace tidemark::caching
