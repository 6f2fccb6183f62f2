#include "sim/id_table.h"

#include <algorithm>
#include <bit>

#include "graph/base/check.h"

namespace tidemark {

uint32_t IdTable::Find(uint64_t id) const {
  if (id < dense_.size() && dense_[id] != kNone) return dense_[id];
  if (in_slots_ == 0) return kNone;
  return slots_[FindSlot(id)].number;
}

// The slot of `id`, or the empty one where it would go.
size_t IdTable::FindSlot(uint64_t id) const {
  const size_t mask = slots_.size() - 1;
  size_t at = Home(id);
  while (slots_[at].number != kNone && slots_[at].id != id) at = (at + 1) & mask;
  return at;
}

void IdTable::Grow() {
  std::vector<Slot> old = std::move(slots_);
  slots_.assign(std::max<size_t>(16, old.size() * 2), Slot{});
  shift_ = 64 - std::countr_zero(slots_.size());
  for (const Slot& slot : old) {
    if (slot.number != kNone) slots_[FindSlot(slot.id)] = slot;
  }
}

bool IdTable::Insert(uint64_t id, uint32_t number) {
  if (Find(id) != kNone) return false;
  ++count_;
  if (id >= dense_.size() && id < 4 * count_ + 1024) dense_.resize(std::max<size_t>(id + 1, 2 * dense_.size()), kNone);
  if (id < dense_.size()) {
    dense_[id] = number;
    return true;
  }
  if (in_slots_ * 2 >= slots_.size()) Grow();
  slots_[FindSlot(id)] = Slot{id, number};
  ++in_slots_;
  return true;
}

void IdTable::Erase(uint64_t id) {
  --count_;
  if (id < dense_.size() && dense_[id] != kNone) {
    dense_[id] = kNone;
    return;
  }
  const size_t mask = slots_.size() - 1;
  size_t hole = FindSlot(id);
  CHECK(slots_[hole].number != kNone);
  --in_slots_;
  // Whoever would no longer be found past the hole moves into it (linear probing without tombstones).
  for (size_t at = (hole + 1) & mask; slots_[at].number != kNone; at = (at + 1) & mask) {
    if (((at - Home(slots_[at].id)) & mask) < ((at - hole) & mask)) continue;
    slots_[hole] = slots_[at];
    hole = at;
  }
  slots_[hole] = Slot{};
}

bool IdSet::InsertAnywhere(uint64_t id) {
  auto next = intervals_.upper_bound(id);
  auto interval = intervals_.end();
  if (next != intervals_.begin() && std::prev(next)->second + 1 >= id && std::prev(next)->second + 1 != 0) {
    interval = std::prev(next);
    if (id <= interval->second) return false;
    interval->second = id;
  } else if (next != intervals_.begin() && id <= std::prev(next)->second) {
    return false;
  } else {
    interval = intervals_.emplace(id, id).first;
  }
  if (next != intervals_.end() && next->first == id + 1) {
    interval->second = next->second;
    next = intervals_.erase(next);
  }
  hot_ = &*interval;
  hot_limit_ = next == intervals_.end() ? std::numeric_limits<uint64_t>::max() : next->first - 1;
  return true;
}

}  // namespace tidemark
