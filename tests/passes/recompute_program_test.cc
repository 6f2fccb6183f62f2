#include "passes/recompute_program.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "graph/cost.h"
#include "graph/lifetimes.h"
#include "graph/verify.h"
#include "tests/support/cases.h"
#include "tests/support/random_program.h"
#include "tests/support/runs.h"

namespace tidemark {
namespace {

struct Plan {
  std::vector<bool> taken;
  Nanos time;  // that it adds
  Bytes live;
};

// Carries out every plan.
std::vector<Plan> EveryPlan(const RecomputeAnalysis& analysis, const RecomputeProgram& program, size_t decisions,
                            const DeviceSpec& device) {
  const double base = TimeOf(analysis.graph, device).total().count();
  std::vector<Plan> all;
  for (uint32_t chosen = 0; chosen < uint32_t{1} << decisions; ++chosen) {
    Plan plan;
    for (size_t d = 0; d < decisions; ++d) plan.taken.push_back((chosen >> d & 1) != 0);
    const Graph graph = ApplyRecompute(analysis, program.PlanOf(plan.taken));
    const Status verified = VerifyGraph(graph);
    EXPECT_TRUE(verified.ok()) << verified.error().message;
    plan.time = Nanos(TimeOf(graph, device).total().count() - base);
    plan.live = LivePeakOf(graph, device).bytes;
    all.push_back(std::move(plan));
  }
  return all;
}

TEST(RecomputeProgram, FindsTheOptimumOfRandomPrograms) {
  constexpr size_t kMostDecisions = 11;
  const DeviceSpec device = TinyRun().device;
  uint64_t programs = 0;
  for (uint64_t seed = 1; programs < Cases(25); ++seed) {
    const Graph graph = RandomProgram(seed, device);
    const RecomputeAnalysis analysis(graph);
    const std::vector<RecomputeDecision> decisions = DecisionsOf(analysis);
    if (decisions.size() < 3 || decisions.size() > kMostDecisions) continue;
    SCOPED_TRACE("seed " + std::to_string(seed) + ", " + std::to_string(decisions.size()) + " decisions");
    const auto program = RecomputeProgram::Make(analysis, decisions, device);
    ASSERT_NE(program, nullptr);
    ++programs;
    const std::vector<Plan> all = EveryPlan(analysis, *program, decisions.size(), device);
    std::vector<Bytes> budgets;
    for (const Plan& plan : all) {
      ASSERT_EQ(program->LiveOf(plan.taken).count(), plan.live.count());
      ASSERT_NEAR(program->TimeOf(plan.taken).count(), plan.time.count(), 1e-3);
      budgets.push_back(plan.live);
    }
    std::ranges::sort(budgets);
    budgets.erase(std::unique(budgets.begin(), budgets.end()), budgets.end());
    for (const Bytes budget : budgets) {
      double least = std::numeric_limits<double>::infinity();
      for (const Plan& plan : all) {
        if (plan.live <= budget) least = std::min(least, plan.time.count());
      }
      const RecomputeProgram::Answer answer = program->Solve(budget);
      ASSERT_TRUE(answer.possible);
      ASSERT_TRUE(answer.proven);
      ASSERT_NEAR(answer.at_least.count(), least, 1e-3) << "budget " << budget.count();
      ASSERT_LE(program->LiveOf(answer.taken), budget);
      for (const Plan& plan : all) {  // knowing a plan, good or bad, changes nothing
        if (plan.live != budget) continue;
        const RecomputeProgram::Answer informed = program->Solve(budget, RecomputeProgram::kMostNodes, &plan.taken);
        ASSERT_TRUE(informed.proven);
        ASSERT_NEAR(informed.at_least.count(), least, 1e-3) << "budget " << budget.count();
        break;
      }
    }
    EXPECT_FALSE(program->Solve(budgets.front() - Bytes(1)).possible);
  }
}

}  // namespace
}  // namespace tidemark
