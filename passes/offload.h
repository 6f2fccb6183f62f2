// Keeps tensors in the host's memory while nobody needs them on the device.
//
// Activations: what only backward's nodes keep, from `smallest` bytes on.
//
//   a = gelu h   b = mm a w   …   dw = mm aT db      =>      a = gelu h   b = mm a w   a_host = offload a   …
//                                                            a' = fetch a_host   dw = mm a'T db
//
// Optimizer state: moments live on the host between steps; each parameter's are fetched for its own update, and the
// update of a list becomes one for each parameter.
//
// Stands before fuse. Costs twice the bytes over the host's link (cost.h: kHostLink), for activations in each
// micro-step, counted as if nothing ran meanwhile. Values are unchanged to the bit. Tied to an optimizer with
// implementation fused where it moves states.
#pragma once

#include "passes/pass.h"

namespace tidemark {

// Errors: optimizer state that no fused optimizer updates.
Result<PassResult> Offload(Graph graph, const PassConfig& config, const PassContext& context);

}  // namespace tidemark
