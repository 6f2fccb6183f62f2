#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <limits>
#include <memory>
#include <optional>

#include "sim/planners/plan.h"

namespace tidemark {
namespace {

// What is placed, by offset, in chunks of columns: nearly all of the time goes into looking for those that live at the
// same time, sixteen at once; an insertion moves one chunk.
class Shelf {
 public:
  Shelf() { chunks_.push_back(std::make_unique<Chunk>()); }

  // The lowest offset at which `size` is free during [begin, end).
  int64_t LowestRoom(int32_t begin, int32_t end, int64_t size) const {
    int64_t at = 0;
    for (const auto& chunk : chunks_) {
      if (chunk->first_begin >= end || begin >= chunk->last_end) continue;
      for (size_t block = 0; block < chunk->count; block += kBlock) {
        if (!AnyMeets(*chunk, block, begin, end)) continue;
        for (size_t k = block; k < block + kBlock; ++k) {
          if (chunk->begins[k] >= end || begin >= chunk->ends[k]) continue;
          if (chunk->offsets[k] >= at + size) return at;
          at = std::max(at, chunk->tops[k]);
        }
      }
    }
    return at;
  }

  void Insert(int32_t begin, int32_t end, int64_t offset, int64_t top) {
    const auto after = std::ranges::upper_bound(chunks_.begin() + 1, chunks_.end(), offset, {},
                                                [](const auto& chunk) { return chunk->offsets[0]; });
    size_t index = static_cast<size_t>(after - chunks_.begin()) - 1;
    if (chunks_[index]->count == kChunk) {
      Split(index);
      if (chunks_[index + 1]->offsets[0] <= offset) ++index;
    }
    Chunk& chunk = *chunks_[index];
    const auto offsets_end = chunk.offsets.begin() + static_cast<std::ptrdiff_t>(chunk.count);
    const auto at =
        static_cast<size_t>(std::upper_bound(chunk.offsets.begin(), offsets_end, offset) - chunk.offsets.begin());
    const auto put = [&](auto& column, auto value) {
      const auto place = column.begin() + static_cast<std::ptrdiff_t>(at);
      std::copy_backward(place, column.begin() + static_cast<std::ptrdiff_t>(chunk.count),
                         column.begin() + static_cast<std::ptrdiff_t>(chunk.count) + 1);
      *place = value;
    };
    put(chunk.begins, begin);
    put(chunk.ends, end);
    put(chunk.offsets, offset);
    put(chunk.tops, top);
    ++chunk.count;
    chunk.first_begin = std::min(chunk.first_begin, begin);
    chunk.last_end = std::max(chunk.last_end, end);
  }

 private:
  static constexpr size_t kBlock = 16;
  static constexpr size_t kChunk = 8 * kBlock;
  static constexpr int32_t kNever = std::numeric_limits<int32_t>::max();

  // Entries behind `count` meet nobody.
  struct Chunk {
    Chunk() { begins.fill(kNever), ends.fill(-1); }
    std::array<int32_t, kChunk> begins, ends;
    std::array<int64_t, kChunk> offsets, tops;
    size_t count = 0;
    int32_t first_begin = kNever, last_end = -1;
  };

  static bool AnyMeets(const Chunk& chunk, size_t block, int32_t begin, int32_t end) {
    int32_t meets = 0;
    for (size_t k = 0; k < kBlock; ++k) {
      meets |=
          static_cast<int32_t>(chunk.begins[block + k] < end) & static_cast<int32_t>(chunk.ends[block + k] > begin);
    }
    return meets != 0;
  }

  // The upper half of a full chunk becomes a chunk of its own.
  void Split(size_t index) {
    Chunk& full = *chunks_[index];
    auto upper = std::make_unique<Chunk>();
    constexpr auto kHalf = static_cast<std::ptrdiff_t>(kChunk / 2);
    std::copy(full.begins.begin() + kHalf, full.begins.end(), upper->begins.begin());
    std::copy(full.ends.begin() + kHalf, full.ends.end(), upper->ends.begin());
    std::copy(full.offsets.begin() + kHalf, full.offsets.end(), upper->offsets.begin());
    std::copy(full.tops.begin() + kHalf, full.tops.end(), upper->tops.begin());
    std::fill(full.begins.begin() + kHalf, full.begins.end(), kNever);
    std::fill(full.ends.begin() + kHalf, full.ends.end(), -1);
    full.count = upper->count = kChunk / 2;
    for (Chunk* half : {&full, upper.get()}) {
      half->first_begin = *std::min_element(half->begins.begin(), half->begins.end());
      half->last_end = *std::max_element(half->ends.begin(), half->ends.end());
    }
    chunks_.insert(chunks_.begin() + static_cast<std::ptrdiff_t>(index) + 1, std::move(upper));
  }

  std::vector<std::unique_ptr<Chunk>> chunks_;  // by offset; the first may be empty
};

// Shelves for the whole of time, and for ever shorter windows of it: whoever lives within one window needn't look at
// what lies in others.
class Windows {
 public:
  Windows(int32_t steps, size_t buffers) {
    for (size_t count = std::bit_floor(buffers / kBuffersOfWindow); count > 1; count /= 8) AddLevel(steps, count);
    AddLevel(steps, 1);
  }

  int64_t LowestRoom(int32_t begin, int32_t end, int64_t size) const {
    const auto level =
        std::ranges::find_if(levels_, [&](const Level& l) { return begin / l.length == (end - 1) / l.length; });
    return level->shelves[static_cast<size_t>(begin / level->length)].LowestRoom(begin, end, size);
  }

  void Insert(int32_t begin, int32_t end, int64_t offset, int64_t top) {
    for (Level& level : levels_) {
      for (int32_t window = begin / level.length; window <= (end - 1) / level.length; ++window) {
        level.shelves[static_cast<size_t>(window)].Insert(begin, end, offset, top);
      }
    }
  }

 private:
  static constexpr size_t kBuffersOfWindow = 1000;

  struct Level {
    int32_t length;  // of a window
    std::vector<Shelf> shelves;
  };

  void AddLevel(int32_t steps, size_t count) {
    const auto length = static_cast<int32_t>(static_cast<size_t>(steps) / count) + 1;
    levels_.push_back({length, std::vector<Shelf>(count)});
  }

  std::vector<Level> levels_;  // shortest windows first; the last is one for all
};

// The last step in which anything lives, and one; none where lifetimes don't fit into 32 bits.
std::optional<int32_t> StepsOf(std::span<const PlanBuffer> buffers) {
  int64_t end = 0;
  for (const PlanBuffer& b : buffers) {
    if (b.alive.begin < 0) return std::nullopt;
    end = std::max(end, b.alive.end);
  }
  if (end >= std::numeric_limits<int32_t>::max()) return std::nullopt;
  return static_cast<int32_t>(end);
}

}  // namespace

void FirstFit(std::span<const PlanBuffer> buffers, std::span<const uint32_t> order, std::span<const uint32_t> given,
              StaticPlan& plan) {
  std::vector<PlanBuffer> compressed;
  std::optional<int32_t> steps = StepsOf(buffers);
  if (!steps) {
    compressed = CompressLifetimes(buffers);
    buffers = compressed;
    steps = StepsOf(buffers);
  }
  Windows windows(*steps, buffers.size());
  plan.height = 0;
  const auto insert = [&](uint32_t k) {
    const PlanBuffer& b = buffers[k];
    const int64_t top = plan.offsets[k] + b.size;
    windows.Insert(static_cast<int32_t>(b.alive.begin), static_cast<int32_t>(b.alive.end), plan.offsets[k], top);
    plan.height = std::max(plan.height, top);
  };
  for (const uint32_t k : given) insert(k);
  for (const uint32_t k : order) {
    const PlanBuffer& b = buffers[k];
    plan.offsets[k] =
        windows.LowestRoom(static_cast<int32_t>(b.alive.begin), static_cast<int32_t>(b.alive.end), b.size);
    insert(k);
  }
}

}  // namespace tidemark
