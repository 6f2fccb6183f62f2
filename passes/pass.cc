#include "passes/pass.h"

#include <array>

#include "passes/recompute.h"

namespace tidemark {

std::span<const PassInfo> Passes() {
  static constexpr std::array<PassInfo, std::variant_size_v<PassConfig>> kPasses = {{
      {"recompute", "{policy: full | every-n | selective | min-cut | budget}",
       "drops activations after forward and computes them again in backward",
       "policy full: before every rewriting pass; the others: before fuse",
       "at most one more run of each op of forward", &Recompute},
      {"accumulate", "{parts: 2}", "each batch as `parts` smaller ones, whose gradients add up",
       "before every rewriting pass", "the same arithmetic in smaller kernels", nullptr},
  }};
  return kPasses;
}

const PassInfo& InfoOf(const PassConfig& pass) { return Passes()[pass.index()]; }

}  // namespace tidemark
