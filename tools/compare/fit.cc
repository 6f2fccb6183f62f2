#include "tools/compare/fit.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>

#include "graph/cost.h"
#include "graph/run_program.h"
#include "sim/replay.h"
#include "tools/build_run.h"
#include "tools/config/passes.h"

namespace tidemark {
namespace {

constexpr int64_t kMostParts = 32;
constexpr size_t kMostPlanned = 6;  // plans for a budget: each measures dozens of graphs
constexpr const char* kExpandable = "expandable_segments:True";

// A value of one dimension of the search: what it is called, and what it does to a run. None: as given.
struct Change {
  std::string name;
  std::function<void(RunConfig&)> apply;
};
using Dimension = std::vector<Change>;

const Change kAsGiven = {"", nullptr};

// Program passes stand before the others.
void AddProgramPass(RunConfig& run, const PassConfig& pass) { run.passes.insert(run.passes.begin(), pass); }
void AddPass(RunConfig& run, const PassConfig& pass) { run.passes.push_back(pass); }

bool HasPass(const RunConfig& run, size_t index) {
  return std::ranges::any_of(run.passes, [&](const PassConfig& pass) { return pass.index() == index; });
}

std::vector<Dimension> DimensionsOf(const RunConfig& run) {
  std::vector<Dimension> dimensions;
  if (!HasPass(run, PassConfig(AccumulatePass()).index())) {
    Dimension accumulate = {kAsGiven};
    for (int64_t parts = 2; parts <= std::min(run.training.micro_batch, kMostParts); parts *= 2) {
      if (run.training.micro_batch % parts != 0) continue;
      accumulate.push_back({fmt::format("accumulate {}", parts),
                            [parts](RunConfig& r) { AddProgramPass(r, AccumulatePass{.parts = parts}); }});
    }
    dimensions.push_back(std::move(accumulate));
  }
  if (!HasPass(run, PassConfig(ChunkLossPass()).index())) {
    Dimension chunk = {kAsGiven};
    for (const int64_t chunks : {4, 16}) {
      chunk.push_back({fmt::format("chunk_loss {}", chunks),
                       [chunks](RunConfig& r) { AddPass(r, ChunkLossPass{.chunks = chunks}); }});
    }
    dimensions.push_back(std::move(chunk));
  }
  if (!HasPass(run, PassConfig(RecomputePass()).index())) {
    dimensions.push_back(
        {kAsGiven,
         {"recompute full", [](RunConfig& r) { AddProgramPass(r, RecomputePass{}); }},
         {"recompute min-cut", [](RunConfig& r) { AddPass(r, RecomputePass{.policy = RecomputePolicy::kMinCut}); }}});
  }
  if (run.allocator.backend == "native" && run.allocator.conf.find("expandable_segments") == std::string::npos) {
    dimensions.push_back({kAsGiven, {"expandable segments", [](RunConfig& r) {
                                       r.allocator.conf +=
                                           r.allocator.conf.empty() ? kExpandable : std::string(",") + kExpandable;
                                     }}});
  }
  return dimensions;
}

// What a run takes on a device that is large enough. None: the combination can't be simulated.
std::optional<FitRow> TryRun(const RunConfig& run) {
  const Result<BuiltRun> built = BuildRun(run, {});
  if (!built.ok()) return std::nullopt;
  AllocatorOptions allocator = AllocatorOf(run);
  allocator.device_memory = kGiB * (1 << 20);
  const Result<Replay> replay = RunReplay(built->lowered.tape, {.allocator = allocator, .observers = {}});
  if (!replay.ok()) return std::nullopt;
  FitRow row;
  row.run = run;
  row.allocated = replay->allocated.bytes;
  row.reserved = replay->reserved.bytes;
  row.process = row.reserved + run.device.overhead.value;
  if (const std::optional<TimeReport> time = TimeReportOf(built->graph, run.device)) row.step_us = time->step_us;
  return row;
}

struct Combination {
  std::vector<std::string> names;
  RunConfig run;
};

// Every combination of the dimensions' values, in order.
std::vector<Combination> CombinationsOf(const RunConfig& run, const std::vector<Dimension>& dimensions) {
  std::vector<Combination> combinations;
  std::vector<size_t> at(dimensions.size());
  for (;;) {
    Combination combination = {.run = run};
    for (size_t d = 0; d < dimensions.size(); ++d) {
      const Change& change = dimensions[d][at[d]];
      if (change.apply == nullptr) continue;
      change.apply(combination.run);
      combination.names.push_back(change.name);
    }
    combinations.push_back(std::move(combination));
    size_t d = 0;
    while (d < at.size() && ++at[d] == dimensions[d].size()) at[d++] = 0;
    if (d == at.size()) return combinations;
  }
}

// Calls work(i) for each i below `count`, on all cores.
template <typename Work>
void ForEachInParallel(size_t count, const FitOptions& options, const Work& work) {
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  size_t done = 0;
  const auto run = [&] {
    for (size_t i = next++; i < count; i = next++) {
      work(i);
      const std::lock_guard lock(mutex);
      if (options.on_progress) options.on_progress(++done, count);
    }
  };
  std::vector<std::thread> team;
  for (unsigned i = 1; i < std::thread::hardware_concurrency() && i < count; ++i) team.emplace_back(run);
  run();
  for (std::thread& thread : team) thread.join();
}

// Those that can be simulated, in order.
std::vector<FitRow> TryAll(const std::vector<Combination>& combinations, const FitOptions& options) {
  std::vector<std::optional<FitRow>> tried(combinations.size());
  ForEachInParallel(combinations.size(), options, [&](size_t i) { tried[i] = TryRun(combinations[i].run); });
  std::vector<FitRow> rows;
  for (size_t i = 0; i < tried.size(); ++i) {
    if (!tried[i]) continue;
    const std::vector<std::string>& names = combinations[i].names;
    tried[i]->changes = names.empty() ? "as given" : fmt::format("{}", fmt::join(names, ", "));
    tried[i]->count = static_cast<int>(names.size());
    rows.push_back(std::move(*tried[i]));
  }
  return rows;
}

// Whether a is a better choice; both fit.
bool Better(const FitRow& a, const FitRow& b, Minimize minimize) {
  const auto key = [&](const FitRow& row) {
    const auto memory = static_cast<double>(row.process.count());
    switch (minimize) {
      case Minimize::kTime:
        return std::array{row.step_us, static_cast<double>(row.count), memory};
      case Minimize::kMemory:
        return std::array{memory, row.step_us, static_cast<double>(row.count)};
      case Minimize::kChanges:
        return std::array{static_cast<double>(row.count), row.step_us, memory};
    }
    return std::array{0.0, 0.0, 0.0};
  };
  return key(a) < key(b);
}

std::vector<FitRow> FrontOf(std::vector<FitRow> rows) {
  std::ranges::stable_sort(rows, [](const FitRow& a, const FitRow& b) {
    return std::tuple(a.step_us, a.process, a.count) < std::tuple(b.step_us, b.process, b.count);
  });
  std::vector<FitRow> front;
  for (FitRow& row : rows) {
    if (front.empty() || row.process < front.back().process) front.push_back(std::move(row));
  }
  return front;
}

std::vector<std::string> LinesOf(const RunConfig& from, const RunConfig& to) {
  std::vector<std::string> lines;
  if (to.passes != from.passes) {
    std::vector<std::string> passes;
    for (const PassConfig& pass : to.passes) passes.push_back(PassYaml(pass));
    lines.push_back(fmt::format("passes: [{}]", fmt::join(passes, ", ")));
  }
  if (!(to.allocator == from.allocator)) {
    lines.push_back(fmt::format("allocator: {{backend: {}, conf: \"{}\"}}", to.allocator.backend, to.allocator.conf));
  }
  return lines;
}

// Where checkpoints around every block are more than enough and none are too few, there is a cheaper plan for just this
// budget.
void TryWithinBudget(const FitOptions& options, std::vector<FitRow>& rows) {
  const Bytes budget = options.budget;
  std::vector<FitRow> planned;
  for (const FitRow& row : rows) {
    if (row.process <= budget || planned.size() == kMostPlanned) continue;
    RunConfig checkpointed = row.run;
    AddProgramPass(checkpointed, RecomputePass{});
    const auto enough = std::ranges::find(rows, checkpointed, &FitRow::run);
    if (enough == rows.end() || enough->process > budget) continue;
    FitRow within = {.changes = (row.count == 0 ? "" : row.changes + ", ") + "recompute within the budget",
                     .count = row.count + 1,
                     .run = row.run};
    AddPass(within.run,
            RecomputePass{.policy = RecomputePolicy::kBudget, .budget = budget - row.run.device.overhead.value});
    planned.push_back(std::move(within));
  }
  std::vector<std::optional<FitRow>> tried(planned.size());
  ForEachInParallel(planned.size(), options, [&](size_t i) { tried[i] = TryRun(planned[i].run); });
  for (size_t i = 0; i < tried.size(); ++i) {
    if (!tried[i]) continue;
    tried[i]->changes = std::move(planned[i].changes);
    tried[i]->count = planned[i].count;
    rows.push_back(std::move(*tried[i]));
  }
}

}  // namespace

Result<Fit> FitRun(const RunConfig& run, const FitOptions& options) {
  if (options.minimize == Minimize::kTime && !HasRates(run.device)) {
    return InvalidInput(
        "--minimize time: this device has no memory_bandwidth, peak_flops_fp32 and peak_flops_half; use memory or "
        "changes");
  }
  if (const Result<BuiltRun> built = BuildRun(run, {}); !built.ok()) return built.error();
  std::vector<FitRow> rows = TryAll(CombinationsOf(run, DimensionsOf(run)), options);
  TryWithinBudget(options, rows);
  Fit fit = {.title = TitleOf(run), .device = run.device.name, .budget = options.budget};
  for (FitRow& row : rows) row.fits = row.process <= options.budget;
  fit.base = rows.front();
  const FitRow* best = nullptr;
  for (const FitRow& row : rows) {
    if (row.fits && (best == nullptr || Better(row, *best, options.minimize))) best = &row;
  }
  if (best != nullptr) {
    fit.choice = *best;
    fit.lines = LinesOf(run, best->run);
  }
  fit.front = FrontOf(rows);
  fit.all = std::move(rows);
  return fit;
}

}  // namespace tidemark
