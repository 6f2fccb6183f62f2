#include "sim/allocators/caching/stream_events.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "graph/base/check.h"

namespace tidemark::caching {
namespace {

// c10::Stream::hash: device type 1 (CUDA) << 56 | device 0 << 48 | stream id; ids of the pool of ordinary priority are
// index << 5 | priority type 1 << 1 | 1 (c10/cuda/CUDAStream.cpp). The pool has 32 streams and starts over after them.
uint64_t StreamHash(int32_t stream) {
  const uint64_t id = stream == 0 ? 0 : (static_cast<uint64_t>(stream - 1) << 5) | 3;
  return (uint64_t{1} << 56) | id;
}

}  // namespace

size_t StreamOrder::Home(int32_t stream) const {
  return static_cast<size_t>((0x9e3779b97f4a7c15ull * StreamHash(stream)) >> shift_);
}

void StreamOrder::Grow() {
  const std::vector<Slot> old = std::exchange(slots_, {});
  buckets_ = std::max<size_t>(4, 2 * buckets_);
  const int log = std::countr_zero(buckets_);
  shift_ = 64 - log;
  max_lookups_ = std::max(4, log);
  slots_.assign(buckets_ + static_cast<size_t>(max_lookups_), Slot{});
  count_ = 0;
  for (const Slot& slot : old) {
    if (slot.distance >= 0) Insert(slot.stream);
  }
}

void StreamOrder::Insert(int32_t stream) {
  if (buckets_ == 0) Grow();
  size_t at = Home(stream);
  int distance = 0;
  for (; slots_[at].distance >= distance; ++at, ++distance) {
    if (slots_[at].stream == stream) return;
  }
  if (distance == max_lookups_ || 2 * (count_ + 1) > buckets_) {
    Grow();
    return Insert(stream);
  }
  if (slots_[at].distance < 0) {
    slots_[at] = Slot{distance, stream};
    ++count_;
    return;
  }
  // The richer stream that was here moves on, and whoever is richer than it, and so on.
  Slot moving = std::exchange(slots_[at], Slot{distance, stream});
  const size_t placed = at;
  for (++moving.distance, ++at;; ++at) {
    if (slots_[at].distance < 0) {
      slots_[at] = moving;
      ++count_;
      return;
    }
    if (slots_[at].distance < moving.distance) {
      std::swap(slots_[at], moving);
      ++moving.distance;
    } else if (++moving.distance == max_lookups_) {
      std::swap(moving.stream, slots_[placed].stream);
      Grow();
      return Insert(moving.stream);
    }
  }
}

void StreamOrder::Erase(int32_t stream) {
  size_t at = Home(stream);
  while (slots_[at].distance < 0 || slots_[at].stream != stream) {
    ++at;
    CHECK(at < slots_.size());
  }
  slots_[at] = Slot{};
  --count_;
  for (size_t next = at + 1; next < slots_.size() && slots_[next].distance > 0; ++at, ++next) {
    slots_[at] = Slot{slots_[next].distance - 1, slots_[next].stream};
    slots_[next] = Slot{};
  }
}

void StreamOrder::List(std::vector<int32_t>* out) const {
  out->clear();
  for (const Slot& slot : slots_) {
    if (slot.distance >= 0) out->push_back(slot.stream);
  }
}

uint64_t StreamClock::Record(int32_t stream, bool captured) {
  if (!lazy_) return 0;
  Progress& progress = streams_[stream];
  return captured ? progress.completed : ++progress.issued;
}

bool StreamClock::IsComplete(int32_t stream, uint64_t number) const {
  if (!lazy_) return true;
  const auto found = streams_.find(stream);
  return found != streams_.end() && found->second.completed >= number;
}

void StreamClock::WaitFor(int32_t stream, uint64_t number) {
  if (!lazy_) return;
  Progress& progress = streams_[stream];
  progress.completed = std::max(progress.completed, number);
}

void StreamClock::WaitForStream(int32_t stream) {
  if (!lazy_) return;
  Progress& progress = streams_[stream];
  progress.completed = progress.issued;
}

void StreamClock::WaitForDevice() {
  if (!lazy_) return;
  for (auto& [stream, progress] : streams_) progress.completed = progress.issued;
}

}  // namespace tidemark::caching
