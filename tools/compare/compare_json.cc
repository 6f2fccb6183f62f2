#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tools/compare/compare_text.h"
#include "tools/formats/report_json.h"
#include "tools/tape_marks.h"

namespace tidemark {
namespace {

using Json = nlohmann::ordered_json;

Json PassesJson(const Variant& variant) {
  Json passes = Json::array();
  for (const PassRun& pass : variant.passes) {
    passes.push_back({{"pass", pass.name},
                      {"changed", pass.changed},
                      {"ops_before", pass.ops_before},
                      {"ops_after", pass.ops_after},
                      {"live_bytes_before", pass.live_before.count()},
                      {"live_bytes_after", pass.live_after.count()},
                      {"traffic_bytes_before", pass.traffic_before.count()},
                      {"traffic_bytes_after", pass.traffic_after.count()},
                      {"notes", pass.notes}});
  }
  return passes;
}

// A row: the parts of its report that a table shows.
Json VariantJson(const Variant& variant, const Variant& base) {
  Json json = {{"name", variant.name}};
  if (!variant.impossible.empty()) {
    json["impossible"] = variant.impossible;
    return json;
  }
  const Json report = Json::parse(ReportJson(variant.report));
  for (const char* key : {"fits", "peak", "out_of_memory", "breakdown_at_peak", "largest_at_peak", "time", "config"}) {
    json[key] = report.at(key);
  }
  json["passes"] = PassesJson(variant);
  if (&variant == &base) return json;
  const Report& to = variant.report;
  const Report& from = base.report;
  Json added_us = nullptr;
  Json token_us = nullptr;
  if (to.time && from.time) {
    added_us = to.time->step_us - from.time->step_us;
    token_us = to.time->step_us / TokensOfStep(variant.run) - from.time->step_us / TokensOfStep(base.run);
  }
  json["difference"] = {{"requested_bytes", (to.requested_peak - from.requested_peak).count()},
                        {"allocated_bytes", (to.allocated_peak - from.allocated_peak).count()},
                        {"reserved_bytes", (to.reserved_peak - from.reserved_peak).count()},
                        {"process_bytes", (to.process_peak.value - from.process_peak.value).count()},
                        {"step_us", added_us},
                        {"token_us", token_us}};
  json["explanation"] = variant.explanation;
  return json;
}

class TraceWriter {
 public:
  std::string Run(const VariantTable& table) {
    Add(table.base, 1);
    int process = 1;
    for (const Variant& variant : table.variants) {
      if (variant.impossible.empty()) Add(variant, ++process);
    }
    return Json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events_)}}.dump() + "\n";
  }

 private:
  void Add(const Variant& variant, int process) {
    const Report& report = variant.report;
    events_.push_back({{"ph", "M"}, {"pid", process}, {"name", "process_name"}, {"args", {{"name", variant.name}}}});
    events_.push_back(
        {{"ph", "M"}, {"pid", process}, {"name", "process_sort_index"}, {"args", {{"sort_index", process}}}});
    const Timeline& curve = report.timeline;
    for (size_t i = 0; i < curve.allocated.size(); ++i) {
      const double at = static_cast<double>(i) * static_cast<double>(report.counts.events) /
                        static_cast<double>(curve.allocated.size());
      events_.push_back({{"ph", "C"},
                         {"pid", process},
                         {"ts", at},
                         {"name", "memory"},
                         {"args",
                          {{"allocated", curve.allocated[i].count()},
                           {"cached", (curve.reserved[i] - curve.allocated[i]).count()}}}});
    }
    Phases(report, process);
  }

  void Phases(const Report& report, int process) {
    for (size_t i = 0; i < report.phases.size(); ++i) {
      const PhasePeak& phase = report.phases[i];
      const uint64_t end =
          i + 1 < report.phases.size() ? report.phases[i + 1].event : static_cast<uint64_t>(report.counts.events);
      if (phase.at.phase.empty() || end <= phase.event) continue;
      events_.push_back({{"ph", "X"},
                         {"pid", process},
                         {"tid", 1},
                         {"ts", phase.event},
                         {"dur", end - phase.event},
                         {"name", DescribeMoment(phase.at)}});
    }
  }

  Json events_ = Json::array();
};

}  // namespace

std::string CompareJson(const VariantTable& table) {
  Json json = {{"schema", "tidemark.compare/1"}, {"base", VariantJson(table.base, table.base)}};
  json["variants"] = Json::array();
  for (const Variant& variant : table.variants) json["variants"].push_back(VariantJson(variant, table.base));
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string CompareTrace(const VariantTable& table) { return TraceWriter().Run(table); }

}  // namespace tidemark
