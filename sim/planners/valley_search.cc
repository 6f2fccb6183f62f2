#include "sim/planners/valley_search.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "graph/base/check.h"

namespace tidemark {
namespace {

constexpr int64_t kWall = std::numeric_limits<int64_t>::max() / 2;

// SplitMix64.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    state_ += 0x9e3779b97f4a7c15ull;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

 private:
  uint64_t state_;
};

// 1 1 2 1 1 2 4 1 1 2 1 1 2 4 8 …
uint64_t Luby(uint64_t i) {
  for (uint64_t k = 1;; ++k) {
    const uint64_t full = (uint64_t{1} << k) - 1;
    if (i == full) return uint64_t{1} << (k - 1);
    if (i < full) return Luby(i - (uint64_t{1} << (k - 1)) + 1);
  }
}

class Search {
 public:
  Search(std::span<const PlanBuffer> buffers, int64_t capacity) : capacity_(capacity) {
    int32_t steps = 0;
    for (const PlanBuffer& b : buffers) {
      buffers_.push_back({static_cast<int32_t>(b.alive.begin), static_cast<int32_t>(b.alive.end), b.size});
      steps = std::max(steps, buffers_.back().end);
    }
    steps_ = steps;
    begins_.resize(static_cast<size_t>(steps));
    ends_.resize(static_cast<size_t>(steps));
    for (size_t k = 0; k < buffers_.size(); ++k) {
      begins_[At(buffers_[k].begin)].push_back(static_cast<int32_t>(k));
      ends_[At(buffers_[k].end - 1)].push_back(static_cast<int32_t>(k));
    }
    offsets_.resize(buffers_.size());
    keys_.resize(buffers_.size());
  }

  enum class Answer : uint8_t { kFound, kNone, kLimit };

  // One try with choices in the order of a measure blurred by `noise`.
  Answer Try(int measure, double noise, uint64_t node_limit, Dice& dice) {
    Reset(measure, noise, dice);
    if (!PushParts(0, steps_, kNoFrame)) return Answer::kNone;
    while (!agenda_.empty()) {
      if (++nodes_ > node_limit) return Answer::kLimit;
      const Part part = agenda_.back();
      agenda_.pop_back();
      int32_t failed = Decide(part);
      while (failed != kNoFrame) {
        if (failed == kRoot) return Answer::kNone;
        failed = NextOption(failed);
      }
    }
    return Answer::kFound;
  }

  uint64_t nodes() const { return nodes_; }
  const std::vector<int64_t>& offsets() const { return offsets_; }

 private:
  static constexpr int32_t kNoFrame = -1;
  static constexpr int32_t kRoot = -2;

  struct Buffer {
    int32_t begin, end;
    int64_t size;
  };
  // Steps whose buffers concern nobody else; `parent`: the decision after which this is to be solved.
  struct Part {
    int32_t low, high, parent;
  };
  struct Frame {
    Part part;
    int32_t valley_begin, valley_end;
    bool left;
    bool raised;
    int64_t floor;
    uint32_t option, options_end;  // in options_
    uint32_t options_begin;
    size_t trail;
    size_t agenda;
  };
  struct Change {
    int32_t step;  // -1: `buffer` was placed
    int32_t buffer;
    int64_t floor, top;
  };

  static size_t At(int32_t index) { return static_cast<size_t>(index); }

  void Reset(int measure, double noise, Dice& dice) {
    nodes_ = 0;
    const size_t steps = At(steps_);
    floor_.assign(steps, 0);
    top_.assign(steps, 0);
    remaining_.assign(steps, 0);
    crossing_.assign(steps + 1, 0);
    std::ranges::fill(offsets_, -1);
    trail_.clear();
    agenda_.clear();
    frames_.clear();
    options_.clear();
    for (size_t k = 0; k < buffers_.size(); ++k) {
      const Buffer& b = buffers_[k];
      for (int32_t s = b.begin; s < b.end; ++s) remaining_[At(s)] += b.size;
      for (int32_t s = b.begin + 1; s < b.end; ++s) ++crossing_[At(s)];
      const double length = b.end - b.begin;
      const double size = static_cast<double>(b.size);
      const double key = measure == 0 ? length * size : measure == 1 ? size * 1e4 + length : length * 1e9 + size;
      keys_[k] = noise > 0 ? key * (1 + noise * (2 * dice.Unit() - 1)) : key;
    }
  }

  // The independent parts of [low, high) that still hold something become the next to be solved.
  bool PushParts(int32_t low, int32_t high, int32_t parent) {
    int32_t s = low;
    while (s < high) {
      while (s < high && remaining_[At(s)] == 0) ++s;
      if (s == high) break;
      const int32_t begin = s;
      for (++s; s < high && remaining_[At(s)] > 0 && crossing_[At(s)] > 0;) ++s;
      for (int32_t k = begin; k < s; ++k) {
        if (floor_[At(k)] + remaining_[At(k)] > capacity_) return false;
      }
      agenda_.push_back({begin, s, parent});
    }
    return true;
  }

  // Whether a buffer can lie in [begin, end) at `floor`, resting on something there.
  bool Rests(int32_t buffer, int64_t floor, int32_t begin, int32_t end) const {
    const Buffer& b = buffers_[At(buffer)];
    if (offsets_[At(buffer)] >= 0 || b.begin < begin || b.end > end) return false;
    if (floor == 0) return true;
    for (int32_t s = b.begin; s < b.end; ++s) {
      if (top_[At(s)] == floor) return true;
    }
    return false;
  }

  // Looks for the edge with the fewest choices and makes the first. Returns the frame that failed, or kNoFrame.
  int32_t Decide(const Part& part) {
    Frame frame{};
    frame.part = part;
    int64_t fewest = kWall;
    int64_t least_room = kWall;
    for (int32_t i = part.low; i < part.high;) {
      const int64_t floor = floor_[At(i)];
      int32_t j = i + 1;
      while (j < part.high && floor_[At(j)] == floor) ++j;
      const int64_t before = i > part.low ? floor_[At(i - 1)] : kWall;
      const int64_t behind = j < part.high ? floor_[At(j)] : kWall;
      if (before > floor && behind > floor) {
        for (const bool left : {true, false}) {
          const int32_t edge = left ? i : j - 1;
          const int64_t room = capacity_ - remaining_[At(edge)] - floor;
          int64_t choices = room > 0 ? 1 : 0;
          for (const int32_t b : left ? begins_[At(edge)] : ends_[At(edge)]) choices += Rests(b, floor, i, j) ? 1 : 0;
          if (choices == 0) return Fail(part.parent);
          if (choices > fewest || (choices == fewest && room >= least_room)) continue;
          fewest = choices;
          least_room = room;
          frame.valley_begin = i;
          frame.valley_end = j;
          frame.left = left;
          frame.floor = floor;
        }
      }
      i = j;
    }
    CHECK(fewest < kWall);
    Open(frame);
    return NextOption(static_cast<int32_t>(frames_.size()) - 1);
  }

  static int32_t Fail(int32_t parent) { return parent == kNoFrame ? kRoot : parent; }

  void Open(Frame& frame) {
    frame.options_begin = frame.option = static_cast<uint32_t>(options_.size());
    const int32_t edge = frame.left ? frame.valley_begin : frame.valley_end - 1;
    for (const int32_t b : frame.left ? begins_[At(edge)] : ends_[At(edge)]) {
      if (!Rests(b, frame.floor, frame.valley_begin, frame.valley_end)) continue;
      // Of buffers that are alike, one is tried.
      const bool alike = std::any_of(options_.begin() + frame.options_begin, options_.end(), [&](int32_t other) {
        const Buffer& x = buffers_[At(b)];
        const Buffer& y = buffers_[At(other)];
        return x.begin == y.begin && x.end == y.end && x.size == y.size;
      });
      if (!alike) options_.push_back(b);
    }
    std::stable_sort(options_.begin() + frame.options_begin, options_.end(),
                     [&](int32_t a, int32_t b) { return keys_[At(a)] > keys_[At(b)]; });
    frame.options_end = static_cast<uint32_t>(options_.size());
    frame.trail = trail_.size();
    frame.agenda = agenda_.size();
    frames_.push_back(frame);
  }

  // Takes back what followed from frame `id`, and makes its next choice. Returns the frame that failed, or kNoFrame.
  int32_t NextOption(int32_t id) {
    frames_.resize(At(id) + 1);
    Frame& frame = frames_[At(id)];
    options_.resize(frame.options_end);
    agenda_.resize(frame.agenda);
    for (;;) {
      Undo(frame.trail);
      if (frame.option < frame.options_end) {
        Place(options_[frame.option++], frame.floor);
      } else if (frame.raised || !Raise(frame)) {
        const int32_t parent = frame.part.parent;
        options_.resize(frame.options_begin);
        frames_.pop_back();
        return Fail(parent);
      }
      if (PushParts(frame.part.low, frame.part.high, id)) return kNoFrame;
      agenda_.resize(frame.agenda);
    }
  }

  void Place(int32_t id, int64_t offset) {
    const Buffer& b = buffers_[At(id)];
    offsets_[At(id)] = offset;
    for (int32_t s = b.begin; s < b.end; ++s) {
      trail_.push_back({s, id, floor_[At(s)], top_[At(s)]});
      floor_[At(s)] = top_[At(s)] = offset + b.size;
      remaining_[At(s)] -= b.size;
    }
    for (int32_t s = b.begin + 1; s < b.end; ++s) --crossing_[At(s)];
    trail_.push_back({-1, id, 0, 0});
  }

  void Undo(size_t mark) {
    while (trail_.size() > mark) {
      const Change change = trail_.back();
      trail_.pop_back();
      if (change.step < 0) {
        const Buffer& b = buffers_[At(change.buffer)];
        offsets_[At(change.buffer)] = -1;
        for (int32_t s = b.begin; s < b.end; ++s) remaining_[At(s)] += b.size;
        for (int32_t s = b.begin + 1; s < b.end; ++s) ++crossing_[At(s)];
      } else {
        floor_[At(change.step)] = change.floor;
        top_[At(change.step)] = change.top;
      }
    }
  }

  // Nothing lies at the edge at this height: the floor of the steps from the edge up to the next one where something
  // could lie goes up to the lowest height at which anything could come to rest there. False: that is too high.
  bool Raise(Frame& frame) {
    frame.raised = true;
    const int32_t begin = frame.valley_begin;
    const int32_t end = frame.valley_end;
    const auto open = [&](int32_t b) { return offsets_[At(b)] < 0; };
    int32_t low = begin;
    int32_t high = end;
    if (frame.left) {
      const auto starts_here = [&](int32_t s) {
        return std::ranges::any_of(begins_[At(s)], [&](int32_t b) { return open(b) && buffers_[At(b)].end <= end; });
      };
      for (high = begin + 1; high < end && !starts_here(high);) ++high;
    } else {
      const auto stops_here = [&](int32_t s) {
        return std::ranges::any_of(ends_[At(s)], [&](int32_t b) { return open(b) && buffers_[At(b)].begin >= begin; });
      };
      for (low = end - 1; low > begin && !stops_here(low - 1);) --low;
    }
    int64_t height = kWall;
    if (begin > frame.part.low) height = floor_[At(begin - 1)];
    if (end < frame.part.high) height = std::min(height, floor_[At(end)]);
    const int32_t rest_begin = frame.left ? high : begin;
    const int32_t rest_end = frame.left ? end : low;
    for (int32_t s = rest_begin; s < rest_end; ++s) {
      for (const int32_t b : begins_[At(s)]) {
        if (open(b) && buffers_[At(b)].end <= rest_end) height = std::min(height, frame.floor + buffers_[At(b)].size);
      }
    }
    for (int32_t s = low; s < high; ++s) {
      if (height > capacity_ - remaining_[At(s)]) return false;
    }
    for (int32_t s = low; s < high; ++s) {
      trail_.push_back({s, -1, floor_[At(s)], top_[At(s)]});
      floor_[At(s)] = height;
    }
    return true;
  }

  int64_t capacity_;
  int32_t steps_ = 0;
  std::vector<Buffer> buffers_;
  std::vector<std::vector<int32_t>> begins_, ends_;  // buffers by their first and last step
  std::vector<int64_t> floor_;                       // by step: nothing will be placed below
  std::vector<int64_t> top_;                         // of the highest buffer placed
  std::vector<int64_t> remaining_;                   // sizes that are still to be placed
  std::vector<int32_t> crossing_;  // buffers still to be placed that are alive on both sides of the step's beginning
  std::vector<int64_t> offsets_;
  std::vector<double> keys_;
  std::vector<Change> trail_;
  std::vector<Part> agenda_;
  std::vector<Frame> frames_;
  std::vector<int32_t> options_;
  uint64_t nodes_ = 0;
};

}  // namespace

std::optional<StaticPlan> SearchPlan(std::span<const PlanBuffer> buffers, const SearchLimits& limits) {
  Search search(buffers, limits.capacity);
  Dice dice(1);
  uint64_t nodes = 0;
  const uint64_t shortest = limits.first_restart + 2 * buffers.size();
  for (uint64_t k = 1; nodes < limits.nodes; ++k) {
    const int measure = k <= 3 ? static_cast<int>(k) - 1 : static_cast<int>(dice.Next() % 3);
    const double noise = k <= 3 ? 0 : 4 * dice.Unit();
    const uint64_t limit = std::min(shortest * Luby(k), limits.nodes - nodes);
    const Search::Answer answer = search.Try(measure, noise, limit, dice);
    nodes += search.nodes();
    if (answer == Search::Answer::kNone) return std::nullopt;
    if (answer == Search::Answer::kFound) {
      StaticPlan plan{search.offsets(), 0};
      for (size_t b = 0; b < buffers.size(); ++b)
        plan.height = std::max(plan.height, plan.offsets[b] + buffers[b].size);
      return plan;
    }
  }
  return std::nullopt;
}

}  // namespace tidemark
