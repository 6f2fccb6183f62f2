// Frees activations after forward and computes them again in backward, right before their first reader there.
//
//   a = mm x w   b = gelu a   …   dv = mm bT dc      =>      a = mm x w   b = gelu a   …   b' = gelu a   dv = mm b'T dc
//
// Policies:
//   full       a checkpoint around every block, as torch.utils.checkpoint has it. Not here: the program is traced so.
//   every-n    a block's insides are dropped; what `blocks` consecutive blocks hand to the next ones is kept. With 1:
//              what `full` keeps, but each value comes back only when it's needed.
//   selective  results of the named ops are dropped. What those ops read is kept: where that costs more than it saves,
//              the result stays.
//   min-cut    the fewest bytes from which backward can be computed without running a product or attention again: a
//              minimum cut between what forward computes and what backward reads. Of several minimum cuts, the one
//              nearest to backward: it repeats the least.
//   budget     the cheapest plan in time with which the allocator reserves no more than the budget
//   (recompute_budget.h).
//
// Stands anywhere in the list, but before fuse: a fused kernel can't be repeated in part. Adds at most one op for each
// op of forward. Values are unchanged to the bit: copies draw their originals' random numbers. What lives between
// forward and backward shrinks; where the peak lies within backward it may rise instead.
#pragma once

#include "passes/pass.h"
#include "passes/recompute_plan.h"

namespace tidemark {

Result<PassResult> Recompute(Graph graph, const PassConfig& config, const PassContext& context);

// The plan of a policy; REQUIRES: not full, not budget.
RecomputePlan PlanOf(const RecomputeAnalysis& analysis, const RecomputePass& pass);

}  // namespace tidemark
