#include "passes/compile/configurations.h"

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

namespace tidemark::compile {
namespace {

constexpr int64_t kSmallPointwise = 256;
constexpr int64_t kPersistentBlock = 4096;  // elements
constexpr std::array<int64_t, 4> kRowsPerBlock = {1, 8, 32, 128};
constexpr int64_t kOneInnerConfiguration = 256;
// Of looped reductions.
constexpr int64_t kLongestBlock = 2048;
constexpr int64_t kManyLoads = 10;  // and reductions: with as many rows they take many registers
constexpr int64_t kManyRows = 1024;
constexpr int64_t kElementsPerWarp = 128;

// What a looped reduction is compiled for: a block of results by elements, and warps.
struct Looped {
  int64_t results = 1;
  int64_t length = 1;
  int64_t warps = 1;
  bool operator==(const Looped&) const = default;
};

// Counts the configurations that a looped reduction is tried in where nothing is known of its memory accesses.
class LoopedHeuristic {
 public:
  // Powers of two; `loads`: and reductions.
  LoopedHeuristic(int64_t results, int64_t length, int64_t loads)
      : results_(results), length_(length), loads_(loads), is_heavy_(results >= kManyRows && loads >= kManyLoads) {}

  int Count() const {
    const int64_t longest = std::min(length_, is_heavy_ ? kLongestBlock / 2 : kLongestBlock);
    const std::vector<Looped> all = {Make(length_ <= kLongestBlock ? 2 : 1, longest, 0, is_heavy_),
                                     Outer(),
                                     Make(length_ <= 256 ? 2 * (256 / length_) : 1, longest, 0, is_heavy_),
                                     Make(64, 64, 0, false),
                                     Make(8, 512, 0, false),
                                     Make(64, 4, 8, false)};
    std::vector<Looped> distinct;
    for (const Looped& c : all) {
      if (std::ranges::find(distinct, c) == distinct.end()) distinct.push_back(c);
    }
    return static_cast<int>(distinct.size());
  }

 private:
  // `warps`: 0 for as many as the block needs.
  Looped Make(int64_t results, int64_t length, int64_t warps, bool is_heavy) const {
    Looped c = {std::min(results, results_), std::min(length, length_)};
    int64_t target = c.results * c.length;
    if (results_ * length_ < target) target /= 8;
    while (c.results < results_ && c.results * c.length < target) c.results *= 2;
    while (c.length < length_ && c.results * c.length < target) c.length *= 2;
    const int64_t most = (length <= 8192 ? 16 : 32) / (is_heavy ? 2 : 1);
    if (warps == 0) warps = c.results * c.length / kElementsPerWarp;
    c.warps = RoundedUp(std::clamp<int64_t>(warps, 2, most));
    while (c.length > 1 && c.results * c.length > target) c.length /= 2;
    return c;
  }

  // For neighbours along the results.
  Looped Outer() const {
    constexpr int64_t kBlock = 512;
    if (results_ <= 1024)
      return Make(std::max<int64_t>(std::min<int64_t>(results_ / 128, 8), 2), std::min<int64_t>(length_, 64), 0,
                  is_heavy_);
    if (results_ / 4096 <= 8) return Make(16, kBlock / 16, 0, is_heavy_);
    const int64_t rows = std::max<int64_t>(std::min<int64_t>(256, RoundedUp(results_ / 4096)), 64);
    if (loads_ - 1 < 4 || length_ <= 128) return Make(rows, kBlock / rows, 0, is_heavy_);
    return Make(std::min<int64_t>(rows, 32), length_ >= 2048 ? 64 : 32, 4, is_heavy_);
  }

  int64_t results_;
  int64_t length_;
  int64_t loads_;
  bool is_heavy_;
};

}  // namespace

int64_t RoundedUp(int64_t n) { return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n))); }

int PointwiseConfigurations(int64_t elements) { return RoundedUp(elements) < kSmallPointwise ? 1 : 2; }

int PersistentConfigurations(int64_t results, int64_t length, ReductionHint hint) {
  length = RoundedUp(length);
  if (hint == ReductionHint::kOuter || (hint == ReductionHint::kInner && length >= kOneInnerConfiguration)) return 1;
  const auto count = std::ranges::count_if(kRowsPerBlock, [&](int64_t rows) {
    return rows == 1 || (length * rows <= kPersistentBlock && rows <= RoundedUp(results));
  });
  return static_cast<int>(count);
}

int LoopedConfigurations(int64_t results, int64_t length, int64_t loads, ReductionHint hint) {
  if (hint != ReductionHint::kDefault) return 1;
  return LoopedHeuristic(RoundedUp(results), RoundedUp(length), loads).Count();
}

}  // namespace tidemark::compile
