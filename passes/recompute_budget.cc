#include "passes/recompute_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
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
constexpr int kProgramTargets = 16;
constexpr int kProgramNodes = 300;  // for all of these targets together
constexpr int kCheckpointPlans = 24;
constexpr size_t kRefinements = 48;
constexpr size_t kExplored = 1000;  // neighbours of good plans, where programs are so short that this is nothing
constexpr double kSameTime = 1e-9;  // of a run's: sums differ in their order
constexpr size_t kMeasuredSteps = size_t{3} << 20;  // of all plans' programs together: fewer targets for longer runs

class Planner {
 public:
  Planner(const RecomputeAnalysis& analysis, const PassContext& context)
      : analysis_(analysis),
        context_(context),
        base_time_(RunTimeOf(analysis.graph)),
        decisions_(DecisionsOf(analysis)) {}

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
    for (int64_t blocks = 1; blocks < int64_t{2} * mixer->regions(); blocks *= 2) {
      RETURN_IF_ERROR(Measure(PlanOf(analysis_, {.policy = RecomputePolicy::kEveryN, .blocks = blocks})));
    }
    const std::shared_ptr<RecomputeProgram> program = RecomputeProgram::Make(analysis_, decisions_, context_.device);
    front_.exhaustive = !decisions_.empty() && decisions_.size() <= kExhaustive;
    if (front_.exhaustive) {
      RETURN_IF_ERROR(MeasureAll());
    } else {
      if (program != nullptr) RETURN_IF_ERROR(MeasureOptima(*program));
      const size_t left = affordable - std::min(affordable, seen_.size());
      RETURN_IF_ERROR(Refine(std::min<size_t>(left, kRefinements)));
      if (left > kExplored) RETURN_IF_ERROR(Explore(kExplored));
    }
    front_.measured = static_cast<int>(seen_.size());
    KeepTheFront();
    front_.bound = [mixer, program, base = base_time_](Bytes bytes, const MeasuredPlan& plan) -> TimeBound {
      if (program == nullptr) return {base + mixer->LeastTime(bytes)};
      const std::vector<bool> known = program->TakenBy(plan.plan);
      return {base + program->Solve(bytes, RecomputeProgram::kMostNodes, &known).at_least, true};
    };
    return std::move(front_);
  }

 private:
  Nanos RunTimeOf(const Graph& graph) const { return TimeOf(graph, context_.device).total(); }

  // A plan that was measured before is no news.
  Status Measure(RecomputePlan plan) {
    std::vector<Keep> key(plan.begin(), plan.end());
    if (!seen_.insert(std::move(key)).second) return {};
    const Graph graph = ApplyRecompute(analysis_, plan);
    Bytes reserved;
    if (context_.physical_peak) {
      ASSIGN_OR_RETURN(reserved, context_.physical_peak(graph));
    } else {
      reserved = LivePeakOf(graph, context_.device).bytes;
    }
    front_.plans.push_back({std::move(plan), RunTimeOf(graph), reserved});
    return {};
  }

  Status MeasureAll() {
    for (size_t chosen = 0; chosen < size_t{1} << decisions_.size(); ++chosen) {
      RecomputePlan plan;
      plan.resize(analysis_.graph.storages.size());
      for (size_t d = 0; d < decisions_.size(); ++d) {
        if ((chosen >> d & 1) != 0) Enter(decisions_[d], decisions_[d].keep, plan);
      }
      RETURN_IF_ERROR(Measure(std::move(plan)));
    }
    return {};
  }

  // The cheapest plans for live bytes between the least that any plan is known to take and what the unchanged run does.
  Status MeasureOptima(RecomputeProgram& program) {
    const std::vector<bool> nothing(decisions_.size());
    const Bytes most = program.LiveOf(nothing);
    const Bytes least = program.LiveOf(std::vector<bool>(decisions_.size(), true));
    int nodes = 0;
    std::vector<bool> known;  // the optimum of the target before: it stays within this one, too
    for (int i = 0; i < kProgramTargets && nodes < kProgramNodes; ++i) {
      const Bytes target = least + Bytes((most - least).count() / kProgramTargets * i);
      const RecomputeProgram::Answer answer =
          program.Solve(target, kProgramNodes - nodes, known.empty() ? nullptr : &known);
      nodes += answer.nodes;
      if (!answer.proven) continue;
      RETURN_IF_ERROR(Measure(program.PlanOf(answer.taken)));
      known = answer.taken;
    }
    return {};
  }

  static void Enter(const RecomputeDecision& decision, Keep keep, RecomputePlan& plan) {
    for (const StorageId storage : decision.storages) plan[storage] = keep;
  }

  // Measures up to `count` plans that lie between neighbours of the front: each time between those that leave the
  // largest gap.
  Status Refine(size_t count) {
    KeepTheFront();
    for (size_t i = 0; i < count; ++i) {
      std::optional<size_t> widest;
      for (size_t k = 0; k + 1 < front_.plans.size(); ++k) {
        if (Gap(k) > 0 && (!widest || Gap(k) > Gap(*widest))) widest = k;
      }
      if (!widest) return {};
      RecomputePlan between = Between(front_.plans[*widest], front_.plans[*widest + 1]);
      front_.plans[*widest].refined = true;
      RETURN_IF_ERROR(Measure(std::move(between)));
      KeepTheFront();
    }
    return {};
  }

  // Measures what each plan of the front becomes when one decision is taken the other way, and so on for what that
  // brings to the front; where nothing is left of that, two decisions. At most about `count` plans.
  Status Explore(size_t count) {
    const size_t most = seen_.size() + count;
    while (seen_.size() < most) {
      KeepTheFront();
      if (const auto next = std::ranges::find(front_.plans, false, &MeasuredPlan::explored);
          next != front_.plans.end()) {
        next->explored = true;
        const RecomputePlan plan = next->plan;
        for (const RecomputeDecision& decision : decisions_) RETURN_IF_ERROR(Measure(Turned(plan, decision)));
        continue;
      }
      const auto next = std::ranges::find(front_.plans, false, &MeasuredPlan::paired);
      if (next == front_.plans.end()) return {};
      next->paired = true;
      RETURN_IF_ERROR(MeasurePairs(RecomputePlan(next->plan), most));
    }
    return {};
  }

  // The plan with a decision taken the other way.
  static RecomputePlan Turned(RecomputePlan plan, const RecomputeDecision& decision) {
    const bool taken = plan[decision.storages.front()] == decision.keep;
    Enter(decision, taken ? Keep::kAsItIs : decision.keep, plan);
    return plan;
  }

  Status MeasurePairs(const RecomputePlan& plan, size_t most) {
    for (size_t i = 0; i < decisions_.size(); ++i) {
      const RecomputePlan first = Turned(plan, decisions_[i]);
      for (size_t k = i + 1; k < decisions_.size() && seen_.size() < most; ++k) {
        RETURN_IF_ERROR(Measure(Turned(first, decisions_[k])));
      }
    }
    return {};
  }

  double Gap(size_t k) const {
    const MeasuredPlan& a = front_.plans[k];
    const MeasuredPlan& b = front_.plans[k + 1];
    if (a.refined) return 0;
    return (b.time.count() - a.time.count()) * static_cast<double>((a.reserved - b.reserved).count());
  }

  // The faster plan with the better half of what the smaller one does differently: most bytes for the time first.
  RecomputePlan Between(const MeasuredPlan& faster, const MeasuredPlan& smaller) const {
    const Graph& graph = analysis_.graph;
    std::vector<const RecomputeDecision*> differences;
    for (const RecomputeDecision& decision : decisions_) {
      const StorageId storage = decision.storages.front();
      if (faster.plan[storage] != smaller.plan[storage]) differences.push_back(&decision);
    }
    const auto worth = [&](const RecomputeDecision* decision) {
      const Storage& storage = graph.storages[decision->storages.front()];
      const Nanos time = TimeOf(OpView(graph, graph.ops[storage.producer]), context_.device);
      return static_cast<double>(storage.bytes.count()) / std::max(1.0, time.count());
    };
    std::ranges::stable_sort(differences, std::greater<>(), worth);
    RecomputePlan plan = faster.plan;
    for (size_t i = 0; i < (differences.size() + 1) / 2; ++i) {
      Enter(*differences[i], smaller.plan[differences[i]->storages.front()], plan);
    }
    return plan;
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
  std::vector<RecomputeDecision> decisions_;
  std::set<std::vector<Keep>> seen_;
  PlanFront front_;
};

// How far the plan may be from the optimum.
std::string Quality(const PlanFront& front, const MeasuredPlan& chosen, Bytes budget, int64_t steps) {
  if (front.exhaustive) return fmt::format("the optimum: all {} plans were measured", front.measured);
  const Nanos base = front.plans.front().time;
  const TimeBound bound = front.bound(budget, chosen);
  const double above = std::max(0.0, chosen.time.count() - bound.time.count());
  if (bound.of_all_plans && above <= kSameTime * base.count()) {
    return fmt::format(
        "the optimum: an integer program proves that no plan within the budget adds less; {} plans measured",
        front.measured);
  }
  const double least = std::max(0.0, bound.time.count() - base.count());
  return fmt::format("no {} adds less than {:.2f} ms (optimality gap at most {:.2f} % of the step); {} plans measured",
                     bound.of_all_plans ? "plan" : "mixture of cuts of its blocks",
                     least / (1e6 * static_cast<double>(std::max<int64_t>(1, steps))), 100 * above / base.count(),
                     front.measured);
}

std::string Note(const PlanFront& front, const MeasuredPlan& chosen, Bytes budget, int64_t steps) {
  const MeasuredPlan& base = front.plans.front();
  const double per_step = 1e6 * static_cast<double>(std::max<int64_t>(1, steps));
  const double added = (chosen.time.count() - base.time.count()) / per_step;
  const double step = base.time.count() / per_step;
  return fmt::format("reserves {:.1f} MiB of {:.1f}; adds {:.2f} ms to a step of {:.1f} ms ({:+.1f} %); {}",
                     chosen.reserved / kMiB, budget / kMiB, added, step, 100 * added / step,
                     Quality(front, chosen, budget, steps));
}

}  // namespace

const MeasuredPlan* ChoosePlan(const PlanFront& front, Bytes budget) {
  const auto chosen = std::ranges::find_if(front.plans, [&](const MeasuredPlan& p) { return p.reserved <= budget; });
  return chosen == front.plans.end() ? nullptr : &*chosen;
}

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
  const MeasuredPlan* chosen = ChoosePlan(front, budget);
  if (chosen == nullptr) {
    return InvalidInput(
        fmt::format("passes.recompute: no plan reserves as little as {:.1f} MiB; the least is {:.1f} MiB (chunk_loss "
                    "or accumulate before it shrink what recomputation doesn't reach)",
                    budget / kMiB, front.plans.back().reserved / kMiB));
  }
  const int64_t steps = analysis.micro_steps.empty() ? 1 : analysis.micro_steps.back().step + 1;
  std::vector<std::string> notes = {Note(front, *chosen, budget, steps)};
  if (chosen == front.plans.data()) return PassResult{std::move(graph), std::move(notes)};
  return PassResult{ApplyRecompute(analysis, chosen->plan), std::move(notes)};
}

}  // namespace tidemark
