// What Inductor does to a forward, backward or inference graph right before lowering it.
// Source: PyTorch 2.14, torch/_inductor/fx_passes/post_grad.py.
#pragma once

#include "passes/compile/functional_graph.h"

namespace tidemark::compile {

// Products and sums that are one addmm become one, biases of fp32 products an addition of their own, maximum and sum of
// a softmax one reduction of two results. Inference graphs first have operators moved next to their readers.
void RunPostGradPasses(FunctionalGraph& graph, bool inference);

}  // namespace tidemark::compile
