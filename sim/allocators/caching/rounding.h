// How much a request really takes. PyTorch 2.14.1 c10/cuda/CUDACachingAllocator.cpp: round_size, get_allocation_size;
// c10/core/AllocatorConfig.cpp: roundup_power2_divisions.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "sim/allocators/caching/settings.h"

namespace tidemark::caching {

constexpr int64_t kMinBlockSize = 512;                 // all sizes are multiples of it
constexpr int64_t kSmallSize = int64_t{1} << 20;       // the largest rounded size that goes to the small pool
constexpr int64_t kSmallBuffer = int64_t{2} << 20;     // a segment of the small pool
constexpr int64_t kMinLargeAlloc = int64_t{10} << 20;  // rounded sizes from here on get a segment of their own
constexpr int64_t kRoundLarge = int64_t{2} << 20;      // and those are multiples of this
constexpr int64_t kTooLarge = int64_t{1} << 60;        // refused before anything is tried

// n rounded up to a multiple of a `divisions`-th part of the power of two below it. REQUIRES: divisions is a power of
// two.
constexpr int64_t RoundUpPowerOfTwoDivision(int64_t n, uint64_t divisions) {
  const uint64_t size = static_cast<uint64_t>(n);
  if (std::has_single_bit(size)) return n;
  const uint64_t floor = std::bit_floor(size);
  const uint64_t width = floor >> std::countr_zero(divisions);
  if (width == 0) return static_cast<int64_t>(2 * floor);
  return static_cast<int64_t>((size + width - 1) & ~(width - 1));
}

// The size of the block for a request of n bytes, before anything that isn't split off. REQUIRES: 0 < n < kTooLarge.
inline int64_t RoundSize(int64_t n, const Settings& settings) {
  if (n < kMinBlockSize) return kMinBlockSize;
  const int interval = std::clamp(static_cast<int>(std::bit_width(static_cast<uint64_t>(n))) - 21, 0, 15);
  const uint64_t divisions = settings.roundup_divisions[static_cast<size_t>(interval)];
  // divisions > n / 512 in exact arithmetic, without overflow for any power of two.
  if (divisions > 1 && divisions < (static_cast<uint64_t>(n) + kMinBlockSize - 1) / kMinBlockSize) {
    return RoundUpPowerOfTwoDivision(n, divisions);
  }
  return (n + kMinBlockSize - 1) / kMinBlockSize * kMinBlockSize;
}

// The size of the segment that is asked from the driver for a rounded size.
inline int64_t SegmentSize(int64_t rounded, const Settings& settings) {
  if (rounded <= kSmallSize) return kSmallBuffer;
  if (rounded < kMinLargeAlloc) return static_cast<int64_t>(settings.large_segment_size);
  return (rounded + kRoundLarge - 1) / kRoundLarge * kRoundLarge;
}

}  // namespace tidemark::caching
