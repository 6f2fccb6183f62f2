#include "sim/allocators/caching/statistics.h"

#include <fmt/format.h>

#include <string_view>

namespace tidemark::caching {
namespace {

constexpr std::array<std::string_view, kCounters> kNames = {
    "allocation",      "segment",        "active",       "inactive_split",
    "allocated_bytes", "reserved_bytes", "active_bytes", "inactive_split_bytes",
    "requested_bytes"};
constexpr std::array<std::string_view, kPoolClasses> kPools = {"all", "small_pool", "large_pool"};

void Put(std::vector<Statistic>& list, const std::string& name, const Stat& stat) {
  list.push_back({name + ".current", stat.current});
  list.push_back({name + ".peak", stat.peak});
  list.push_back({name + ".allocated", stat.current + stat.freed - stat.initial});
  list.push_back({name + ".freed", stat.freed});
}

template <typename F>
void ForEach(Statistics& statistics, F f) {
  for (auto& array : statistics.arrays) {
    for (Stat& stat : array) f(stat);
  }
  f(statistics.oversize_allocations);
  f(statistics.oversize_segments);
}

}  // namespace

void Statistics::ResetPeak() {
  ForEach(*this, [](Stat& stat) { stat.peak = stat.current; });
}

void Statistics::StartHere() {
  ForEach(*this, [](Stat& stat) { stat.peak = stat.initial = stat.current; });
}

std::vector<Statistic> Statistics::List(bool with_rejections) const {
  std::vector<Statistic> list = {
      {"num_alloc_retries", num_alloc_retries}, {"num_ooms", num_ooms},
      {"max_split_size", max_split_size},       {"num_sync_all_streams", num_sync_all_streams},
      {"num_device_alloc", num_device_alloc},   {"num_device_free", num_device_free},
  };
  if (with_rejections) list.push_back({"num_oom_rejections", num_oom_rejections});
  for (size_t counter = 0; counter < kCounters; ++counter) {
    for (size_t pool = 0; pool < kPoolClasses; ++pool) {
      Put(list, fmt::format("{}.{}", kNames[counter], kPools[pool]), arrays[pool][counter]);
    }
  }
  Put(list, "oversize_allocations", oversize_allocations);
  Put(list, "oversize_segments", oversize_segments);
  return list;
}

}  // namespace tidemark::caching
