// Chunks of regions with best fit and immediate merging: the core that TensorFlow's BFC allocator and the CUDA driver's
// pools share.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

namespace tidemark {

// Regions of memory cut into chunks, which are free or not. Free chunks belong to an owner (a stream, or nobody); only
// neighbours of one owner are merged. O(log n) for each call.
class Regions {
 public:
  struct Chunk {
    int64_t region = 0;
    int64_t offset = 0;
    int64_t size = 0;
    bool operator==(const Chunk&) const = default;
  };
  static constexpr int32_t kNobody = -1;

  // A new region, all free and nobody's. Returns its number; numbers rise.
  int64_t Add(int64_t size);
  // The smallest free chunk of the owner with at least `size` bytes, the first among equals; false: none.
  bool Find(int32_t owner, int64_t size, Chunk* found) const;
  // Uses the first `size` bytes of a free chunk; the rest stays free, with the same owner.
  void Take(const Chunk& chunk, int64_t size);
  // REQUIRES: `chunk` was taken with this size.
  void Free(const Chunk& chunk, int32_t owner);
  // What anybody freed is nobody's from here on.
  void Disown();
  // Drops regions that are one free chunk. Returns how many and how large they were.
  std::pair<int64_t, int64_t> DropEmpty();
  // number -> size
  const std::map<int64_t, int64_t>& sizes() const { return sizes_; }

 private:
  struct State {
    int64_t size = 0;
    int32_t owner = kNobody;
    bool free = true;
  };
  using Position = std::pair<int64_t, int64_t>;                // region, offset
  using Key = std::tuple<int32_t, int64_t, int64_t, int64_t>;  // owner, size, region, offset
  static Key KeyOf(const Position& at, const State& state) { return {state.owner, state.size, at.first, at.second}; }
  void Insert(Position at, State state);

  int64_t next_ = 0;
  std::map<int64_t, int64_t> sizes_;
  std::map<Position, State> chunks_;
  std::set<Key> free_;
};

}  // namespace tidemark
