// Runs of elementwise ops, and reductions along rows, become one kernel: what only its own ops read never reaches
// memory.
//
//   a = mm x w   b = mul a 2   c = softmax b   d = to_copy c      =>      a = mm x w   { b = …; c = …; d = … } one
//   kernel
//                                                                         b and c, unless somebody else reads them,
//                                                                         stay in registers (Location::kKernel)
//
// An op joins the kernel of an op whose result it reads, element by element in the same order: same sizes, dense. It is
// moved up behind that kernel, where nothing that it reads is made or changed in between. Reductions along the last
// dimension (softmax, layer norm and their gradients along rows, nll_loss and its gradient) join where all of a
// kernel's rows are equally long; sums over rows and products don't. (nll_loss's own sum is a number for each row,
// which blocks of threads add up.) With {recompute: {policy: selective, ops: [_log_softmax, _to_copy]}} before it, this
// is fused cross-entropy: of the loss only logits reach memory.
//
// Stands last: a fused kernel can't be taken apart again by recompute or offload. Costs nothing: fewer launches, less
// traffic. Results are the same to the bit as executed here; a compiler would order the arithmetic differently, within
// rounding. Ops keep their meaning one by one, so the executor runs them as they are; what fusion changes is where
// their results are and what moves.
#pragma once

#include "passes/pass.h"

namespace tidemark {

Result<PassResult> Fuse(Graph graph, const PassConfig& config, const PassContext& context);

}  // namespace tidemark
