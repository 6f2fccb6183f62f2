#include "sim/allocators/regions.h"

#include <iterator>

#include "graph/base/check.h"

namespace tidemark {

int64_t Regions::Add(int64_t size) {
  const int64_t region = next_++;
  sizes_.emplace(region, size);
  Insert({region, 0}, {.size = size});
  return region;
}

bool Regions::Find(int32_t owner, int64_t size, Chunk* found) const {
  const auto at = free_.lower_bound(Key(owner, size, -1, -1));
  if (at == free_.end() || std::get<0>(*at) != owner) return false;
  *found = {std::get<2>(*at), std::get<3>(*at), std::get<1>(*at)};
  return true;
}

void Regions::Take(const Chunk& chunk, int64_t size) {
  const auto at = chunks_.find({chunk.region, chunk.offset});
  CHECK(at != chunks_.end() && at->second.free && at->second.size >= size);
  free_.erase(KeyOf(at->first, at->second));
  const State rest{at->second.size - size, at->second.owner, true};
  at->second.size = size;
  at->second.free = false;
  if (rest.size == 0) return;
  const Position behind{chunk.region, chunk.offset + size};
  chunks_.emplace(behind, rest);
  free_.insert(KeyOf(behind, rest));
}

// Adds a free chunk, merged with free neighbours of the same owner.
void Regions::Insert(Position at, State state) {
  const auto merges = [&](const std::map<Position, State>::iterator& other) {
    return other != chunks_.end() && other->first.first == at.first && other->second.free &&
           other->second.owner == state.owner;
  };
  auto next = chunks_.lower_bound(at);
  if (merges(next)) {
    free_.erase(KeyOf(next->first, next->second));
    state.size += next->second.size;
    next = chunks_.erase(next);
  }
  const auto before = next == chunks_.begin() ? chunks_.end() : std::prev(next);
  if (merges(before)) {
    free_.erase(KeyOf(before->first, before->second));
    state.size += before->second.size;
    at = before->first;
    chunks_.erase(before);
  }
  chunks_.emplace(at, state);
  free_.insert(KeyOf(at, state));
}

void Regions::Free(const Chunk& chunk, int32_t owner) {
  const auto at = chunks_.find({chunk.region, chunk.offset});
  CHECK(at != chunks_.end() && !at->second.free && at->second.size == chunk.size);
  chunks_.erase(at);
  Insert({chunk.region, chunk.offset}, {chunk.size, owner, true});
}

void Regions::Disown() {
  std::vector<std::pair<Position, State>> owned;
  for (const auto& [at, state] : chunks_) {
    if (state.free && state.owner != kNobody) owned.emplace_back(at, state);
  }
  for (const auto& [at, state] : owned) {
    free_.erase(KeyOf(at, state));
    chunks_.erase(at);
  }
  for (const auto& [at, state] : owned) Insert(at, {state.size, kNobody, true});
}

std::pair<int64_t, int64_t> Regions::DropEmpty() {
  std::pair<int64_t, int64_t> dropped;
  for (auto region = sizes_.begin(); region != sizes_.end();) {
    const auto chunk = chunks_.find({region->first, 0});
    if (!chunk->second.free || chunk->second.size != region->second) {
      ++region;
      continue;
    }
    ++dropped.first;
    dropped.second += region->second;
    free_.erase(KeyOf(chunk->first, chunk->second));
    chunks_.erase(chunk);
    region = sizes_.erase(region);
  }
  return dropped;
}

}  // namespace tidemark
