// PyTorch's native CUDA caching allocator, decision by decision: c10/cuda/CUDACachingAllocator.cpp
// (DeviceCachingAllocator) of PyTorch 2.14.1, and of the releases in profile.h where they differ. One device, one host
// thread.
//
//   Allocate -> RoundSize -> pool -> best fit among free blocks -> split -> hand out
//                                    | none
//                                    +-> collect garbage -> driver -> release what is barred -> release everything ->
//                                    driver
//   Free     -> wait for other streams (or not) -> merge with free neighbours -> free index
//
// Nothing ever goes back to the driver but by a release: on the way above, or EmptyCache.
//
// Terms. A *segment* is one driver allocation, or the address space of an expandable segment. A *block* is a range of a
// segment. A *block pool* is the small or the large half of the default pool or of a private pool. A FreeIndex holds
// the free blocks of a block pool and a stream: other streams never see them.
//
// Cost: Allocate and Free O(log n) in the free blocks of one bin (free_index.h), in steady state without allocating
// memory; what goes to the driver may touch every free block.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/base/result.h"
#include "sim/allocator.h"
#include "sim/allocators/caching/block.h"
#include "sim/allocators/caching/driver.h"
#include "sim/allocators/caching/free_index.h"
#include "sim/allocators/caching/profile.h"
#include "sim/allocators/caching/settings.h"
#include "sim/allocators/caching/statistics.h"
#include "sim/allocators/caching/stream_events.h"

namespace tidemark::caching {

class CachingAllocator final : public Allocator {
 public:
  // Called by MakeAllocator, which has checked the numbers. Error: a conf string or an initial state that is wrong.
  static Result<std::unique_ptr<Allocator>> Create(const AllocatorOptions& options);

  Allocated Allocate(AllocationId allocation, Bytes bytes, int32_t stream) override;
  void Free(BlockHandle block) override;
  void RecordStream(BlockHandle block, int32_t stream) override;
  void Synchronize() override { clock_.WaitForDevice(); }
  void EmptyCache() override;
  void ResetPeak() override;
  void PoolEvent(const Event& event) override;
  Placement Where(BlockHandle block) const override;
  Usage usage() const override;
  Usage peak() const override;
  std::vector<Statistic> Statistics() const override { return stats_.List(profile_.reject_option); }
  std::vector<SegmentView> Segments() const override;
  const OutOfMemory& last_out_of_memory() const override { return out_of_memory_; }
  const std::string& unsupported() const override { return unsupported_; }
  std::vector<SeededBlock> SeededBlocks() const override { return seeded_; }

 private:
  // Half of the default pool or of a private pool.
  struct BlockPool {
    bool small = false;
    uint32_t owner = 0;                // of private_pools_; 0: the default pool
    uint64_t lookups = 0;              // counted while garbage collection is on
    std::vector<IndexId> by_stream{};  // by dense stream number; kNone: none yet
  };
  struct PrivatePool {
    uint32_t number = 0;  // the tape's
    uint32_t small = 0;   // BlockPools
    uint32_t large = 0;
    int64_t users = 1;
    int64_t driver_allocations = 0;
    bool exists = true;  // false: forgotten
    bool no_split = false;
    bool use_on_oom = false;
  };
  // Allocations on `stream` (any, if all_streams) go to a private pool.
  struct Scope {
    uint32_t pool = 0;
    int32_t stream = 0;
    bool all_streams = true;
  };
  struct Request {
    int64_t bytes = 0;    // as asked
    int64_t size = 0;     // rounded
    int64_t segment = 0;  // what the driver would be asked for
    int32_t stream = 0;
    uint32_t pool = 0;
    IndexId index = 0;
    bool expandable = false;
    bool rejected = false;
  };

  CachingAllocator(const AllocatorOptions& options, const Profile& profile, Settings settings);
  Status Seed(const InitialState& initial);
  Status SeedSegment(const InitialSegment& segment);
  void SeedPlain(const InitialSegment& segment);
  bool IsOfWholePages(const InitialSegment& segment) const;
  void SeedExpandable(const InitialSegment& segment);
  SegmentId NewSegmentAt(int64_t address, int64_t size, const Request& request, bool expandable);
  void SeedBlocks(SegmentId segment, std::span<const InitialBlock> blocks);

  // engine.cc: the way of a request and of a free.
  BlockId FindFree(Request& request);
  BlockId SkipForExpandable(const Request& request, const FreeIndex& index, BlockId block) const;
  BlockId AllocateSlowly(Request& request);
  BlockId AllocateFromDriver(Request& request, bool retry);
  BlockId AllocateFromOtherPools(Request& request);
  bool ShouldSplit(const Block& block, const Request& request) const;
  BlockId SplitOff(BlockId rest, int64_t size);
  BlockId HandOut(BlockId block, const Request& request);
  void FreeBlock(BlockId block);
  int64_t Absorb(BlockId into, BlockId from);
  bool IsIdle(const Block& block) const;
  Allocated FailTooLarge(AllocationId allocation, const Request& request);
  Allocated Fail(AllocationId allocation, const Request& request);

  // engine_release.cc: giving memory back to the driver.
  void CollectGarbage();
  bool ReleaseBarredBlocks(const Request& request);
  void ReleaseCachedBlocks();
  void ReleaseBlocks(uint32_t pool);
  void ReleaseSegment(BlockId block);
  void ReleasePrivatePool(uint32_t pool);
  void EmptyPrivatePool(uint32_t pool);

  // engine_expandable.cc
  BlockId AllocateExpandable(const Request& request);
  BlockId FindGrowable(const Request& request);
  int64_t AddressSpace() const;
  BlockId NewExpandableSegment(const Request& request);
  bool Map(BlockId block, int64_t bytes);
  void Unmap(BlockId block);
  void ForgetExpandableSegment(BlockId block);
  void InsertUnmapped(BlockId block);
  void EraseUnmapped(BlockId block);
  int64_t PageOf(const Block& block) const;

  // engine_streams.cc: blocks that wait for other streams.
  void ProcessEvents();
  void InsertEvents(BlockId block);
  void InsertDeferredEvents();
  void WaitForEvents(uint32_t owner, bool all);
  void DropEvent(BlockId block);
  void FreeUses(BlockId block);
  bool IsCaptured(int32_t stream) const;
  bool HoldsBackEvents(int32_t stream) const;

  // engine_pools.cc
  uint32_t PoolFor(bool small, int32_t stream) const;
  IndexId IndexFor(uint32_t pool, int32_t stream);
  uint32_t DenseStream(int32_t stream);
  uint32_t PoolNumbered(uint32_t number);
  uint32_t NewPrivatePool(uint32_t number);
  void AddUser(uint32_t& pool);
  void DropUser(uint32_t pool);
  void EnterPool(uint32_t& pool, int32_t stream, bool all_streams);
  void LeavePool(uint32_t pool);
  void Unsupported(std::string why);

  // engine_state.cc
  BlockId NewBlock();
  void DeleteBlock(BlockId block);
  SegmentId NewSegment(int64_t size, const Request& request, bool expandable);
  void InsertFree(BlockId block);
  void EraseFree(BlockId block) { indices_[blocks_[block].index].Erase(blocks_.data(), block); }
  PoolClass ClassOf(const Block& block) const { return block.small ? kSmallPool : kLargePool; }
  BlockPool& PoolOf(const Block& block) { return pools_[indices_[block.index].pool()]; }
  PrivatePool& OwnerOf(const Block& block) { return private_pools_[PoolOf(block).owner]; }
  bool IsOversize(int64_t size) const { return static_cast<uint64_t>(size) >= settings_.max_split_size; }
  void RaisePeak(Counter counter, PoolClass pool, int64_t by);
  std::string OutOfMemoryMessage(const Request& request) const;

  const Profile& profile_;
  Settings settings_;
  Driver driver_;
  StreamClock clock_;
  AddressOrder address_order_;
  std::optional<int64_t> limit_;  // of what may be held from the driver
  int64_t rejection_limit_ = 0;
  int64_t held_ = 0;  // from the driver
  tidemark::caching::Statistics stats_;
  Usage highest_;  // of the peaks that ResetPeak forgot

  std::vector<Block> blocks_;
  BlockId free_blocks_ = kNone;  // recycled entries of blocks_, linked by next
  std::vector<Segment> segments_;
  std::vector<SegmentId> free_segments_;
  std::vector<FreeIndex> indices_;
  uint32_t created_blocks_ = 0;
  std::vector<BlockPool> pools_;                           // 0: default small, 1: default large
  std::vector<PrivatePool> private_pools_;                 // 0: stands for the default pool
  std::unordered_map<uint32_t, uint32_t> pool_by_number_;  // the tape's number -> the latest pool of it
  std::vector<Scope> scopes_;
  std::vector<Scope> captures_;     // under way
  std::vector<uint32_t> freeable_;  // private pools without a user, not forgotten
  std::unordered_map<int32_t, uint32_t> dense_streams_;
  int32_t last_stream_ = 0;
  uint32_t last_dense_ = 0;
  int32_t current_stream_ = 0;

  std::vector<Uses> uses_;
  std::vector<UsesId> free_uses_;
  EventQueues queues_;
  std::vector<BlockId> deferred_;  // frees during a capture
  std::vector<int32_t> stream_scratch_;

  int64_t next_ordinal_ = 0;
  int64_t next_position_ = 0;
  int64_t next_address_ = 0;
  std::vector<int64_t> later_addresses_;
  size_t later_address_ = 0;
  std::vector<SeededBlock> seeded_;
  OutOfMemory out_of_memory_;
  std::string unsupported_;
};

// What every event goes through, here to be inlined.

inline BlockId CachingAllocator::NewBlock() {
  BlockId block = free_blocks_;
  if (block == kNone) {
    block = static_cast<BlockId>(blocks_.size());
    blocks_.emplace_back();
  } else {
    free_blocks_ = blocks_[block].next;
    blocks_[block].next = kNone;
  }
  blocks_[block].created = ++created_blocks_;
  return block;
}

inline void CachingAllocator::DeleteBlock(BlockId block) {
  blocks_[block] = Block{};
  blocks_[block].next = free_blocks_;
  free_blocks_ = block;
}

inline void CachingAllocator::InsertFree(BlockId block) {
  Block& b = blocks_[block];
  FreeIndex& index = indices_[b.index];
  b.age_base = pools_[index.pool()].lookups;
  index.Insert(blocks_.data(), block);
}

inline void CachingAllocator::RaisePeak(Counter counter, PoolClass pool, int64_t by) {
  Stat& all = stats_.arrays[kAll][counter];
  all.current += by;
  if (all.current > all.peak) {
    all.peak = all.current;
    peak_rose_ = true;
  }
  stats_.arrays[pool][counter].Increase(by);
}

// get_pool: the innermost scope that matches the stream decides (in older releases the outermost), else the default
// pool.
inline uint32_t CachingAllocator::PoolFor(bool small, int32_t stream) const {
  uint32_t owner = 0;
  for (const Scope& scope : scopes_) {
    if (!scope.all_streams && scope.stream != stream) continue;
    owner = scope.pool;
    if (!profile_.last_scope_wins) break;
  }
  return small ? private_pools_[owner].small : private_pools_[owner].large;
}

inline uint32_t CachingAllocator::DenseStream(int32_t stream) {
  if (stream == last_stream_) return last_dense_;
  const auto [found, added] = dense_streams_.emplace(stream, static_cast<uint32_t>(dense_streams_.size()));
  last_stream_ = stream;
  last_dense_ = found->second;
  return last_dense_;
}

inline IndexId CachingAllocator::IndexFor(uint32_t pool, int32_t stream) {
  const uint32_t dense = DenseStream(stream);
  std::vector<IndexId>& by_stream = pools_[pool].by_stream;
  if (dense < by_stream.size() && by_stream[dense] != kNone) return by_stream[dense];
  if (dense >= by_stream.size()) by_stream.resize(dense + 1, kNone);
  by_stream[dense] = static_cast<IndexId>(indices_.size());
  indices_.emplace_back(pool, stream, profile_.ties == TieOrder::kBlockCreation);
  return by_stream[dense];
}

}  // namespace tidemark::caching
