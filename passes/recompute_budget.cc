#include "passes/recompute_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "graph/cost.h"
#include "graph/op.h"
#include "passes/min_cut.h"
#include "passes/recompute.h"
#include "passes/region_plans.h"

namespace tidemark {
namespace {

constexpr int kTargets = 32;
constexpr int kCheckpointPlans = 24;
constexpr size_t kMeasuredSteps = size_t{3} << 20;  // of all plans' programs together: fewer targets for longer runs

class Planner {
 public:
  Planner(const RecomputeAnalysis& analysis, const PassContext& context)
      : analysis_(analysis), context_(context), base_time_(RunTimeOf(analysis.graph)) {}

  Result<PlanFront> Run() {
    const size_t affordable = kMeasuredSteps / std::max<size_t>(1, analysis_.graph.program.size());
    const int targets = static_cast<int>(std::clamp<size_t>(affordable, 6, kTargets));
    auto mixer = std::make_shared<RegionMixer>(analysis_, context_.device);
    RecomputePlan unchanged;
    unchanged.resize(analysis_.graph.storages.size());
    RETURN_IF_ERROR(Measure(std::move(unchanged)));
    for (const Choice& choice : mixer->Ladder(targets)) RETURN_IF_ERROR(Measure(mixer->PlanOf(choice)));
    for (const Choice& choice : mixer->PartialCheckpoints(std::min(targets, kCheckpointPlans))) {
      RETURN_IF_ERROR(Measure(mixer->PlanOf(choice)));
    }
    for (int64_t blocks = 1; blocks < 2 * mixer->regions(); blocks *= 2) {
      RETURN_IF_ERROR(Measure(PlanOf(analysis_, {.policy = RecomputePolicy::kEveryN, .blocks = blocks})));
    }
    front_.measured = static_cast<int>(seen_.size());
    KeepTheFront();
    front_.bound = [mixer, base = base_time_](Bytes bytes) { return base + mixer->LeastTime(bytes); };
    return std::move(front_);
  }

 private:
  Nanos RunTimeOf(const Graph& graph) const { return TimeOf(graph, context_.device).total(); }

  Status Measure(RecomputePlan plan) {
    std::vector<Keep> key(plan.begin(), plan.end());
    if (!seen_.insert(std::move(key)).second) return {};
    const Graph graph = ApplyRecompute(analysis_, plan);
    Bytes reserved = LivePeakOf(graph, context_.device).bytes;
    if (context_.physical_peak) {
      ASSIGN_OR_RETURN(reserved, context_.physical_peak(graph));
    }
    front_.plans.push_back({std::move(plan), RunTimeOf(graph), reserved});
    return {};
  }

  void KeepTheFront() {
    std::vector<MeasuredPlan>& plans = front_.plans;
    std::ranges::stable_sort(plans, [](const MeasuredPlan& a, const MeasuredPlan& b) {
      return a.time != b.time ? a.time < b.time : a.reserved < b.reserved;
    });
    std::vector<MeasuredPlan> kept;
    for (MeasuredPlan& plan : plans) {
      if (kept.empty() || plan.reserved < kept.back().reserved) kept.push_back(std::move(plan));
    }
    plans = std::move(kept);
  }

  const RecomputeAnalysis& analysis_;
  const PassContext& context_;
  Nanos base_time_;
  std::set<std::vector<Keep>> seen_;
  PlanFront front_;
};

std::string Note(const PlanFront& front, const MeasuredPlan& chosen, Bytes budget, int64_t steps) {
  const MeasuredPlan& base = front.plans.front();
  const double per_step = 1e6 * static_cast<double>(std::max<int64_t>(1, steps));
  const double added = (chosen.time.count() - base.time.count()) / per_step;
  const double least = std::max(0.0, (front.bound(budget).count() - base.time.count()) / per_step);
  const double step = base.time.count() / per_step;
  return fmt::format(
      "reserves {:.1f} MiB of {:.1f}; adds {:.2f} ms to a step of {:.1f} ms ({:+.1f} %); no plan of its kind adds less "
      "than {:.2f} ms (optimality gap {:.2f} % of the step); {} plans measured",
      chosen.reserved / kMiB, budget / kMiB, added, step, 100 * added / step, least, 100 * (added - least) / step,
      front.measured);
}

}  // namespace

Result<PlanFront> MeasurePlans(const RecomputeAnalysis& analysis, const PassContext& context) {
  if (!HasRates(context.device)) {
    return InvalidInput(
        "passes.recompute: policy budget weighs time, and this device has no memory_bandwidth, peak_flops_fp32 and "
        "peak_flops_half");
  }
  return Planner(analysis, context).Run();
}

Result<PassResult> RecomputeWithin(Graph graph, Bytes budget, const PassContext& context) {
  const RecomputeAnalysis analysis(graph);
  ASSIGN_OR_RETURN(const PlanFront front, MeasurePlans(analysis, context));
  const auto chosen = std::ranges::find_if(front.plans, [&](const MeasuredPlan& p) { return p.reserved <= budget; });
  if (chosen == front.plans.end()) {
    return InvalidInput(
        fmt::format("passes.recompute: no plan reserves as little as {:.1f} MiB; the least is {:.1f} MiB",
                    budget / kMiB, front.plans.back().reserved / kMiB));
  }
  const int64_t steps = analysis.micro_steps.empty() ? 1 : analysis.micro_steps.back().step + 1;
  std::vector<std::string> notes = {Note(front, *chosen, budget, steps)};
  if (chosen == front.plans.begin()) return PassResult{std::move(graph), std::move(notes)};
  return PassResult{ApplyRecompute(analysis, chosen->plan), std::move(notes)};
}

}  // namespace tidemark
