// What Inductor does to a joint (or inference) graph before it is cut.
// Source: PyTorch 2.14, torch/_inductor/fx_passes/{joint_graph,replace_random}.py, torch/_functorch/compile_utils.py.
#pragma once

#include "passes/compile/functional_graph.h"

namespace tidemark::compile {

// Copies and other operators that change nothing go.
void RemoveNoOps(FunctionalGraph& graph);

// Constants become `full`; a constant scattered into a constant
// becomes a comparison with an index; random numbers come from one tensor of seeds.
void RunJointPasses(FunctionalGraph& graph, Names& names);

// Merges equal operators on equal operands, but not one that backward depends on with one that it doesn't, and no
// outputs.
void MergeCommon(FunctionalGraph& graph);

}  // namespace tidemark::compile
