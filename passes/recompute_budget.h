// The cheapest plan in time with which the allocator reserves no more than a budget, fragmentation included.
//
// 1. Options. Each region (regions.h) can be cut at several prices of its ops' time against saved bytes (min_cut.h):
//    from nothing running again to everything but what the region is handed. Cuts at all prices that make a difference,
//    up to kMaxOptions, are the region's options; each has a time, and bytes that it keeps from forward to backward.
// 2. Plans. A dynamic program over the regions finds the cheapest choice of options whose highest sum of live bytes
//    stays below a target (the cheapest of all, unless there are more than 768 partial choices that none other beats;
//    as a bound it holds even then); it is run for a ladder of targets. Plans of checkpoints around some blocks only,
//    and of checkpoints around groups of blocks, go along. In small programs plans of an integer program
//    (recompute_program.h) go along: the cheapest of all plans whose live bytes stay below each of some targets.
// 3. Truth. Every plan is carried out and measured: its time, and what the allocator reserves for it.
// 4. Refinement. Between neighbours among the best plans, plans with a part of the differences are measured too, the
//    bytes that cost the least time first; in short programs also plans that differ in one decision or two. Where there
//    are at most kExhaustive decisions in a micro-step's forward (drop a saved storage; keep one that isn't), every
//    plan is measured instead: the choice is the optimum then.
// 5. The budget chooses among the measured plans: the fastest that fits; of equally fast ones the smallest.
//
// The plans don't depend on the budget, so a larger budget never gives a slower plan, nor one with a lower peak; a plan
// never takes more than the budget.
//
// What is known of the optimum. Reserved bytes are never less than live ones, so the least time for live bytes <=
// budget bounds the time of every plan from below. The integer program gives it for all plans, up to its limits in
// decisions and steps; beyond them the dynamic program gives it for step 2's kind of plans. The distance to it is
// noted: the optimality gap, which says nothing where all plans were measured, and is 0 where the bound is met: then
// the plan is the optimum.
#pragma once

#include <vector>

#include "passes/pass.h"
#include "passes/recompute_plan.h"
#include "passes/recompute_program.h"

namespace tidemark {

constexpr size_t kExhaustive = 10;  // decisions; up to here all plans are measured

struct MeasuredPlan {
  RecomputePlan plan;
  Nanos time;      // of the whole run's ops
  Bytes reserved;  // PassContext::physical_peak, or live bytes where there is none
  // For the search: whether what lies between it and the next one has been measured, and what differs from it in one
  // decision, or in two.
  bool refined = false, explored = false, paired = false;
};

// No plan is faster than `time`: none at all, or none that mixes the regions' options.
struct TimeBound {
  Nanos time;  // of the whole run's ops
  bool of_all_plans = false;
};

// Plans from which a budget may choose, by rising time; each takes less than all before it. `bound(bytes, plan)`: for
// plans with at most so many live bytes, of which `plan` is one.
struct PlanFront {
  std::vector<MeasuredPlan> plans;
  std::function<TimeBound(Bytes, const MeasuredPlan&)> bound;
  int measured = 0;         // plans that were carried out
  bool exhaustive = false;  // there are no others
};
// Errors: what physical_peak says; a device whose rates aren't known.
Result<PlanFront> MeasurePlans(const RecomputeAnalysis& analysis, const PassContext& context);

// The fastest plan within the budget; null: none.
const MeasuredPlan* ChoosePlan(const PlanFront& front, Bytes budget);

// Errors: no plan stays within the budget (the least is named); what MeasurePlans says.
Result<PassResult> RecomputeWithin(Graph graph, Bytes budget, const PassContext& context);

}  // namespace tidemark
