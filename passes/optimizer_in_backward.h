// Updates each parameter as soon as its gradient is complete and nobody reads the parameter any more in this backward,
// and drops the gradient there: gradients never exist all at once.
//
//   backward │ dw2  dx2  dw1  dx1 │ optimizer │ adam [w1 w2] [dw1 dw2] │ zero_grad
//   =>
//   backward │ dw2  dx2  adam w2 dw2  (dw2 dies)  dw1  dx1  adam w1 dw1  (dw1 dies) │ …
//
// Stands anywhere before fuse. Costs a kernel for each parameter instead of one for all. With accumulation gradients
// live on between micro-steps, and only the last backward of a step updates. Not with gradient clipping, nor with a
// scaler, which both look at all gradients first; with a fused optimizer only. Parameters and states at the end are the
// same to the bit; gradients can't be looked at before the optimizer any more.
#pragma once

#include "passes/pass.h"

namespace tidemark {

// Errors: a run with clipping or a scaler, or whose optimizer isn't fused.
Result<PassResult> OptimizerInBackward(Graph graph, const PassConfig& config, const PassContext& context);

}  // namespace tidemark
