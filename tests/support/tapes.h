// Tapes made by a seed, for property tests and benchmarks. The same seed gives the same tape everywhere.
#pragma once

#include <cstdint>
#include <string_view>

#include "graph/base/units.h"
#include "sim/tape.h"

namespace tidemark {

// A generator whose numbers don't depend on the standard library (SplitMix64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  // In [0, n). REQUIRES: n > 0.
  uint64_t Below(uint64_t n) { return Next() % n; }
  bool Chance(double probability) { return static_cast<double>(Next() >> 11) * 0x1p-53 < probability; }

 private:
  uint64_t state_;
};

struct TapeShape {
  size_t events = 1000;
  uint64_t seed = 1;
  int32_t streams = 1;
  Bytes live = kGiB * 2;  // about as much is alive at a time
  Bytes largest = kMiB * 600;
  double record = 0.2;  // chance of a record_stream before a free, with several streams
  double empty = 0;     // of an empty_cache after an allocation
  double synchronize = 0;
  double pools = 0;           // of a pool event
  bool release_pools = true;  // pools may lose their last user (not with expandable segments: PyTorch may crash)
  bool captures = false;      // pool events include stream captures
};

// Parameters, then steps: saved activations, gradients, temporaries, an optimizer.
Tape TrainingTape(const TapeShape& shape);
// Sizes on and around every threshold of the caching allocator, freed in random order.
Tape RandomTape(const TapeShape& shape);
// Nested scopes: freed in the reverse order of allocation, with a few survivors; bursts of equal sizes.
Tape NestedTape(const TapeShape& shape);

// The tape of a text; the test ends if it is none.
Tape TapeOf(std::string_view text);

}  // namespace tidemark
