#include "passes/pass.h"

#include <array>

#include "passes/chunk_loss.h"
#include "passes/fuse.h"
#include "passes/offload.h"
#include "passes/optimizer_in_backward.h"
#include "passes/recompute.h"

namespace tidemark {

std::span<const PassInfo> Passes() {
  static constexpr std::array<PassInfo, std::variant_size_v<PassConfig>> kPasses = {{
      {"recompute",
       "{policy: full | every-n | selective | min-cut | budget; full: reentrant: false; every-n: blocks: 2; selective: "
       "ops: [gelu, …]; budget: budget: 6GiB, of reserved memory}",
       "drops activations after forward and computes them again in backward",
       "policy full: before every rewriting pass; the others: before fuse",
       "at most one more run of each op of forward", &Recompute},
      {"fuse", "{reductions: true}",
       "elementwise ops and reductions along rows become one kernel; results inside vanish", "last",
       "nothing: fewer launches, less traffic", &Fuse},
      {"chunk_loss", "{chunks: 0, gradient_early: false}",
       "the head's product and the loss in parts of the rows: whole logits never exist",
       "before recompute, offload of activations and fuse",
       "one more product of the head, and its weight read for each chunk", &ChunkLoss},
      {"accumulate", "{parts: 2}", "each batch as `parts` smaller ones, whose gradients add up",
       "before every rewriting pass", "the same arithmetic in smaller kernels", nullptr},
      {"offload", "{what: activations | optimizer-state, smallest: 1MiB}",
       "keeps tensors in the host's memory while nobody needs them", "before fuse",
       "twice the bytes over the host's link", &Offload},
      {"optimizer_in_backward", "{}", "updates each parameter when its gradient is there, and drops the gradient",
       "before fuse; not with clipping or a scaler", "a kernel for each parameter", &OptimizerInBackward},
  }};
  return kPasses;
}

const PassInfo& InfoOf(const PassConfig& pass) { return Passes()[pass.index()]; }

}  // namespace tidemark
