#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "sim/planners/plan.h"
#include "sim/planners/valley_search.h"

namespace tidemark {
namespace {

constexpr size_t kLarge = 250;     // buffers that a search arranges
constexpr size_t kFew = 1000;      // buffers that are searched as a whole
constexpr size_t kMany = 100'000;  // more than these are planned with care only where they are large

// Free ranges below the top, by offset and by size.
class FreeRanges {
 public:
  // The lowest of the smallest ranges that are large enough; at the top where there is none.
  int64_t Take(int64_t size) {
    const auto found = by_size_.lower_bound({size, 0});
    if (found == by_size_.end()) {
      // What lies free right below the top is used too.
      int64_t offset = top_;
      if (!by_offset_.empty() && Last()->first + Last()->second == top_) {
        offset = Last()->first;
        Erase(Last());
      }
      top_ = offset + size;
      return offset;
    }
    const auto [room, offset] = *found;
    Erase(by_offset_.find(offset));
    if (room > size) Add(offset + size, room - size);
    return offset;
  }

  void GiveBack(int64_t offset, int64_t size) {
    const auto after = by_offset_.lower_bound(offset);
    if (after != by_offset_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second == offset) {
        offset = before->first;
        size += before->second;
        Erase(before);
      }
    }
    if (after != by_offset_.end() && after->first == offset + size) {
      size += after->second;
      Erase(after);
    }
    Add(offset, size);
  }

 private:
  using Ranges = std::map<int64_t, int64_t>;

  Ranges::iterator Last() { return std::prev(by_offset_.end()); }
  void Add(int64_t offset, int64_t size) {
    by_offset_.emplace(offset, size);
    by_size_.emplace(size, offset);
  }
  void Erase(Ranges::iterator range) {
    by_size_.erase({range->second, range->first});
    by_offset_.erase(range);
  }

  Ranges by_offset_;
  std::set<std::pair<int64_t, int64_t>> by_size_;
  int64_t top_ = 0;
};

std::vector<uint32_t> BySize(std::span<const PlanBuffer> buffers) {
  std::vector<uint32_t> ids(buffers.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::ranges::stable_sort(ids, [&](uint32_t a, uint32_t b) {
    return std::pair(buffers[a].size, buffers[a].alive.length()) >
           std::pair(buffers[b].size, buffers[b].alive.length());
  });
  return ids;
}

std::vector<PlanBuffer> Chosen(std::span<const PlanBuffer> buffers, std::span<const uint32_t> ids) {
  std::vector<PlanBuffer> chosen;
  chosen.reserve(ids.size());
  for (const uint32_t id : ids) chosen.push_back(buffers[id]);
  return chosen;
}

// Keeps the lowest plan.
class Best {
 public:
  explicit Best(int64_t bound) : good_enough_(bound + bound / 1000) { best_.plan.height = kNone; }

  void Try(StaticPlan plan, PlanMethod method) {
    if (plan.height < best_.plan.height) best_ = {std::move(plan), method};
  }
  bool good() const { return best_.plan.height <= good_enough_; }
  int64_t good_enough() const { return good_enough_; }
  QuickPlan Take() && { return std::move(best_); }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  int64_t good_enough_;
  QuickPlan best_;
};

// The large ones by search, the others around them.
void TryLargestFirst(std::span<const PlanBuffer> buffers, std::span<const uint32_t> by_size, size_t large,
                     int64_t capacity, Best& best) {
  const std::vector<PlanBuffer> chosen = CompressLifetimes(Chosen(buffers, by_size.first(large)));
  const auto found = SearchPlan(chosen, {.capacity = capacity, .nodes = 16 * large});
  if (!found) return;
  StaticPlan plan;
  plan.offsets.resize(buffers.size());
  for (size_t k = 0; k < large; ++k) plan.offsets[by_size[k]] = found->offsets[k];
  FirstFit(buffers, by_size.subspan(large), by_size.first(large), plan);
  best.Try(std::move(plan), PlanMethod::kSearchLargest);
}

QuickPlan PlanWithCare(std::span<const PlanBuffer> given) {
  const std::vector<PlanBuffer> buffers = CompressLifetimes(given);
  const std::vector<uint32_t> by_size = BySize(buffers);
  const int64_t bound = LiveLowerBound(buffers);
  Best best(bound);
  best.Try(PlanInOrder(buffers, PlanOrder::kSize), PlanMethod::kLargestFirst);
  for (const size_t part : {4u, 16u, 1u}) {
    if (best.good()) break;
    const size_t large = std::min(part == 1 ? 4 * kLarge : kLarge, buffers.size() / part);
    for (const int64_t capacity : {bound, best.good_enough()}) {
      if (!best.good()) TryLargestFirst(buffers, by_size, large, capacity, best);
    }
  }
  if (!best.good()) best.Try(PlanInOrder(buffers, PlanOrder::kArea), PlanMethod::kLargestArea);
  if (!best.good() && buffers.size() <= kFew) {
    auto found = SearchPlan(buffers, {.capacity = best.good_enough(), .nodes = 8 * buffers.size()});
    if (found) best.Try(*std::move(found), PlanMethod::kSearch);
  }
  return std::move(best).Take();
}

// The large ones with care; the others in order of time, above them.
QuickPlan PlanMany(std::span<const PlanBuffer> buffers) {
  const std::vector<uint32_t> by_size = BySize(buffers);
  const std::span<const uint32_t> large = std::span(by_size).first(kMany / 10);
  const std::span<const uint32_t> small = std::span(by_size).subspan(large.size());
  const QuickPlan below = PlanWithCare(Chosen(buffers, large));
  const StaticPlan above = PlanInTime(Chosen(buffers, small));
  StaticPlan both;
  both.offsets.resize(buffers.size());
  for (size_t k = 0; k < large.size(); ++k) both.offsets[large[k]] = below.plan.offsets[k];
  for (size_t k = 0; k < small.size(); ++k) both.offsets[small[k]] = below.plan.height + above.offsets[k];
  both.height = below.plan.height + above.height;
  Best best(LiveLowerBound(buffers));
  best.Try(std::move(both), below.method);
  best.Try(PlanInTime(buffers), PlanMethod::kInTime);
  return std::move(best).Take();
}

}  // namespace

StaticPlan PlanInTime(std::span<const PlanBuffer> buffers) {
  struct Edge {
    int64_t step;
    bool begins;
    uint32_t buffer;
    auto operator<=>(const Edge&) const = default;
  };
  std::vector<Edge> edges;
  edges.reserve(2 * buffers.size());
  for (uint32_t k = 0; k < buffers.size(); ++k) {
    edges.push_back({buffers[k].alive.begin, true, k});
    edges.push_back({buffers[k].alive.end, false, k});
  }
  std::ranges::sort(edges);  // ends before beginnings
  StaticPlan plan;
  plan.offsets.resize(buffers.size());
  FreeRanges free;
  for (const Edge& edge : edges) {
    int64_t& offset = plan.offsets[edge.buffer];
    const int64_t size = buffers[edge.buffer].size;
    if (edge.begins) {
      offset = free.Take(size);
      plan.height = std::max(plan.height, offset + size);
    } else {
      free.GiveBack(offset, size);
    }
  }
  return plan;
}

std::string_view Name(PlanMethod method) {
  switch (method) {
    case PlanMethod::kLargestFirst:
      return "first fit, largest first";
    case PlanMethod::kSearchLargest:
      return "search over the largest, first fit of the others";
    case PlanMethod::kSearch:
      return "search";
    case PlanMethod::kLargestArea:
      return "first fit, largest bytes x life first";
    case PlanMethod::kInTime:
      return "best fit in order of time";
  }
  return "";
}

QuickPlan PlanQuickly(std::span<const PlanBuffer> buffers) {
  return buffers.size() > kMany ? PlanMany(buffers) : PlanWithCare(buffers);
}

}  // namespace tidemark
