// Runs a list of passes: times each, verifies what it made, and says whether it changed anything (fingerprints are
// compared; a pass can't misreport).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "passes/pass.h"

namespace tidemark {

struct PipelineOptions {
  PassContext context;
  std::vector<std::string> disabled;     // names of passes that are left out
  std::vector<std::string> print_after;  // names of passes behind which the graph is kept as text
};

struct PassRun {
  std::string_view name;
  double milliseconds = 0;  // of the pass alone, by the wall clock
  bool changed = false;
  size_t ops_before = 0, ops_after = 0;
  Bytes live_before, live_after;        // highest sums of live bytes
  Bytes traffic_before, traffic_after;  // what the run's kernels read and write
  std::vector<std::string> notes;
  std::string text;  // the graph behind it, where print_after asks
};

struct Rewritten {
  Graph graph;
  std::vector<PassRun> runs;
};

// Program passes in the list are skipped: the tracer has seen to them. Errors: what a pass says; a name in `disabled`
// or `print_after` that no pass has; a pass behind fuse; and, if a pass has a bug, what VerifyGraph says of its graph.
Result<Rewritten> RunPasses(Graph graph, std::span<const PassConfig> passes, const PipelineOptions& options);

// A number that two graphs share only if they are the same, up to the numbering of tensors and attributes.
uint64_t Fingerprint(const Graph& graph);

}  // namespace tidemark
