// Runs executed on the host, for tests.
#pragma once

#include <string>
#include <vector>

#include "graph/base/result.h"
#include "graph/graph.h"
#include "kernels/executor.h"

namespace tidemark {

// A run with everything that executing it needs.
struct Prepared {
  Graph graph;
  Lowered lowered;
  PlacedTape placed;
};

// The run file at `path` (below the source folder) with KEY=VALUE overrides. Errors fail the test and give an empty
// run.
Prepared PrepareRun(const std::string& path, const std::vector<std::string>& overrides = {});

Execution ExecuteOnHost(const Prepared& run, const ExecuteOptions& options = {});

// Loss values in order.
std::vector<double> LossesOf(const Execution& execution);
// Gradients of all steps in order.
std::vector<const Observed*> GradientsOf(const Execution& execution);

}  // namespace tidemark
