// Blocks that other streams may still use: which event each waits for, and when the host finds it complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "sim/allocator.h"
#include "sim/allocators/caching/block.h"

namespace tidemark::caching {

// The order in which PyTorch visits its queues of events: that of a flat hash map (ska::flat_hash_map, Robin Hood
// hashing with Fibonacci hashes, maximum load 1/2) whose keys are streams. It decides the accumulated inactive_split
// figures and nothing else.
class StreamOrder {
 public:
  void Insert(int32_t stream);  // nothing if it is there
  void Erase(int32_t stream);   // REQUIRES: it is there
  bool empty() const { return count_ == 0; }
  // The streams, in order. Valid until the next change.
  void List(std::vector<int32_t>* out) const;

 private:
  struct Slot {
    int distance = -1;  // from where the stream belongs; -1: empty
    int32_t stream = 0;
  };
  size_t Home(int32_t stream) const;
  void Grow();

  std::vector<Slot> slots_;
  size_t buckets_ = 0;
  int shift_ = 63;
  int max_lookups_ = 3;
  size_t count_ = 0;
};

// What is recorded on streams and what of it is complete. With events at once, everything always is.
class StreamClock {
 public:
  explicit StreamClock(EventTiming timing) : lazy_(timing == EventTiming::kLazy) {}

  // Records an event: its number on the stream. Events of a captured stream are complete at once.
  uint64_t Record(int32_t stream, bool captured);
  bool IsComplete(int32_t stream, uint64_t number) const;
  void WaitFor(int32_t stream, uint64_t number);
  void WaitForStream(int32_t stream);
  void WaitForDevice();

 private:
  struct Progress {
    uint64_t issued = 0;
    uint64_t completed = 0;
  };

  bool lazy_;
  std::unordered_map<int32_t, Progress> streams_;  // iterated only to treat all alike
};

// Streams that used a block beside its own, and events that it waits for.
struct Uses {
  std::vector<int32_t> streams;   // recorded and not yet turned into events
  std::vector<int32_t> captured;  // of those, recorded during a capture
  uint32_t events = 0;
};

struct PendingEvent {
  uint64_t number = 0;
  BlockId block = kNone;
};

// Queues of events by stream.
struct EventQueues {
  std::unordered_map<int32_t, std::deque<PendingEvent>> by_stream;  // looked up in the order of `order`
  StreamOrder order;
};

}  // namespace tidemark::caching
