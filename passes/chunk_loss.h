// The head's product and the cross-entropy in parts of the rows, so that whole logits never exist: chunked loss, and
// with gradient_early fused linear cross-entropy.
//
//   l = mm x w    p = log_softmax l    loss = nll p y          =>     for rows r of each chunk:
//                                                                       l = mm x[r] w    p = log_softmax l
//   backward: dp = nll' p    dl = log_softmax' dp p                     sum += nll p y[r]    (l, p die)
//             dw = mm dlT x    dx = mm dl wT                          loss = sum / count
//                                                              backward, for rows r of each chunk:
//                                                                       l, p again    dl    dw += mm dlT x[r]
//                                                                       dx[r] = mm dl wT
//
// With gradient_early the gradients are computed along with the loss, for a gradient of one, and backward only
// multiplies them: no product runs twice, but dx and dw live from forward to backward, and in fp16 what is small is
// lost, since the scaler's factor comes too late: an error there.
//
// Stands before recompute, offload of activations and fuse, which change what it looks for: a product, casts and a
// log-softmax between it and nll_loss, that nobody else reads. Whoever called the model no longer gets logits. Costs
// one more product of the head (without gradient_early), and reads the head's weight once for each chunk. Sums are
// split: equal within rounding. With as many chunks as the head is larger than its input, a chunk's logits are no
// larger than that input (the default).
#pragma once

#include "passes/pass.h"

namespace tidemark {

// Errors: nothing in the graph has this form; gradient_early in fp16.
Result<PassResult> ChunkLoss(Graph graph, const PassConfig& config, const PassContext& context);

}  // namespace tidemark
