// What the numbers of a tape mean: maps from ids as written to small consecutive numbers. For the readers of tapes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <utility>
#include <vector>

namespace tidemark {

// Id -> number. Ids that are about as small as their count live in an array (a load each), all others in an
// open-addressing hash table, so that neither a tape with ids 0, 1, 2, … nor one with addresses for ids is slow.
// Iteration isn't offered.
class IdTable {
 public:
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  // The number of `id`, or kNone.
  uint32_t Find(uint64_t id) const;
  // False if `id` is there already. REQUIRES: number != kNone.
  bool Insert(uint64_t id, uint32_t number);
  // REQUIRES: `id` is there.
  void Erase(uint64_t id);

 private:
  struct Slot {
    uint64_t id = 0;
    uint32_t number = kNone;
  };
  size_t Home(uint64_t id) const { return (id * 0x9e3779b97f4a7c15ull) >> shift_; }
  size_t FindSlot(uint64_t id) const;
  void Grow();

  std::vector<uint32_t> dense_;
  std::vector<Slot> slots_;
  int shift_ = 64;
  size_t in_slots_ = 0;
  size_t count_ = 0;
};

// A set of ids that never shrinks, as intervals: ids that come in rising order without gaps take one entry however many
// they are.
class IdSet {
 public:
  // False if `id` was in it.
  bool Insert(uint64_t id) {
    if (hot_ != nullptr && hot_->second + 1 == id && id < hot_limit_) {
      ++hot_->second;
      return true;
    }
    return InsertAnywhere(id);
  }

 private:
  bool InsertAnywhere(uint64_t id);

  std::map<uint64_t, uint64_t> intervals_;  // first -> last, both included, so that the highest id fits
  // The interval that grew last, and the first id that it can't grow to without meeting the next one.
  std::pair<const uint64_t, uint64_t>* hot_ = nullptr;
  uint64_t hot_limit_ = 0;
};

}  // namespace tidemark
