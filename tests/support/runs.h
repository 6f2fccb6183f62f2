// Small training runs of every kind, for tests that look at whole graphs.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/run_config.h"

namespace tidemark {

struct NamedRun {
  std::string name;
  RunConfig run;
};

// nanoGPT with two layers: each precision, with and without dropout, bias, accumulation, clipping, evaluation,
// checkpoints, written-out attention, and each optimizer.
std::vector<NamedRun> TinyRuns();

// The base of those: two layers, hidden 64, fp32, batch 2 x 32, one step, on the device of configs/devices/rtx4070.
RunConfig TinyRun();

// The graph of a run. The test ends if there is none.
Graph GraphOf(const RunConfig& run);
// The graph of a text (graph/graph_text.h), likewise.
Graph GraphOfText(const std::string& text);

}  // namespace tidemark
