// Captured operators -> core operators: the joint graph (or, without backward, an inference graph) as AOTAutograd makes
// it with Inductor's decompositions.
// Source: PyTorch 2.14, torch/_decomp/decompositions.py and torch/_inductor/decomposition.py.
#pragma once

#include <vector>

#include "graph/base/result.h"
#include "passes/compile/capture.h"
#include "passes/compile/functional_graph.h"

namespace tidemark::compile {

// `now`: the same program captured at the length of the call. The graph's inputs are the captured inputs
// ("primals_1", …; of inference graphs "arg0_1", …), then the tangents; its outputs logits, loss, then the gradients.
// Errors: an operator that has no decomposition here.
Result<FunctionalGraph> Decompose(const Captured& hint, const Captured& now, Names& names);

}  // namespace tidemark::compile
