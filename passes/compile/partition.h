// What forward saves for backward: a minimum cut of the joint graph, and the two graphs on its sides.
// Source: PyTorch 2.14, torch/_functorch/partitioners.py (min_cut_rematerialization_partition).
#pragma once

#include <string>
#include <vector>

#include "passes/compile/functional_graph.h"

namespace tidemark::compile {

struct Partition {
  FunctionalGraph forward;   // outputs: logits, loss, then what is saved
  FunctionalGraph backward;  // inputs: what is saved, then the tangents; outputs: the gradients
  size_t forward_outputs = 0;
  int64_t cut_value = 0;
  std::string explanation;  // a line a node: capacity, why it can't be recomputed, whether it is cut; if asked for
};

// `joint` after MergeCommon. Parameters and buffers, which live anyway, are free to save; tokens and targets aren't.
Partition PartitionJoint(FunctionalGraph joint, const std::vector<bool>& is_static_input, bool explain);

}  // namespace tidemark::compile
