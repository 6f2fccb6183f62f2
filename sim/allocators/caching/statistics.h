// memory_stats(): which number moves when. c10/core/CachingDeviceAllocator.h (PyTorch 2.14.1),
// torch/csrc/cuda/Module.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "sim/allocator.h"

namespace tidemark::caching {

// Statistics that exist three times: for both pools together and for each. In the order of memory_stats().
enum Counter : uint8_t {
  kAllocation,
  kSegment,
  kActive,
  kInactiveSplit,
  kAllocatedBytes,
  kReservedBytes,
  kActiveBytes,
  kInactiveSplitBytes,
  kRequestedBytes,
  kCounters,
};

enum PoolClass : uint8_t { kAll, kSmallPool, kLargePool, kPoolClasses };

// One statistic: {current, peak, freed}; `allocated`, all increases ever, is current + freed - initial.
struct Stat {
  int64_t current = 0;
  int64_t peak = 0;
  int64_t freed = 0;
  int64_t initial = 0;

  void Increase(int64_t by) {
    current += by;
    peak = current > peak ? current : peak;
  }
  void Decrease(int64_t by) {
    current -= by;
    freed += by;
  }
};

struct Statistics {
  std::array<std::array<Stat, kCounters>, kPoolClasses> arrays;
  Stat oversize_allocations;
  Stat oversize_segments;
  int64_t num_alloc_retries = 0;
  int64_t num_ooms = 0;
  int64_t max_split_size = -1;  // -1: unlimited
  int64_t num_sync_all_streams = 0;
  int64_t num_device_alloc = 0;
  int64_t num_device_free = 0;
  int64_t num_oom_rejections = 0;

  int64_t Current(Counter counter) const { return arrays[kAll][counter].current; }
  void Increase(Counter counter, PoolClass pool, int64_t by) {
    arrays[kAll][counter].Increase(by);
    arrays[pool][counter].Increase(by);
  }
  void Decrease(Counter counter, PoolClass pool, int64_t by) {
    arrays[kAll][counter].Decrease(by);
    arrays[pool][counter].Decrease(by);
  }
  // A net change: up, down, or nothing.
  void Change(Counter counter, PoolClass pool, int64_t by) {
    if (by > 0) Increase(counter, pool, by);
    if (by < 0) Decrease(counter, pool, -by);
  }
  void ResetPeak();
  // What is current now was there before the first event.
  void StartHere();
  // Releases without throw_on_cudamalloc_oom have no num_oom_rejections.
  std::vector<Statistic> List(bool with_rejections) const;
};

}  // namespace tidemark::caching
