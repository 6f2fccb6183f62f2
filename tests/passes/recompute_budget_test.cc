#include "passes/recompute_budget.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "graph/cost.h"
#include "passes/recompute.h"
#include "sim/lower.h"
#include "sim/replay.h"
#include "tests/support/cases.h"
#include "tests/support/random_program.h"
#include "tests/support/runs.h"
#include "tools/config/run_file.h"

namespace tidemark {
namespace {

// GPT-2 of 124M parameters, two steps: the second has Adam's moments beside everything else.
RunConfig Gpt2() {
  constexpr const char* kText = R"(
model: {family: gpt2, layers: 12, hidden: 768, heads: 12, vocab: 50304, context: 1024}
training: {micro_batch: 4, precision: amp-bf16, steps: 2, grad_clip: 1.0, optimizer: {name: adamw, implementation: fused}}
device: rtx4090
)";
  const Result<LoadedRun> run = ParseRun(kText, "gpt2", {});
  EXPECT_TRUE(run.ok()) << run.error().message;
  return run->config;
}

// What PyTorch's allocator reserves, fragmentation included.
Bytes ReservedPeak(const Graph& graph, const DeviceSpec& device) {
  AllocatorOptions allocator;
  allocator.device_memory = kGiB * (1 << 20);
  const Lowered lowered = Lower(graph, device);
  const Result<Replay> replay = RunReplay(lowered.tape, {.allocator = allocator, .observers = {}});
  EXPECT_TRUE(replay.ok());
  return replay->reserved.bytes;
}

PassContext Physical(const DeviceSpec& device) {
  return {.device = device,
          .physical_peak = [device](const Graph& graph) -> Result<Bytes> { return ReservedPeak(graph, device); }};
}

struct Measured {
  std::string name;
  Nanos time;
  Bytes reserved;
};
Measured MeasureGraph(std::string name, const Graph& graph, const DeviceSpec& device) {
  return {std::move(name), TimeOf(graph, device).total(), ReservedPeak(graph, device)};
}

// Checkpoints around blocks [first, last) alone: what is made and read within each of them is dropped.
RecomputePlan CheckpointsAround(const RecomputeAnalysis& analysis, int first, int last) {
  RecomputePlan plan = PlanOf(analysis, {.policy = RecomputePolicy::kEveryN, .blocks = 1});
  for (const MicroStep& micro : analysis.micro_steps) {
    for (const StorageId storage : analysis.ForwardStorages(micro)) {
      const ScopeId scope = analysis.graph.ops[analysis.graph.storages[storage].producer].scope;
      const std::string block = scope.valid() ? BlockOf(analysis.graph.scopes[scope]) : "";
      const int number = block.empty() ? -1 : std::stoi(block.substr(block.rfind('.') + 1));
      if (number < first || number >= last) plan[storage] = Keep::kAsItIs;
    }
  }
  return plan;
}

// Per-block checkpointing in all its forms: as torch.utils.checkpoint has it around every block; around the first or
// the last so many; one for so many blocks.
std::vector<Measured> CheckpointedRuns(const RunConfig& run, const RecomputeAnalysis& analysis) {
  std::vector<Measured> all;
  RunConfig full = run;
  full.passes = {RecomputePass{}};
  all.push_back(MeasureGraph("torch.utils.checkpoint", GraphOf(full), run.device));
  const auto layers = static_cast<int>(run.model.layers);
  for (int n = 1; n <= layers; ++n) {
    const std::string number = std::to_string(n);
    all.push_back(
        MeasureGraph("the first " + number, ApplyRecompute(analysis, CheckpointsAround(analysis, 0, n)), run.device));
    all.push_back(MeasureGraph("the last " + number,
                               ApplyRecompute(analysis, CheckpointsAround(analysis, layers - n, layers)), run.device));
    const RecomputePass every = {.policy = RecomputePolicy::kEveryN, .blocks = n};
    all.push_back(MeasureGraph("every " + number, ApplyRecompute(analysis, PlanOf(analysis, every)), run.device));
  }
  return all;
}

constexpr int kBudgets = 20;

TEST(RecomputeBudget, IsNeverSlowerThanCheckpointsAroundBlocksAndNeverAboveTheBudget) {
  const RunConfig run = Gpt2();
  const Graph graph = GraphOf(run);
  const RecomputeAnalysis analysis(graph);
  const Result<PlanFront> front = MeasurePlans(analysis, Physical(run.device));
  ASSERT_TRUE(front.ok()) << front.error().message;
  const std::vector<Measured> checkpointed = CheckpointedRuns(run, analysis);
  const Bytes most = ReservedPeak(graph, run.device);
  const Bytes least = front->plans.back().reserved;
  ASSERT_LT(least, most);
  Bytes lower;
  for (int i = 0; i < kBudgets; ++i) {
    const Bytes budget = least + Bytes((most - least).count() * i / (kBudgets - 1));
    SCOPED_TRACE("budget " + std::to_string(budget.count()));
    const MeasuredPlan* plan = ChoosePlan(*front, budget);
    ASSERT_NE(plan, nullptr);
    const Measured replayed = MeasureGraph("planned", ApplyRecompute(analysis, plan->plan), run.device);
    EXPECT_EQ(replayed.reserved.count(), plan->reserved.count());
    EXPECT_EQ(replayed.time.count(), plan->time.count());
    EXPECT_LE(replayed.reserved, budget);
    EXPECT_GE(replayed.reserved, lower);  // monotone
    lower = replayed.reserved;
    for (const Measured& other : checkpointed) {
      if (other.reserved > budget) continue;
      EXPECT_LE(replayed.time.count(), other.time.count() * (1 + 1e-12)) << other.name;
    }
  }
}

// The pass does what the front says.
TEST(RecomputeBudget, KeepsTheBudgetAndSaysWhatItCosts) {
  const RunConfig run = Gpt2();
  const Graph graph = GraphOf(run);
  const Bytes budget = ReservedPeak(graph, run.device) - kMiB * 1024;
  const Result<PassResult> result = RecomputeWithin(graph, budget, Physical(run.device));
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_LE(ReservedPeak(result->graph, run.device), budget);
  ASSERT_EQ(result->notes.size(), 1U);
  EXPECT_THAT(result->notes[0], testing::HasSubstr("optimality gap at most"));
}

TEST(RecomputeBudget, SaysTheLeastThatIsPossible) {
  const RunConfig run = TinyRun();
  const Result<PassResult> result = RecomputeWithin(GraphOf(run), Bytes(1), Physical(run.device));
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().message, testing::HasSubstr("the least is"));
}

// Every plan of a small program, by live bytes and by what the allocator reserves.
std::pair<std::vector<Measured>, std::vector<Measured>> EveryPlan(const RecomputeAnalysis& analysis,
                                                                  const std::vector<RecomputeDecision>& decisions,
                                                                  const DeviceSpec& device) {
  std::pair<std::vector<Measured>, std::vector<Measured>> all;
  for (uint32_t chosen = 0; chosen < uint32_t{1} << decisions.size(); ++chosen) {
    RecomputePlan plan;
    plan.resize(analysis.graph.storages.size());
    for (size_t d = 0; d < decisions.size(); ++d) {
      if ((chosen >> d & 1) == 0) continue;
      for (const StorageId storage : decisions[d].storages) plan[storage] = decisions[d].keep;
    }
    const Graph graph = ApplyRecompute(analysis, plan);
    const Nanos time = TimeOf(graph, device).total();
    all.first.push_back({"", time, LivePeakOf(graph, device).bytes});
    all.second.push_back({"", time, ReservedPeak(graph, device)});
  }
  return all;
}

// Backward reads a and b: four plans, with a = mm x w, b = gelu a, c = mm b v.
TEST(RecomputeBudget, MeasuresEveryPlanOfASmallProgram) {
  const Graph graph = GraphOfText(R"(phase model
s0:float32[512,2048] parameter = FromHost()
hold h0 s0 parameter
s1:float32[2048,512] parameter = FromHost()
hold h1 s1 parameter
s2:float32[256,512] input = FromHost()
hold h2 s2 caller
phase forward step=0 micro=0
s3:float32[256,2048] activation = Mm(s2, s0) @h.0.fc
hold h3 s3 saved node=GeluBackward0 @h.0
s4:float32[256,2048] activation = Gelu(s3) @h.0
hold h4 s4 saved node=MmBackward0 @h.0.proj
s5:float32[256,512] activation = Mm(s4, s1) @h.0.proj
hold h5 s5 caller @h.0.proj
phase backward step=0 micro=0
s6:float32[256,512] activation_gradient = OnesLike(s5) autograd
hold h6 s6 local
s7:float32[2048,512] gradient = Mm(s4:float32[2048,256]{1,2048}, s6) @h.0.proj node=MmBackward0 autograd
hold h7 s7 gradient @h.0.proj
release h4
s8:float32[256,2048] activation_gradient = GeluBackward(s3, s3) @h.0 node=GeluBackward0 autograd
hold h8 s8 local @h.0
release h3
)");
  const DeviceSpec device = TinyRun().device;
  const RecomputeAnalysis analysis(graph);
  const Result<PlanFront> front = MeasurePlans(analysis, {.device = device});
  ASSERT_TRUE(front.ok());
  EXPECT_TRUE(front->exhaustive);
  EXPECT_EQ(front->measured, 4);
  const Result<PassResult> result = RecomputeWithin(graph, LivePeakOf(graph, device).bytes, {.device = device});
  ASSERT_TRUE(result.ok());
  EXPECT_THAT(result->notes[0], testing::HasSubstr("the optimum: all 4 plans were measured"));
}

TEST(RecomputeBudget, SaysWhatTheIntegerProgramProves) {
  const DeviceSpec device = TinyRun().device;
  const Graph graph = RandomProgram(4, device);
  ASSERT_GT(DecisionsOf(RecomputeAnalysis(graph)).size(), kExhaustive);
  const Bytes budget = LivePeakOf(graph, device).bytes - Bytes(512);
  const Result<PassResult> result = RecomputeWithin(graph, budget, {.device = device});
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_LE(LivePeakOf(result->graph, device).bytes, budget);
  EXPECT_THAT(result->notes[0],
              testing::HasSubstr("the optimum: an integer program proves that no plan within the budget adds less"));
}

// Tensors of 8 to 32 MiB, so that the allocator's segments count.
constexpr ProgramSize kLarge = {.batch = 8, .length = 512, .width = 1024};

// How far chosen plans are from what is known of the optimum, over all budgets that were tried.
struct Distance {
  int budgets = 0;
  int reached = 0;  // the optimum itself
  double worst = 1;
  std::string where;  // the worst

  void Take(Nanos plan, Nanos optimum, const std::string& place) {
    ++budgets;
    const double ratio = plan.count() / optimum.count();
    if (ratio <= 1 + 1e-9) ++reached;
    if (ratio <= worst) return;
    worst = ratio;
    where =
        fmt::format("{}: {:.3f} us / {:.3f} us = {:.5f}", place, plan.microseconds(), optimum.microseconds(), ratio);
  }
  // On the test's output, whether it fails or not.
  void Say(const std::string& what) const {
    fmt::print("{}: {} budgets, the optimum in {}; the worst: {}\n", what, budgets, reached,
               where.empty() ? "1" : where);
  }
};

// The front against all plans, with every plan's peak as a budget.
void CompareWithAll(const PlanFront& front, const std::vector<Measured>& all, const std::string& name,
                    Distance& distance) {
  for (const Measured& budget : all) {
    const MeasuredPlan* plan = ChoosePlan(front, budget.reserved);
    Nanos best = budget.time;
    for (const Measured& other : all) {
      if (other.reserved <= budget.reserved) best = std::min(best, other.time);
    }
    ASSERT_NE(plan, nullptr) << name << ", budget " << budget.reserved.count();
    ASSERT_LE(front.bound(budget.reserved, *plan).time.count(), best.count() * (1 + 1e-9));
    distance.Take(plan->time, best, name + ", budget " + std::to_string(budget.reserved.count()));
  }
}

// Those with the least time at their peak, each once: other budgets between have the same answer.
std::vector<Measured> Best(std::vector<Measured> all) {
  std::ranges::sort(all, [](const Measured& a, const Measured& b) {
    return a.reserved != b.reserved ? a.reserved < b.reserved : a.time < b.time;
  });
  std::vector<Measured> best;
  for (Measured& plan : all) {
    if (best.empty() || plan.time < best.back().time) best.push_back(std::move(plan));
  }
  return best;
}

// Both by live bytes and by what the allocator reserves, with more decisions than what is enumerated and with fewer.
TEST(RecomputeBudget, IsWithinTwoPercentOfTheBestOfAllPlans) {
  const DeviceSpec device = TinyRun().device;
  constexpr uint64_t kBeyond = Cases(8);  // programs with more decisions than what the pass enumerates
  Distance live, physical;
  uint64_t beyond_enumeration = 0;
  for (uint64_t seed = 1; seed <= 400 && beyond_enumeration < kBeyond; ++seed) {
    const Graph graph = RandomProgram(seed, device, kLarge);
    const RecomputeAnalysis analysis(graph);
    const std::vector<RecomputeDecision> decisions = DecisionsOf(analysis);
    if (decisions.size() < 4 || decisions.size() > kExhaustive + 2) continue;
    if (decisions.size() > kExhaustive) ++beyond_enumeration;
    const std::string name = fmt::format("seed {}, {} decisions", seed, decisions.size());
    SCOPED_TRACE(name);
    const auto [by_live, by_reserved] = EveryPlan(analysis, decisions, device);
    const Result<PlanFront> for_live = MeasurePlans(analysis, {.device = device});
    const Result<PlanFront> for_reserved = MeasurePlans(analysis, Physical(device));
    ASSERT_TRUE(for_live.ok() && for_reserved.ok());
    EXPECT_EQ(for_live->exhaustive, decisions.size() <= kExhaustive);
    CompareWithAll(*for_live, Best(by_live), name, live);
    CompareWithAll(*for_reserved, Best(by_reserved), name, physical);
  }
  EXPECT_EQ(beyond_enumeration, kBeyond);
  live.Say("live bytes, against all plans");
  physical.Say("reserved bytes, against all plans");
  EXPECT_LE(live.worst, 1.02) << live.where;
  EXPECT_LE(physical.worst, 1.02) << physical.where;
}

// Where there are too many plans to carry them all out. What the integer program proves is the least time for live
// bytes; for reserved bytes, which fragmentation adds to, that is a bound which no plan may reach.
TEST(RecomputeBudget, IsWithinTwoPercentOfWhatTheIntegerProgramProves) {
  constexpr uint64_t kPrograms = Cases(12);
  constexpr int kSteps = 12;
  const DeviceSpec device = TinyRun().device;
  Distance live, physical;
  uint64_t programs = 0;
  for (uint64_t seed = 1; programs < kPrograms; ++seed) {
    const Graph graph = RandomProgram(seed, device, kLarge);
    const RecomputeAnalysis analysis(graph);
    const size_t decisions = DecisionsOf(analysis).size();
    if (decisions <= kExhaustive + 2 || decisions > RecomputeProgram::kMostDecisions) continue;
    ++programs;
    const std::string name = fmt::format("seed {}, {} decisions", seed, decisions);
    SCOPED_TRACE(name);
    for (const bool reserved : {false, true}) {
      const Result<PlanFront> front =
          MeasurePlans(analysis, reserved ? Physical(device) : PassContext{.device = device});
      ASSERT_TRUE(front.ok());
      const Bytes most = front->plans.front().reserved;
      const Bytes least = front->plans.back().reserved;
      for (int i = 0; i <= kSteps; ++i) {
        const Bytes budget = least + Bytes((most - least).count() / kSteps * i);
        const MeasuredPlan* plan = ChoosePlan(*front, budget);
        ASSERT_NE(plan, nullptr);
        const TimeBound bound = front->bound(budget, *plan);
        ASSERT_TRUE(bound.of_all_plans);
        ASSERT_GE(plan->time.count(), bound.time.count() * (1 - 1e-9));
        (reserved ? physical : live).Take(plan->time, bound.time, name + ", budget " + std::to_string(budget.count()));
      }
    }
  }
  live.Say("live bytes, against the integer program");
  physical.Say("reserved bytes, against the integer program's bound for live bytes");
  EXPECT_LE(live.worst, 1.02) << live.where;
  EXPECT_LE(physical.worst, 1.05) << physical.where;
}

}  // namespace
}  // namespace tidemark
