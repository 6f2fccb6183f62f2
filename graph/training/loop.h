// A training run as a program on the tracer: batches, forward, backward, clipping, optimizer, evaluation.
#pragma once

#include <functional>
#include <memory>

#include "graph/base/result.h"
#include "graph/graph.h"
#include "graph/model.h"
#include "graph/run_config.h"

namespace tidemark {

// Runs a model's steps in the place of its modules, as torch.compile's code does (passes/compile). What it can't run it
// refuses (Tracer::Refuse).
class ModelRunner {
 public:
  virtual ~ModelRunner() = default;
  virtual ModelOutput operator()(const Tensor& tokens, const Tensor& targets) = 0;
};
// `run` and `model` outlive it; the model is on its device.
using MakeModelRunner = std::function<std::unique_ptr<ModelRunner>(const RunConfig& run, Model& model)>;

// The graph of the whole run: its program passes (graph/run_program.h) are carried out, those that rewrite graphs
// aren't. `compiler`: for runs with training.compile. Errors: what can't be simulated (exit code 2, with the reason).
Result<Graph> TraceRun(const RunConfig& run, const MakeModelRunner& compiler = nullptr);

}  // namespace tidemark
