#include "sim/allocators/caching/free_index.h"

#include <algorithm>
#include <bit>

#include "graph/base/check.h"

namespace tidemark::caching {
namespace {

uint32_t Priority(BlockId block) { return (block + 1) * 0x9e3779b1u; }

// Joins two trees of which all of `a` is before all of `b`.
void Merge(Block* blocks, BlockId a, BlockId b, BlockId* root) {
  while (a != kNone && b != kNone) {
    if (Priority(a) > Priority(b)) {
      *root = a;
      root = &blocks[a].right;
      a = *root;
    } else {
      *root = b;
      root = &blocks[b].left;
      b = *root;
    }
  }
  *root = a != kNone ? a : b;
}

BlockId Leftmost(const Block* blocks, BlockId root) {
  while (blocks[root].left != kNone) root = blocks[root].left;
  return root;
}

BlockId Rightmost(const Block* blocks, BlockId root) {
  while (blocks[root].right != kNone) root = blocks[root].right;
  return root;
}

}  // namespace

// Cuts a tree into what is before (size, tie) and the rest.
void FreeIndex::Split(Block* blocks, BlockId root, int64_t size, int64_t tie, BlockId* before, BlockId* rest) const {
  while (root != kNone) {
    if (Before(blocks[root], size, tie)) {
      *before = root;
      before = &blocks[root].right;
      root = *before;
    } else {
      *rest = root;
      rest = &blocks[root].left;
      root = *rest;
    }
  }
  *before = kNone;
  *rest = kNone;
}

size_t FreeIndex::BinOf(int64_t size) {
  const uint64_t s = static_cast<uint64_t>(std::max<int64_t>(size, 512));
  const int exponent = static_cast<int>(std::bit_width(s)) - 1;  // 9 … 60
  return static_cast<size_t>(exponent - 9) * 16 + ((s >> (exponent - 4)) & 15);
}

size_t FreeIndex::NextBin(size_t from) const {
  size_t word = from / 64;
  if (word >= filled_.size()) return kBins;
  uint64_t bits = filled_[word] & (~uint64_t{0} << (from % 64));
  while (bits == 0) {
    if (++word == filled_.size()) return kBins;
    bits = filled_[word];
  }
  return word * 64 + static_cast<size_t>(std::countr_zero(bits));
}

size_t FreeIndex::PreviousBin(size_t from) const {
  if (from == 0) return kBins;
  size_t word = (from - 1) / 64;
  uint64_t bits = filled_[word] & (~uint64_t{0} >> (63 - (from - 1) % 64));
  while (bits == 0) {
    if (word-- == 0) return kBins;
    bits = filled_[word];
  }
  return word * 64 + 63 - static_cast<size_t>(std::countl_zero(bits));
}

void FreeIndex::Insert(Block* blocks, BlockId block) {
  Block& b = blocks[block];
  const size_t bin = BinOf(b.size);
  const int64_t tie = TieOf(b);
  BlockId* link = &roots_[bin];
  const uint32_t priority = Priority(block);
  while (*link != kNone && Priority(*link) > priority) {
    Block& at = blocks[*link];
    link = Before(at, b.size, tie) ? &at.right : &at.left;
  }
  const BlockId below = *link;
  *link = block;
  Split(blocks, below, b.size, tie, &b.left, &b.right);
  filled_[bin / 64] |= uint64_t{1} << (bin % 64);
}

void FreeIndex::Erase(Block* blocks, BlockId block) {
  const Block& b = blocks[block];
  const size_t bin = BinOf(b.size);
  const int64_t tie = TieOf(b);
  BlockId* link = &roots_[bin];
  while (*link != block) {
    DCHECK(*link != kNone);
    Block& at = blocks[*link];
    link = Before(at, b.size, tie) ? &at.right : &at.left;
  }
  Unlink(blocks, link, bin);
}

void FreeIndex::Unlink(Block* blocks, BlockId* link, size_t bin) {
  const Block& b = blocks[*link];
  Merge(blocks, b.left, b.right, link);
  if (roots_[bin] == kNone) filled_[bin / 64] &= ~(uint64_t{1} << (bin % 64));
}

FreeIndex::Found FreeIndex::BestFit(Block* blocks, int64_t size) {
  Found found;
  found.bin = BinOf(size);
  for (BlockId* link = &roots_[found.bin]; *link != kNone;) {
    Block& at = blocks[*link];
    if (at.size < size) {
      link = &at.right;
    } else {
      found.link = link;
      link = &at.left;
    }
  }
  if (found.link == nullptr) {
    found.bin = NextBin(found.bin + 1);
    if (found.bin == kBins) return found;
    found.link = &roots_[found.bin];
    while (blocks[*found.link].left != kNone) found.link = &blocks[*found.link].left;
  }
  found.block = *found.link;
  return found;
}

void FreeIndex::Take(Block* blocks, const Found& found) { Unlink(blocks, found.link, found.bin); }

BlockId FreeIndex::LowerBound(const Block* blocks, int64_t size, int64_t tie) const {
  const size_t bin = BinOf(size);
  BlockId best = kNone;
  for (BlockId at = roots_[bin]; at != kNone;) {
    if (Before(blocks[at], size, tie)) {
      at = blocks[at].right;
    } else {
      best = at;
      at = blocks[at].left;
    }
  }
  if (best != kNone) return best;
  const size_t next = NextBin(bin + 1);
  return next == kBins ? kNone : Leftmost(blocks, roots_[next]);
}

BlockId FreeIndex::Next(const Block* blocks, BlockId block) const {
  return LowerBound(blocks, blocks[block].size, TieOf(blocks[block]) + 1);
}

BlockId FreeIndex::Previous(const Block* blocks, int64_t size, int64_t tie) const {
  const size_t bin = BinOf(size);
  BlockId best = kNone;
  for (BlockId at = roots_[bin]; at != kNone;) {
    if (Before(blocks[at], size, tie)) {
      best = at;
      at = blocks[at].right;
    } else {
      at = blocks[at].left;
    }
  }
  if (best != kNone) return best;
  const size_t previous = PreviousBin(bin);
  return previous == kBins ? kNone : Rightmost(blocks, roots_[previous]);
}

BlockId FreeIndex::First(const Block* blocks) const {
  const size_t bin = NextBin(0);
  return bin == kBins ? kNone : Leftmost(blocks, roots_[bin]);
}

}  // namespace tidemark::caching
