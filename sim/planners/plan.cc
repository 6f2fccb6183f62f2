#include "sim/planners/plan.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>

#include "sim/planners/valley_search.h"

namespace tidemark {
namespace {

struct Edge {
  int64_t step;
  bool begins;
  uint32_t buffer;
};

// Ends before beginnings: lifetimes are half-open.
std::vector<Edge> Edges(std::span<const PlanBuffer> buffers) {
  std::vector<Edge> edges;
  edges.reserve(2 * buffers.size());
  for (uint32_t k = 0; k < buffers.size(); ++k) {
    edges.push_back({buffers[k].alive.begin, true, k});
    edges.push_back({buffers[k].alive.end, false, k});
  }
  std::ranges::sort(edges, [](const Edge& a, const Edge& b) {
    return std::tuple(a.step, a.begins, a.buffer) < std::tuple(b.step, b.begins, b.buffer);
  });
  return edges;
}

std::vector<uint32_t> OrderOf(std::span<const PlanBuffer> buffers, PlanOrder order) {
  std::vector<uint32_t> ids(buffers.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto key = [&](uint32_t k) {
    const double size = static_cast<double>(buffers[k].size);
    const double length = static_cast<double>(buffers[k].alive.length());
    if (order == PlanOrder::kSize) return std::pair(size, length);
    if (order == PlanOrder::kLifetime) return std::pair(length, size);
    return std::pair(size * length, size);
  };
  std::ranges::stable_sort(ids, [&](uint32_t a, uint32_t b) { return key(a) > key(b); });
  return ids;
}

// The large buffers by search within `capacity`, the others by first fit around them.
std::optional<StaticPlan> PlanLargeFirst(std::span<const PlanBuffer> buffers, std::span<const uint32_t> by_size,
                                         size_t large, int64_t capacity, uint64_t nodes) {
  std::vector<PlanBuffer> chosen;
  for (const uint32_t k : by_size.first(large)) chosen.push_back(buffers[k]);
  const std::optional<StaticPlan> found = SearchPlan(CompressLifetimes(chosen), {.capacity = capacity, .nodes = nodes});
  if (!found) return std::nullopt;
  StaticPlan plan;
  plan.offsets.resize(buffers.size());
  for (size_t k = 0; k < large; ++k) plan.offsets[by_size[k]] = found->offsets[k];
  FirstFit(buffers, by_size.subspan(large), by_size.first(large), plan);
  return plan;
}

}  // namespace

int64_t LiveLowerBound(std::span<const PlanBuffer> buffers) {
  int64_t live = 0;
  int64_t highest = 0;
  for (const Edge& edge : Edges(buffers)) {
    live += edge.begins ? buffers[edge.buffer].size : -buffers[edge.buffer].size;
    highest = std::max(highest, live);
  }
  return highest;
}

std::vector<PlanBuffer> CompressLifetimes(std::span<const PlanBuffer> buffers) {
  std::vector<PlanBuffer> out(buffers.begin(), buffers.end());
  int64_t step = 0;
  bool begun = false;  // something began in this step: the set of live buffers is in no earlier one
  for (const Edge& edge : Edges(buffers)) {
    if (edge.begins) {
      out[edge.buffer].alive.begin = step;
      begun = true;
      continue;
    }
    if (std::exchange(begun, false)) ++step;
    out[edge.buffer].alive.end = step;
  }
  return out;
}

StaticPlan PlanInOrder(std::span<const PlanBuffer> buffers, PlanOrder order) {
  StaticPlan plan;
  plan.offsets.resize(buffers.size());
  FirstFit(buffers, OrderOf(buffers, order), {}, plan);
  return plan;
}

StaticPlan PlanStrongly(std::span<const PlanBuffer> given, const PlanLimits& limits) {
  constexpr size_t kSmall = 1000;  // so many buffers are worth a thorough search
  const std::vector<PlanBuffer> buffers = CompressLifetimes(given);
  const int64_t bound = LiveLowerBound(buffers);
  const int64_t good = std::max(bound, limits.capacity);
  // Of many buffers, the last thousandth isn't worth more than all before it.
  const int64_t good_enough = buffers.size() > kSmall ? std::max(good, bound + bound / 1000) : good;
  StaticPlan best;
  best.height = std::numeric_limits<int64_t>::max();
  const auto keep = [&](std::optional<StaticPlan> plan) {
    if (plan && plan->height < best.height) best = *std::move(plan);
    return best.height <= good_enough;
  };
  if (buffers.size() > kSmall) {
    const std::vector<uint32_t> by_size = OrderOf(buffers, PlanOrder::kSize);
    const uint64_t once = 3 * buffers.size();
    for (size_t large = kSmall / 4; large < buffers.size(); large *= 4) {
      if (keep(PlanLargeFirst(buffers, by_size, large, good, once))) return best;
    }
    if (keep(SearchPlan(buffers, {.capacity = good, .nodes = once}))) return best;
  }
  if (keep(PlanInOrder(buffers, PlanOrder::kSize))) return best;
  if (keep(PlanInOrder(buffers, PlanOrder::kLifetime))) return best;
  if (buffers.size() > kSmall) return best;
  if (keep(SearchPlan(buffers, {.capacity = good, .nodes = limits.nodes}))) return best;
  // Rising capacities, each with a small part of the nodes.
  for (int64_t excess = std::max<int64_t>(bound / 512, 1); bound + excess < best.height; excess += (excess + 1) / 2) {
    if (keep(SearchPlan(buffers, {.capacity = bound + excess, .nodes = limits.nodes / 16}))) return best;
  }
  return best;
}

}  // namespace tidemark
