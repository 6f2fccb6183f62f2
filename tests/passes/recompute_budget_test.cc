#include "passes/recompute_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "graph/cost.h"
#include "passes/recompute.h"
#include "sim/lower.h"
#include "sim/replay.h"
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

// Every plan of a small program, by live bytes (its tensors are too small for what is reserved to differ).
std::vector<Measured> EveryPlan(const RecomputeAnalysis& analysis, const std::vector<RecomputeDecision>& decisions,
                                const DeviceSpec& device) {
  std::vector<Measured> all;
  for (uint32_t chosen = 0; chosen < uint32_t{1} << decisions.size(); ++chosen) {
    RecomputePlan plan;
    plan.resize(analysis.graph.storages.size());
    for (size_t d = 0; d < decisions.size(); ++d) {
      if ((chosen >> d & 1) == 0) continue;
      for (const StorageId storage : decisions[d].storages) plan[storage] = decisions[d].keep;
    }
    const Graph graph = ApplyRecompute(analysis, plan);
    all.push_back({"", TimeOf(graph, device).total(), LivePeakOf(graph, device).bytes});
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

TEST(RecomputeBudget, IsWithinTwoPercentOfTheOptimumOfSmallPrograms) {
  constexpr size_t kMostDecisions = 13;
  const DeviceSpec device = TinyRun().device;
  int beyond_enumeration = 0;
  for (uint64_t seed = 1; seed <= 400 && beyond_enumeration < 5; ++seed) {
    const Graph graph = RandomProgram(seed, device);
    const RecomputeAnalysis analysis(graph);
    const std::vector<RecomputeDecision> decisions = DecisionsOf(analysis);
    if (decisions.size() < 4 || decisions.size() > kMostDecisions) continue;
    SCOPED_TRACE("seed " + std::to_string(seed) + ", " + std::to_string(decisions.size()) + " decisions");
    if (decisions.size() > kExhaustive) ++beyond_enumeration;
    const Result<PlanFront> front = MeasurePlans(analysis, {.device = device});
    ASSERT_TRUE(front.ok()) << front.error().message;
    EXPECT_EQ(front->exhaustive, decisions.size() <= kExhaustive);
    const std::vector<Measured> all = EveryPlan(analysis, decisions, device);
    for (const Measured& budget : all) {
      const MeasuredPlan* plan = ChoosePlan(*front, budget.reserved);
      Nanos best = budget.time;
      for (const Measured& other : all) {
        if (other.reserved <= budget.reserved) best = std::min(best, other.time);
      }
      ASSERT_NE(plan, nullptr) << "budget " << budget.reserved.count();
      ASSERT_LE(plan->time.count(), 1.02 * best.count()) << "budget " << budget.reserved.count();
    }
  }
  EXPECT_EQ(beyond_enumeration, 5);
}

}  // namespace
}  // namespace tidemark
