// From a run's configuration to its tape: traced, rewritten by its passes, lowered.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/base/result.h"
#include "graph/graph.h"
#include "graph/run_config.h"
#include "passes/compile/summary.h"
#include "passes/compile/tuning.h"
#include "passes/pipeline.h"
#include "sim/allocator.h"
#include "sim/lower.h"
#include "tools/report.h"

namespace tidemark {

// A device's memory where it is asked how much a run would take, not whether that is there.
constexpr Bytes kUnlimited = kGiB * (int64_t{1} << 20);

struct BuildOptions {
  std::vector<std::string> print_after;   // passes, or stages of the compiler, behind which the graph is kept as text
  bool summarize_compiled = false;        // keep what the compiler made of each graph
  compile::TuningCache* tuned = nullptr;  // the compile cache of runs before, to which a first run adds
};

struct BuiltRun {
  Graph graph;
  Lowered lowered;
  std::vector<PassRun> passes;
  std::string stages;  // of the compiler, as text
  std::vector<compile::GraphSummary> compiled;
};

// Errors: what can't be simulated, or what a pass says.
Result<BuiltRun> BuildRun(const RunConfig& run, const BuildOptions& options);

// The allocator that the run asks for, on its device.
AllocatorOptions AllocatorOf(const RunConfig& run);

// "gpt2 (nanogpt), 6 layers, hidden 384, batch 16 x 512, …"
std::string TitleOf(const RunConfig& run);

// "recompute: 9,412 ops (+1,224), highest live bytes 3,012.4 MiB (-911.8), 3.1 ms"
std::string DescribePass(const PassRun& pass);

// When each event of the lowered tape happens, in nanoseconds from the start, rising; an op's events are spread over
// its time. Empty where the device's rates aren't known.
std::vector<int64_t> EventTimes(const BuiltRun& built, const DeviceSpec& device);

// Modelled time of a step; none where the device's rates aren't known.
std::optional<TimeReport> TimeReportOf(const Graph& graph, const DeviceSpec& device);

}  // namespace tidemark
