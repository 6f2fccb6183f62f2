// A training run as a program on the tracer: batches, forward, backward, clipping, optimizer, evaluation.
#pragma once

#include "graph/base/result.h"
#include "graph/graph.h"
#include "graph/run_config.h"

namespace tidemark {

// The graph of the whole run: its program passes (graph/run_program.h) are carried out, those that rewrite graphs
// aren't. Errors: what can't be simulated (exit code 2, with the reason).
Result<Graph> TraceRun(const RunConfig& run);

}  // namespace tidemark
