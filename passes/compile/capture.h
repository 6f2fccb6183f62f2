// A model's forward and, for training, its backward, as operators on values: what Dynamo and AOTAutograd see.
#pragma once

#include <vector>

#include "graph/base/result.h"
#include "graph/device.h"
#include "graph/graph.h"
#include "graph/run_config.h"

namespace tidemark::compile {

// Where a graph's input comes from in a run.
struct InputSource {
  enum class Kind { kTokens, kTargets, kParameter, kBuffer };
  Kind kind = Kind::kTokens;
  size_t index = 0;  // of the parameter in Module::Parameters(), or of the buffer in Module::Buffers()
};

struct Captured {
  Graph graph;                             // functional: Tracer::functional
  std::vector<int32_t> recompute_regions;  // by op
  OpId first_backward;
  std::vector<InputSource> sources;
  std::vector<TensorId> inputs;     // tokens, then parameters and targets in the order in which the model uses them
  std::vector<TensorId> outputs;    // logits, loss
  std::vector<TensorId> tangents;   // of the outputs; training only
  std::vector<TensorId> gradients;  // by input; invalid: none
};

// `tokens`: sizes of a batch. `training`: with backward and dropout; otherwise neither, under torch.no_grad.
// `open_length`: for any length (Tracer::open_length).
Result<Captured> Capture(const RunConfig& run, const Dims& tokens, bool training, bool open_length);

}  // namespace tidemark::compile
