// A compiled graph: code to run, and what to call it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/base/result.h"
#include "graph/device.h"
#include "graph/graph.h"
#include "graph/run_config.h"
#include "passes/compile/capture.h"
#include "passes/compile/pad_mm.h"
#include "passes/compile/plan.h"
#include "passes/compile/summary.h"
#include "passes/compile/tuning.h"

namespace tidemark::compile {

// What is known of a kernel beside its operations.
struct KernelInfo {
  FusedKernel fused;  // a library call: nothing
  ScopeId scope;      // of the captured graph: module of the first op that belongs to one
};

// A library call as the op of a graph.
struct CallInfo {
  Attributes attributes;
  // Of attention only.
  std::vector<size_t> operands;     // by input of the op: which of the core operator's
  std::vector<TensorType> results;  // of the op
  std::vector<int> parts;           // by result of the core operator: which of `results`; -1: it isn't on the device
};

struct CompiledGraph {
  LoweredGraph lowered;
  Plan plan;
  std::vector<KernelInfo> kernels;  // by kernel
  GraphTuning tuning;
  Column<OperationId, CallInfo> calls;  // of library calls
  Column<BufferId, Role> roles;
};

// Folding constants computes each on the device: it lives until the last operator that reads it has been looked at.
struct FoldingStep {
  size_t constant = 0;  // made by this step if it is a new one, else dropped; numbered in order of creation
  DType dtype = DType::kFloat32;
};

// Forward and backward of a step, or, with an empty backward, inference.
struct CompiledStep {
  Graph captured;                    // for its scopes
  std::vector<InputSource> sources;  // of forward's inputs
  size_t outputs = 0;                // of forward; what follows is saved
  CompiledGraph forward;
  CompiledGraph backward;  // inputs: what is saved, then tangents; outputs: a gradient for each of forward's inputs
  bool is_training = false;
  // The two lengths of a request with an open one have programs of their own; there is nothing else here then.
  bool is_another_program = false;
  std::vector<FoldingStep> folding;
  std::vector<TimedProduct> products;  // where the run is a first one

  // Whether what was decided for the one length, with guards, is what would be decided for the other.
  bool GuardsHold() const { return forward.lowered.guards_hold && backward.lowered.guards_hold; }
};

struct CompileRequest {
  Dims tokens;      // sizes of a batch for which the code is compiled
  Dims tokens_now;  // of the batch that it will be run with; not the same: the last dimension is symbolic
  bool training = true;
  std::string_view number;  // that tells its graphs from earlier ones: "", "1", …
};

// Intermediate states as text, in order: "joint", "cut", "saved", "forward", "backward", "inference", and of each graph
// "…-buffers", "…-kernels", "…-lines".
struct Observer {
  std::function<void(std::string_view stage, const std::string& text)> on_stage;
  std::function<void(const GraphSummary& summary)> on_graph;  // each graph, once compiled
};
std::vector<std::string_view> Stages();

// Errors: an operator that can't be compiled here.
Result<CompiledStep> CompileStep(const RunConfig& run, const CompileRequest& request, const Observer& observer = {});

}  // namespace tidemark::compile
