// Blocks that other streams used: their memory is free only once those streams have got past the free.
#include <algorithm>
#include <utility>

#include "graph/base/check.h"
#include "sim/allocators/caching/engine.h"

namespace tidemark::caching {

bool CachingAllocator::IsCaptured(int32_t stream) const {
  return std::ranges::any_of(captures_, [&](const Scope& capture) { return capture.stream == stream; });
}

// Whether requests on `stream` must leave events and cached memory alone: it is being captured into a graph.
bool CachingAllocator::HoldsBackEvents(int32_t stream) const {
  if (profile_.scope_counts_as_capture) return !scopes_.empty();
  return !captures_.empty() && IsCaptured(stream);
}

void CachingAllocator::RecordStream(BlockHandle block, int32_t stream) {
  Block& b = blocks_[block];
  if (stream == indices_[b.index].stream()) return;
  if (b.uses == kNone) {
    if (free_uses_.empty()) {
      b.uses = static_cast<UsesId>(uses_.size());
      uses_.emplace_back();
    } else {
      b.uses = free_uses_.back();
      free_uses_.pop_back();
    }
  }
  Uses& uses = uses_[b.uses];
  const auto add = [&](std::vector<int32_t>& streams) {
    if (std::ranges::find(streams, stream) == streams.end()) streams.push_back(stream);
  };
  add(uses.streams);
  if (HoldsBackEvents(current_stream_)) add(uses.captured);
}

void CachingAllocator::FreeUses(BlockId block) {
  const UsesId id = std::exchange(blocks_[block].uses, kNone);
  uses_[id].streams.clear();
  uses_[id].captured.clear();
  uses_[id].events = 0;
  free_uses_.push_back(id);
}

// insert_events: an event on each stream that used the block; it stays active until all are complete.
void CachingAllocator::InsertEvents(BlockId block) {
  Uses& uses = uses_[blocks_[block].uses];
  for (const int32_t stream : uses.streams) {
    ++uses.events;
    queues_.by_stream[stream].push_back({clock_.Record(stream, IsCaptured(stream)), block});
    queues_.order.Insert(stream);
  }
  uses.streams.clear();
}

// Frees that came during a capture: uses that were recorded in it end with it, the others get their events now.
void CachingAllocator::InsertDeferredEvents() {
  if (deferred_.empty()) return;
  const std::vector<BlockId> deferred = std::exchange(deferred_, {});
  for (const BlockId block : deferred) {
    Uses& uses = uses_[blocks_[block].uses];
    std::erase_if(uses.streams,
                  [&](int32_t stream) { return std::ranges::find(uses.captured, stream) != uses.captured.end(); });
    uses.captured.clear();
    InsertEvents(block);
    if (uses_[blocks_[block].uses].events > 0) continue;
    FreeUses(block);
    FreeBlock(block);
  }
}

void CachingAllocator::DropEvent(BlockId block) {
  if (--uses_[blocks_[block].uses].events > 0) return;
  FreeUses(block);
  FreeBlock(block);
}

// process_events: each stream's events in order, up to the first that isn't complete.
void CachingAllocator::ProcessEvents() {
  InsertDeferredEvents();
  queues_.order.List(&stream_scratch_);
  for (const int32_t stream : stream_scratch_) {
    std::deque<PendingEvent>& queue = queues_.by_stream[stream];
    while (!queue.empty() && clock_.IsComplete(stream, queue.front().number)) {
      const BlockId block = queue.front().block;
      DropEvent(block);
      queue.pop_front();
    }
    if (queue.empty()) queues_.order.Erase(stream);
  }
}

// synchronize_and_free_events: waits for every event, or for those of one private pool's blocks.
void CachingAllocator::WaitForEvents(uint32_t owner, bool all) {
  ++stats_.num_sync_all_streams;
  InsertDeferredEvents();
  queues_.order.List(&stream_scratch_);
  for (const int32_t stream : stream_scratch_) {
    std::deque<PendingEvent>& queue = queues_.by_stream[stream];
    std::deque<PendingEvent> others;
    for (; !queue.empty(); queue.pop_front()) {
      const PendingEvent event = queue.front();
      if (!all && PoolOf(blocks_[event.block]).owner != owner) {
        others.push_back(event);
        continue;
      }
      clock_.WaitFor(stream, event.number);
      DropEvent(event.block);
    }
    queue.swap(others);
    if (all) queues_.order.Erase(stream);
  }
}

}  // namespace tidemark::caching
