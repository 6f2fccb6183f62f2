// The free blocks of one pool and one stream, ordered by size and then tie: best fit in a few nanoseconds.
//
// Sizes fall into bins, 16 to each power of two; up to 16 KiB every multiple of 512 has a bin of its own. A bitmap
// tells which bins hold something. Within a bin the blocks form a treap whose links lie in the blocks themselves, with
// priorities that are hashes of their numbers: no memory is allocated after the index, and a bin with n blocks costs
// O(log n) however equal they are.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/allocators/caching/block.h"

namespace tidemark::caching {

class FreeIndex {
 public:
  // Blocks of one size are ordered by their creation or, where that doesn't count, by position: their tie.
  FreeIndex(uint32_t pool, int32_t stream, bool by_creation) : pool_(pool), stream_(stream), by_creation_(by_creation) {
    roots_.fill(kNone);
  }

  uint32_t pool() const { return pool_; }
  int32_t stream() const { return stream_; }
  int64_t TieOf(const Block& block) const { return by_creation_ ? block.created : block.position; }

  // `blocks` is the table of all blocks. REQUIRES: size < 2^61.
  void Insert(Block* blocks, BlockId block);
  void Erase(Block* blocks, BlockId block);
  // The first block with (size, tie) >= the given one, or kNone.
  BlockId LowerBound(const Block* blocks, int64_t size, int64_t tie) const;
  // The same from (size, the lowest tie) on, kept at hand so that Take costs no second search. Block kNone: none.
  struct Found {
    BlockId block = kNone;
    BlockId* link = nullptr;
    size_t bin = 0;
  };
  Found BestFit(Block* blocks, int64_t size);
  // Removes what BestFit found. REQUIRES: nothing has changed since.
  void Take(Block* blocks, const Found& found);
  // The block after and before one that is in the index, or kNone.
  BlockId Next(const Block* blocks, BlockId block) const;
  BlockId Previous(const Block* blocks, int64_t size, int64_t tie) const;  // the last one < (size, tie)
  BlockId First(const Block* blocks) const;

  // Ranges of expandable segments without memory, by address. The owner keeps them sorted; there are few.
  std::vector<BlockId> unmapped;

 private:
  static constexpr size_t kBins = size_t{52} * 16;
  static size_t BinOf(int64_t size);
  bool Before(const Block& block, int64_t size, int64_t tie) const {
    return block.size < size || (block.size == size && TieOf(block) < tie);
  }
  void Split(Block* blocks, BlockId root, int64_t size, int64_t tie, BlockId* before, BlockId* rest) const;
  void Unlink(Block* blocks, BlockId* link, size_t bin);
  size_t NextBin(size_t from) const;      // the first that isn't empty, from `from` on; kBins: none
  size_t PreviousBin(size_t from) const;  // the last that isn't empty, before `from`; kBins: none

  std::array<BlockId, kBins> roots_;
  std::array<uint64_t, kBins / 64> filled_{};
  uint32_t pool_;
  int32_t stream_;
  bool by_creation_;
};

}  // namespace tidemark::caching
