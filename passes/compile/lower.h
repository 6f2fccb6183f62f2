// Functional graph -> buffers and operations: decides which values exist in memory at all. Pointwise values stay
// expressions that their readers inline, until there is a reason to write them.
// Source: PyTorch 2.14, torch/_inductor/{graph,lowering,ir}.py.
#pragma once

#include <vector>

#include "graph/device.h"
#include "passes/compile/functional_graph.h"
#include "passes/compile/loops.h"

namespace tidemark::compile {

struct LoweringOptions {
  size_t visible_outputs = 0;        // the first outputs, which a user sees: never padded
  std::vector<Shape> input_strides;  // of the graph's inputs, in order
  bool is_symbolic = false;          // nothing is padded
};

LoweredGraph Lower(const FunctionalGraph& graph, const LoweringOptions& options, const DeviceSpec& device);

}  // namespace tidemark::compile
