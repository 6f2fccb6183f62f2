#include "tools/compare/replay_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "sim/replay.h"
#include "tools/build_report.h"
#include "tools/build_run.h"
#include "tools/describe.h"

namespace tidemark {
namespace {

int64_t StatisticOf(const Replay& replay, std::string_view key) {
  const auto found = std::ranges::find(replay.statistics, key, &Statistic::key);
  return found == replay.statistics.end() ? 0 : found->value;
}

Result<ReplayRow> RunRow(const Recording& recording, const AllocatorOptions& allocator, bool both_orders) {
  ASSIGN_OR_RETURN(const Replay replay, RunReplay(recording.tape(), {.allocator = allocator}));
  ReplayRow row{.conf = allocator.conf,
                .fits = replay.failures == 0,
                .failures = replay.failures,
                .requested = replay.requested.bytes,
                .allocated = replay.allocated.bytes,
                .reserved = replay.reserved.bytes,
                .needed = replay.reserved.bytes,
                .device_allocs = StatisticOf(replay, "num_device_alloc"),
                .device_frees = StatisticOf(replay, "num_device_free"),
                .retries = StatisticOf(replay, "num_alloc_retries")};
  if (!replay.out_of_memory.empty()) {
    row.message = replay.out_of_memory[0].message;
    row.first_failed = DescribeTape(recording.tape())->Describe(replay.out_of_memory[0].allocation).tensor;
  }
  if (!row.fits || row.retries > 0) {
    AllocatorOptions large = allocator;
    large.device_memory = kUnlimited;
    large.fraction.reset();
    ASSIGN_OR_RETURN(const Replay unlimited, RunReplay(recording.tape(), {.allocator = large}));
    row.needed = unlimited.reserved.bytes;
  }
  if (both_orders && AddressesMatter(allocator)) {
    ASSIGN_OR_RETURN(row.addresses, OtherAddressOrder(recording.tape(), {.allocator = allocator}, replay));
  }
  return row;
}

int CheapestOf(const ReplayGroup& group) {
  const auto cost = [&](const ReplayRow& row) {
    const int64_t calls = row.device_allocs + row.device_frees;
    return group.memory ? std::tuple(row.retries, calls, row.reserved)
                        : std::tuple(int64_t{0}, int64_t{0}, row.reserved);
  };
  int cheapest = -1;
  for (size_t k = 0; k < group.rows.size(); ++k) {
    if (!group.rows[k].fits) continue;
    if (cheapest < 0 || cost(group.rows[k]) < cost(group.rows[static_cast<size_t>(cheapest)])) {
      cheapest = static_cast<int>(k);
    }
  }
  return cheapest;
}

std::string Quoted(const std::string& conf) { return conf.empty() ? "\"\"" : conf; }

class Writer {
 public:
  Writer(std::span<const ReplayGroup> groups, TextStyle style) : groups_(groups), style_(style) {
    Bytes highest;
    for (const ReplayGroup& group : groups) {
      for (const ReplayRow& row : group.rows) {
        width_ = std::max(width_, NameOf(group, row).size());
        highest = std::max(highest, row.needed);
        range_ = range_ || row.addresses.has_value();
      }
    }
    if (highest < kMiB * 16) unit_ = kKiB;
  }

  std::string Run() {
    Line("{}", Styled(kBold, fmt::format("{:<{}}{:>12}{:>12}{:>12}{}{:>13}{:>9}{:>10}  {}",
                                         unit_ == kMiB ? "MiB" : "KiB", width_, "allocated", "reserved", "needed",
                                         range_ ? "  falling" : "", "cudaMallocs", "retries", "failures", "")));
    for (const ReplayGroup& group : groups_) {
      for (const ReplayRow& row : group.rows) Row(group, row);
    }
    Line("");
    for (const ReplayGroup& group : groups_) Summary(group);
    return std::move(text_);
  }

 private:
  template <typename... T>
  void Line(fmt::format_string<T...> format, T&&... values) {
    text_ += fmt::format(format, std::forward<T>(values)...);
    while (text_.ends_with(' ')) text_.pop_back();
    text_ += '\n';
  }
  std::string Styled(const char* code, std::string_view words) const {
    return style_.colour ? fmt::format("{}{}{}", code, words, kPlain) : std::string(words);
  }
  double In(Bytes bytes) const { return bytes / unit_; }

  // What tells rows apart: the file where there are several, the conf where there are several.
  std::string NameOf(const ReplayGroup& group, const ReplayRow& row) const {
    if (groups_.size() == 1) return Quoted(row.conf);
    const std::string file = group.file.substr(group.file.rfind('/') + 1);
    return group.rows.size() == 1 ? file : file + "  " + Quoted(row.conf);
  }

  void Row(const ReplayGroup& group, const ReplayRow& row) {
    std::string verdict;
    if (!row.fits) {
      verdict = Styled(kRed, "does not fit");
    } else if (group.memory) {
      verdict = Styled(kGreen, row.retries > 0 ? "fits, after retries" : "fits");
    }
    if (row.addresses && row.addresses->rising_fits != row.addresses->falling_fits) {
      verdict += row.addresses->rising_fits ? ", not with falling addresses" : ", but with falling addresses";
    }
    std::string falling;
    if (range_) falling = fmt::format("{:>9}", row.addresses ? fmt::format("{:.1f}", In(row.addresses->falling)) : "");
    Line("{:<{}}{:>12.1f}{:>12.1f}{:>12.1f}{}{:>13}{:>9}{:>10}  {}", NameOf(group, row), width_, In(row.allocated),
         In(row.reserved), In(row.needed), falling, row.device_allocs, row.retries, row.failures, verdict);
  }

  void Summary(const ReplayGroup& group) {
    const char* unit = unit_ == kMiB ? "MiB" : "KiB";
    std::string line = groups_.size() == 1 ? "" : group.file.substr(group.file.rfind('/') + 1) + ": ";
    if (group.memory) line += fmt::format("{:.1f} {} are there; ", In(*group.memory), unit);
    line += fmt::format("alive at once {:.1f} {}, a static plan takes {:.1f} ({})", In(group.live), unit,
                        In(group.plan.bytes), group.plan.method);
    Line("{}", line);
    if (group.rows.size() == 1) return;
    if (group.cheapest < 0) {
      Line("  none of these settings fits; the one that needs least: {}", Quoted(LeastNeeding(group).conf));
      return;
    }
    const ReplayRow& best = group.rows[static_cast<size_t>(group.cheapest)];
    Line("  {}: {} ({} {} reserved, {} cudaMallocs, {} retries)",
         group.memory ? "the cheapest that fits" : "the one that needs least", Styled(kBold, Quoted(best.conf)),
         fmt::format("{:.1f}", In(best.reserved)), unit, best.device_allocs, best.retries);
  }

  static const ReplayRow& LeastNeeding(const ReplayGroup& group) {
    return *std::ranges::min_element(group.rows, {}, &ReplayRow::needed);
  }

  std::span<const ReplayGroup> groups_;
  TextStyle style_;
  Bytes unit_ = kMiB;
  size_t width_ = 8;
  bool range_ = false;  // some row has a range of addresses
  std::string text_;
};

using Json = nlohmann::ordered_json;

Json RowJson(const ReplayRow& row) {
  Json json = {{"conf", row.conf},
               {"fits", row.fits},
               {"failures", row.failures},
               {"peak",
                {{"requested_bytes", row.requested.count()},
                 {"allocated_bytes", row.allocated.count()},
                 {"reserved_bytes", row.reserved.count()}}},
               {"needed_bytes", row.needed.count()},
               {"cuda_mallocs", row.device_allocs},
               {"cuda_frees", row.device_frees},
               {"retries", row.retries},
               {"out_of_memory", nullptr}};
  if (!row.fits) json["out_of_memory"] = {{"message", row.message}, {"tensor", row.first_failed}};
  if (row.addresses) {
    const AddressRange& range = *row.addresses;
    json["address_orders"] = {{"rising", {{"reserved_bytes", range.rising.count()}, {"fits", range.rising_fits}}},
                              {"falling", {{"reserved_bytes", range.falling.count()}, {"fits", range.falling_fits}}}};
  }
  return json;
}

Json GroupJson(const ReplayGroup& group) {
  Json rows = Json::array();
  for (const ReplayRow& row : group.rows) rows.push_back(RowJson(row));
  Json json = {{"file", group.file},
               {"backend", group.backend},
               {"framework", group.framework},
               {"memory_bytes", group.memory ? Json(group.memory->count()) : Json(nullptr)},
               {"lower_bounds",
                {{"live_bytes", group.live.count()},
                 {"best_static_bytes", group.plan.bytes.count()},
                 {"static_lower_bound_bytes", group.plan.lower_bound.count()},
                 {"best_static_plan", group.plan.method}}},
               {"rows", std::move(rows)},
               {"cheapest", nullptr}};
  if (group.cheapest >= 0) json["cheapest"] = group.rows[static_cast<size_t>(group.cheapest)].conf;
  return json;
}

}  // namespace

Result<ReplayGroup> ReplaySettings(const Recording& recording, const ReplayTableOptions& options) {
  AllocatorOptions allocator = options.allocator;
  allocator.initial = recording.initial();
  const bool own_capacity = !options.limited && recording.capacity > Bytes();
  if (own_capacity) allocator.device_memory = recording.capacity;
  ReplayGroup group{.file = recording.path, .backend = allocator.backend, .framework = allocator.framework};
  if (options.limited || own_capacity) group.memory = allocator.device_memory;
  group.live = LiveBytesPeak(recording.tape(), recording.initial()).bytes;
  group.plan = StaticPlanOf(recording.tape(), recording.initial());
  const std::vector<std::string> own = {recording.conf};
  for (const std::string& conf : options.confs.empty() ? own : options.confs) {
    allocator.conf = conf;
    ASSIGN_OR_RETURN(ReplayRow row, RunRow(recording, allocator, options.both_address_orders));
    group.rows.push_back(std::move(row));
  }
  for (const ReplayRow& row : group.rows) KeepLowerPlan(allocator, row.fits, row.reserved, group.plan);
  group.cheapest = CheapestOf(group);
  return group;
}

std::string ReplayTableText(std::span<const ReplayGroup> groups, TextStyle style) {
  return Writer(groups, style).Run();
}

std::string ReplayTableJson(std::span<const ReplayGroup> groups) {
  Json json = {{"schema", "tidemark.replays/1"}, {"replays", Json::array()}};
  for (const ReplayGroup& group : groups) json["replays"].push_back(GroupJson(group));
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tidemark
