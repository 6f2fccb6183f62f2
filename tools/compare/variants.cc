#include "tools/compare/variants.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <numeric>
#include <optional>
#include <thread>
#include <vector>

#include "sim/replay.h"
#include "tools/build_report.h"
#include "tools/build_run.h"
#include "tools/compare/explain_variant.h"
#include "tools/config/run_file.h"

namespace tidemark {
namespace {

Result<Variant> SimulateSettings(const std::string& text, const std::string& name,
                                 std::span<const std::string> overrides, const std::string& settings,
                                 compile::TuningCache* tuned, std::vector<std::string>& notes) {
  std::vector<std::string> all(overrides.begin(), overrides.end());
  for (std::string& setting : SplitSettings(settings)) all.push_back(std::move(setting));
  Result<LoadedRun> parsed = ParseRun(text, name, all);
  if (!parsed.ok()) {
    std::string message = parsed.error().message;
    if (!settings.empty() && message.starts_with("--set ")) message.replace(0, 6, "--with ");
    return InvalidInput(std::move(message));
  }
  const LoadedRun& loaded = *parsed;
  if (settings.empty()) {
    notes = loaded.notes;
    return SimulateVariant("as given", loaded.config, tuned);
  }
  Result<Variant> variant = SimulateVariant(settings, loaded.config, tuned);
  if (variant.ok()) return variant;
  return Variant{.name = settings, .run = loaded.config, .impossible = variant.error().message};
}

}  // namespace

double TokensOfStep(const RunConfig& run) {
  const TrainingConfig& t = run.training;
  const auto lengths = static_cast<double>(std::accumulate(t.sequence.begin(), t.sequence.end(), int64_t{0}));
  return static_cast<double>(t.micro_batch * t.gradient_accumulation) * lengths /
         static_cast<double>(std::max<size_t>(1, t.sequence.size()));
}

std::vector<std::string> SplitSettings(const std::string& settings) {
  std::vector<std::string> parts(1);
  int depth = 0;
  char quote = 0;
  for (const char c : settings) {
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '[' || c == '{') {
      ++depth;
    } else if (c == ']' || c == '}') {
      --depth;
    } else if (c == ',' && depth == 0) {
      parts.emplace_back();
      continue;
    }
    parts.back() += c;
  }
  std::erase_if(parts, [](const std::string& part) { return part.empty(); });
  return parts;
}

Result<Variant> SimulateVariant(std::string name, const RunConfig& run, compile::TuningCache* tuned) {
  ASSIGN_OR_RETURN(BuiltRun built, BuildRun(run, {.summarize_compiled = true, .tuned = tuned}));
  const std::unique_ptr<Describer> describer = DescribeGraph(built.graph, built.lowered);
  ReportInput input = {.tape = built.lowered.tape,
                       .replay = {.allocator = AllocatorOf(run), .stop_at_out_of_memory = true, .observers = {}},
                       .context = run.device.overhead,
                       .describer = *describer,
                       .title = TitleOf(run),
                       .device_name = run.device.name};
  ASSIGN_OR_RETURN(Report report, BuildReport(input));
  if (!report.fits) {
    input.replay.allocator.device_memory = kUnlimited;
    ASSIGN_OR_RETURN(Report larger, BuildReport(input));
    larger.fits = false;
    larger.out_of_memory = std::move(report.out_of_memory);
    larger.device_memory = report.device_memory;
    larger.allocator = report.allocator;
    report = std::move(larger);
  }
  report.run = run;
  report.compiled = std::move(built.compiled);
  report.counts.ops = static_cast<int64_t>(built.graph.ops.size());
  report.counts.parameters = built.graph.parameters;
  report.time = TimeReportOf(built.graph, run.device);
  return Variant{std::move(name), run, std::move(report), std::move(built.passes), {}, {}};
}

Result<VariantTable> CompareVariants(const std::string& text, const std::string& name,
                                     std::span<const std::string> overrides, std::span<const std::string> settings,
                                     bool share_cache, std::vector<std::string>& notes) {
  VariantTable table;
  compile::TuningCache cache;
  compile::TuningCache* const tuned = share_cache ? &cache : nullptr;
  ASSIGN_OR_RETURN(table.base, SimulateSettings(text, name, overrides, "", tuned, notes));
  // On all cores, unless one needs what the one before has left; taken in order, so that notes and errors don't depend
  // on who is first.
  std::vector<std::optional<Result<Variant>>> simulated(settings.size());
  std::vector<std::vector<std::string>> notes_of(settings.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < settings.size(); i = next++) {
      simulated[i] = SimulateSettings(text, name, overrides, settings[i], tuned, notes_of[i]);
    }
  };
  {
    std::vector<std::jthread> team;
    const size_t workers = share_cache ? 1 : std::min<size_t>(std::thread::hardware_concurrency(), settings.size());
    for (size_t i = 1; i < workers; ++i) team.emplace_back(work);
    work();
  }
  for (size_t i = 0; i < settings.size(); ++i) {
    notes.insert(notes.end(), notes_of[i].begin(), notes_of[i].end());
    ASSIGN_OR_RETURN(Variant variant, *std::move(simulated[i]));
    if (variant.impossible.empty()) variant.explanation = ExplainVariant(table.base, variant);
    table.variants.push_back(std::move(variant));
  }
  return table;
}

}  // namespace tidemark
