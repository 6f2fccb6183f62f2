// Every pass, alone and in combinations, on random programs and on models: executed before and after, in memory laid
// out as predicted, with freed bytes poisoned.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "graph/lifetimes.h"
#include "passes/pipeline.h"
#include "passes/recompute_budget.h"
#include "tests/support/cases.h"
#include "tests/support/execute.h"
#include "tests/support/random_program.h"
#include "tests/support/runs.h"
#include "tests/support/tapes.h"
#include "tools/build_run.h"
#include "tools/config/run_file.h"

namespace tidemark {
namespace {

// A pass, whether the order of lists has to respect it, and how far its values may be off.
struct Candidate {
  PassConfig pass;
  bool needs_plain_updates = false;  // a fused optimizer, without clipping or a scaler
  bool splits_sums = false;          // else every bit stays
};

std::vector<Candidate> Candidates() {
  return {
      {RecomputePass{.policy = RecomputePolicy::kEveryN, .blocks = 1}},
      {RecomputePass{.policy = RecomputePolicy::kEveryN, .blocks = 2}},
      {RecomputePass{.policy = RecomputePolicy::kSelective, .ops = {"gelu", "native_layer_norm", "_to_copy", "add"}}},
      {RecomputePass{.policy = RecomputePolicy::kMinCut}},
      {RecomputePass{.policy = RecomputePolicy::kBudget, .budget = Bytes(1)}},
      {FusePass{}},
      {FusePass{.reductions = false}},
      {ChunkLossPass{.chunks = 3}, false, true},
      {ChunkLossPass{.chunks = 2, .gradient_early = true}, false, true},
      {OffloadPass{.what = OffloadWhat::kActivations, .smallest = Bytes(512)}},
      {OffloadPass{.what = OffloadWhat::kOptimizerState, .smallest = Bytes(512)}, true},
      {OptimizerInBackwardPass{}, true}};
}

template <typename Pass>
const Pass* As(const Candidate& candidate) {
  return std::get_if<Pass>(&candidate.pass);
}

bool IsChunkLoss(const Candidate& c) { return As<ChunkLossPass>(c) != nullptr; }
bool IsFuse(const Candidate& c) { return As<FusePass>(c) != nullptr; }
// What changes what chunk_loss looks for.
bool TakesActivations(const Candidate& c) {
  const auto* offload = As<OffloadPass>(c);
  return As<RecomputePass>(c) != nullptr || (offload != nullptr && offload->what == OffloadWhat::kActivations);
}

// Some of the candidates, in a random order among those that their headers allow.
std::vector<Candidate> Draw(std::vector<Candidate> all, Random& random, bool plain_updates) {
  if (!plain_updates) std::erase_if(all, [](const Candidate& c) { return c.needs_plain_updates; });
  std::vector<Candidate> drawn;
  const uint64_t count = 1 + random.Below(4);
  while (drawn.size() < count && !all.empty()) {
    const auto at = all.begin() + static_cast<std::ptrdiff_t>(random.Below(all.size()));
    const Candidate candidate = *at;
    all.erase(at);
    // A head is chunked once, an optimizer moved once, and kernels are made once.
    if (!TakesActivations(candidate)) {
      std::erase_if(all, [&](const Candidate& c) { return c.pass.index() == candidate.pass.index(); });
    }
    drawn.push_back(candidate);
  }
  const auto chunk = std::ranges::find_if(drawn, IsChunkLoss);
  const auto taker = std::ranges::find_if(drawn, TakesActivations);
  if (chunk != drawn.end() && taker < chunk) std::rotate(taker, chunk, chunk + 1);
  std::stable_partition(drawn.begin(), drawn.end(), [](const Candidate& c) { return !IsFuse(c); });
  return drawn;
}

std::string NamesOf(const std::vector<PassConfig>& passes) {
  std::string names;
  for (const PassConfig& pass : passes) {
    names += (names.empty() ? "" : ", ") + std::string(InfoOf(pass).name);
    if (const auto* recompute = std::get_if<RecomputePass>(&pass)) {
      names += " " + std::to_string(static_cast<int>(recompute->policy));
    }
  }
  return names;
}

// A budget between what is possible and what is needed.
void SetBudgets(std::vector<Candidate>& drawn, const Graph& graph, const DeviceSpec& device, Random& random) {
  for (Candidate& candidate : drawn) {
    auto* pass = std::get_if<RecomputePass>(&candidate.pass);
    if (pass == nullptr || pass->policy != RecomputePolicy::kBudget) continue;
    const RecomputeAnalysis analysis(graph);
    const Result<PlanFront> front = MeasurePlans(analysis, {.device = device});
    ASSERT_TRUE(front.ok()) << front.error().message;
    const std::vector<MeasuredPlan>& plans = front->plans;
    pass->budget = plans[random.Below(plans.size())].reserved;
  }
}

// The same probes with the same values, but for gradients that are gone before anyone could look; the same parameters
// and states at the end, but for those that the host keeps.
void ExpectSame(const Execution& before, Execution after, double tolerance, bool gradients_go, bool states_go) {
  Execution expected = before;
  if (gradients_go) {
    std::erase_if(expected.observed, [&](const Observed& a) {
      return std::ranges::none_of(after.observed, [&](const Observed& b) {
        return a.kind == b.kind && a.name == b.name && a.phase == b.phase;
      });
    });
  }
  std::ranges::sort(expected.final_state);
  std::ranges::sort(after.final_state);
  if (states_go) {
    EXPECT_TRUE(tolerance > 0 || std::ranges::includes(expected.final_state, after.final_state));
    expected.final_state = after.final_state;
  }
  EXPECT_EQ(DifferenceOf(expected, after, tolerance), "");
}

// Without what is seen after the first update: Adam divides a gradient by its size, so where it is small its rounding
// moves the update by as much as the update, and gates of ReLU behind it flip.
Execution OfFirstStep(Execution execution, const Graph& graph) {
  std::erase_if(execution.observed, [&](const Observed& o) { return graph.phases[o.phase].step > 0; });
  return execution;
}

bool HasHalf(const Graph& graph) {
  return std::ranges::any_of(graph.tensors, [](const TensorInfo& tensor) { return IsHalf(tensor.dtype); });
}

struct Subject {
  std::string name;
  Graph graph;
  DeviceSpec device;
  bool plain_updates = false;  // see Candidate
  double rounding = 1e-5;      // of a sum that is split, relative to a tensor's largest value, before the first update
};

void TryPasses(const Subject& subject, const Execution& before, std::vector<Candidate> drawn, Random& random) {
  std::vector<PassConfig> passes;
  bool splits = false;
  for (const Candidate& candidate : drawn) {
    passes.push_back(candidate.pass);
    splits = splits || candidate.splits_sums;
  }
  SCOPED_TRACE(subject.name + " with " + NamesOf(passes));
  // A budget is drawn from the plans of the graph that the pass meets.
  const auto is_budget = [](const Candidate& c) {
    const auto* pass = As<RecomputePass>(c);
    return pass != nullptr && pass->policy == RecomputePolicy::kBudget;
  };
  const auto budget = std::ranges::find_if(drawn, is_budget);
  if (budget != drawn.end()) {
    const auto at = budget - drawn.begin();
    const std::vector<PassConfig> first(passes.begin(), passes.begin() + at);
    const Result<Rewritten> met = RunPasses(subject.graph, first, {.context = {.device = subject.device}});
    ASSERT_TRUE(met.ok()) << met.error().message;
    SetBudgets(drawn, met->graph, subject.device, random);
    passes[static_cast<size_t>(at)] = drawn[static_cast<size_t>(at)].pass;
  }
  const Result<Rewritten> rewritten = RunPasses(subject.graph, passes, {.context = {.device = subject.device}});
  ASSERT_TRUE(rewritten.ok()) << rewritten.error().message;
  const Execution after = ExecuteGraph(rewritten->graph, subject.device);
  const auto has = [&](const auto& test) { return std::ranges::any_of(drawn, test); };
  const bool gradients_go = has([](const Candidate& c) { return As<OptimizerInBackwardPass>(c) != nullptr; });
  const bool states_go = has([](const Candidate& c) {
    const auto* offload = As<OffloadPass>(c);
    return offload != nullptr && offload->what == OffloadWhat::kOptimizerState;
  });
  if (!splits || !HasHalf(subject.graph)) {
    ExpectSame(before, after, splits ? subject.rounding : 0, gradients_go, states_go);
    return;
  }
  ExpectSame(OfFirstStep(before, subject.graph), OfFirstStep(after, rewritten->graph), subject.rounding, gradients_go,
             states_go);
  const Execution exact_before = ExecuteGraph(WithoutHalf(subject.graph), subject.device);
  const Execution exact_after = ExecuteGraph(WithoutHalf(rewritten->graph), subject.device);
  ExpectSame(exact_before, exact_after, 1e-5, gradients_go, states_go);
}

// Families of both libraries; two steps, so that states are updated that exist.
std::vector<Subject> Models() {
  struct Family {
    const char* model;
    const char* training;
    bool plain_updates;
    double rounding;
  };
  constexpr const char* kPlain = "optimizer: {name: adamw, implementation: fused}, ";
  const Family families[] = {
      {"family: gpt2", "precision: fp32", true, 1e-5},
      // Gradients of chunks are rounded to 8 or 11 bits before they are added: bounds are twice the error
      // of a rounding to bf16, and four times that of one to fp16.
      {"family: gpt2", "precision: amp-bf16, gradient_accumulation: 2", true, 0x1p-7},
      {"family: gpt2, bias: true, dropout: 0.1", "precision: amp-fp16, grad_clip: 1.0", false, 0x1p-9},
      {"family: gpt2, implementation: transformers", "precision: fp32", true, 1e-5},
      {"family: llama, kv_heads: 1", "precision: amp-bf16", true, 0x1p-7},
      {"family: bert", "precision: fp32", true, 1e-5},
      {"family: bert", "precision: amp-bf16", true, 0x1p-7},
      {"family: phi", "precision: amp-bf16", true, 0x1p-7},
      {"family: t5", "precision: fp32", true, 1e-5},
      {"family: t5", "precision: amp-bf16, gradient_accumulation: 2", true, 0x1p-7},
  };
  std::vector<Subject> subjects;
  for (const Family& family : families) {
    const std::string text = std::string("model: {layers: 2, hidden: 32, heads: 2, vocab: 96, context: 16, ") +
                             family.model + "}\ntraining: {micro_batch: 2, steps: 2, " + kPlain + family.training +
                             "}\n";
    const Result<LoadedRun> run = ParseRun(text, family.model, {});
    EXPECT_TRUE(run.ok()) << run.error().message;
    subjects.push_back({std::string(family.model) + ", " + family.training, GraphOf(run->config), run->config.device,
                        family.plain_updates, family.rounding});
  }
  return subjects;
}

// Before the first update the weights' gradient of the head is a sum of the chunks' and differs by its rounding;
// nothing else differs at all but the loss, whose mean is taken in float32.
TEST(PassExecution, AChunkedLossRoundsTheHeadsGradientOnly) {
  for (const Subject& subject : Models()) {
    if (!HasHalf(subject.graph)) continue;
    SCOPED_TRACE(subject.name);
    const std::vector<PassConfig> passes = {ChunkLossPass{.chunks = 3}};
    const Result<Rewritten> chunked = RunPasses(subject.graph, passes, {.context = {.device = subject.device}});
    ASSERT_TRUE(chunked.ok()) << chunked.error().message;
    const Execution before = OfFirstStep(ExecuteGraph(subject.graph, subject.device), subject.graph);
    const Execution after = OfFirstStep(ExecuteGraph(chunked->graph, subject.device), chunked->graph);
    EXPECT_EQ(DifferenceOf(before, after, subject.rounding), "");
    std::vector<std::string> rounded;
    for (size_t i = 0; i < before.observed.size(); ++i) {
      const Observed& observed = before.observed[i];
      if (observed.kind == ProbeKind::kLoss) {
        EXPECT_NEAR(observed.values[0], after.observed[i].values[0], 1e-6 * std::abs(observed.values[0]));
      } else if (observed.values != after.observed[i].values) {
        rounded.push_back(observed.name);
      }
    }
    EXPECT_GE(rounded.size(), 1U);
    EXPECT_LE(rounded.size(), 2U) << "the head's weight, which the embedding shares, and its bias";
    for (const std::string& name : rounded) {
      const bool of_head = name.find("wte") != name.npos || name.find("embed") != name.npos ||
                           name.find("shared") != name.npos || name.find("head") != name.npos ||
                           name.find("predictions.bias") != name.npos;
      EXPECT_TRUE(of_head) << name;
    }
  }
}

TEST(PassExecution, EveryPassAloneKeepsValuesOfModels) {
  for (const Subject& subject : Models()) {
    const Execution before = ExecuteGraph(subject.graph, subject.device);
    Random random(1);
    for (const Candidate& candidate : Candidates()) {
      const auto* chunk = As<ChunkLossPass>(candidate);
      const bool scaled = subject.name.find("fp16") != std::string::npos;
      if (candidate.needs_plain_updates && !subject.plain_updates) continue;
      if (chunk != nullptr && chunk->gradient_early && scaled) continue;
      TryPasses(subject, before, {candidate}, random);
    }
  }
}

TEST(PassExecution, RandomCombinationsKeepValuesOfModels) {
  for (const Subject& subject : Models()) {
    const Execution before = ExecuteGraph(subject.graph, subject.device);
    std::vector<Candidate> all = Candidates();
    if (!subject.plain_updates) {
      std::erase_if(all, [](const Candidate& c) { return IsChunkLoss(c) && As<ChunkLossPass>(c)->gradient_early; });
    }
    for (uint64_t seed = 1; seed <= Cases(6); ++seed) {
      Random random(seed);
      SCOPED_TRACE("seed " + std::to_string(seed));
      TryPasses(subject, before, Draw(all, random, subject.plain_updates), random);
    }
  }
}

// Every precision, optimizer and attention of TinyRuns.
TEST(PassExecution, RandomCombinationsKeepValuesOfEveryKindOfRun) {
  for (const NamedRun& named : TinyRuns()) {
    const Graph graph = GraphOf(named.run);
    const bool plain = named.name == "fused";
    const Subject subject = {named.name, graph, named.run.device, plain,
                             named.run.training.precision == Precision::kFp32 ? 1e-5 : 0x1p-6};
    const Execution before = ExecuteGraph(graph, subject.device);
    std::vector<Candidate> all = Candidates();
    if (named.run.training.precision == Precision::kAmpFp16) {
      std::erase_if(all, [](const Candidate& c) { return IsChunkLoss(c) && As<ChunkLossPass>(c)->gradient_early; });
    }
    for (uint64_t seed = 1; seed <= Cases(4); ++seed) {
      Random random(seed);
      SCOPED_TRACE("seed " + std::to_string(seed));
      TryPasses(subject, before, Draw(all, random, plain), random);
    }
  }
}

TEST(PassExecution, RandomCombinationsKeepValuesOfRandomPrograms) {
  const DeviceSpec device = TinyRun().device;
  for (uint64_t seed = 1; seed <= Cases(80); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Subject subject = {"a random program", RandomProgram(seed, device), device, false, 0x1p-6};
    Random random(seed);
    std::vector<Candidate> all = Candidates();
    // A caller keeps the logits of some programs; those can't be chunked.
    if (!RunPasses(subject.graph, std::vector<PassConfig>{ChunkLossPass{}}, {.context = {.device = device}}).ok()) {
      std::erase_if(all, IsChunkLoss);
    }
    TryPasses(subject, ExecuteGraph(subject.graph, device), Draw(std::move(all), random, false), random);
  }
}

TEST(PassExecution, RecomputationKeepsEveryBitOfEveryKindOfRun) {
  const std::vector<NamedRun> runs = TinyRuns();
  constexpr uint64_t kEvery = kSanitized ? 4 : 1;
  for (size_t k = 0; k < runs.size(); k += kEvery) {
    const NamedRun& named = runs[k];
    const Subject subject = {named.name, GraphOf(named.run), named.run.device};
    const Execution before = ExecuteGraph(subject.graph, subject.device);
    Random random(1);
    for (const Candidate& candidate : Candidates()) {
      if (As<RecomputePass>(candidate) != nullptr) TryPasses(subject, before, {candidate}, random);
    }
  }
}

// Kernels of compiled runs write into buffers of others, and have several results. They can't be executed here; passes
// make graphs of them that verify, or say that they can't.
TEST(PassExecution, PassesRewriteCompiledRunsOrRefuse) {
  for (const Precision precision : {Precision::kFp32, Precision::kAmpBf16}) {
    RunConfig run = TinyRun();
    run.training.precision = precision;
    run.training.optimizer.implementation = OptimizerImplementation::kFused;
    run.training.compile = CompileMode::kOn;
    std::vector<PassConfig> passes = {RecomputePass{}};
    for (const Candidate& candidate : Candidates()) passes.push_back(candidate.pass);
    for (PassConfig& pass : passes) {
      if (auto* recompute = std::get_if<RecomputePass>(&pass)) recompute->budget = kGiB;
      run.passes = {pass};
      SCOPED_TRACE(NamesOf(run.passes));
      const Result<BuiltRun> built = BuildRun(run, {});
      EXPECT_EQ(built.ok(), !std::holds_alternative<ChunkLossPass>(pass));
      const std::string message = built.ok() ? "" : built.error().message;
      EXPECT_EQ(message.find("internal error"), std::string::npos) << message;
    }
  }
}

// Sums of a step's gradients by parameter, and of its losses.
std::map<std::string, std::vector<double>> SumsOf(const Execution& execution) {
  std::map<std::string, std::vector<double>> sums;
  for (const Observed& observed : execution.observed) {
    std::vector<double>& sum = sums[observed.kind == ProbeKind::kLoss ? "loss" : observed.name];
    sum.resize(observed.values.size());
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += observed.values[i];
  }
  return sums;
}

// Micro-batches fetch the rows of the batch that they are a part of.
void FetchRowsOf(Graph& graph, int64_t parts, int64_t rows) {
  for (const Op& op : graph.ops) {
    if (op.kind != OpKind::kFromHost || !op.attributes.valid()) continue;
    Attributes& a = graph.attributes[op.attributes];
    const auto data = static_cast<HostData>(a.integer[0]);
    if (data != HostData::kTokens && data != HostData::kTargets) continue;
    a.number = static_cast<double>(a.integer[1] % parts * rows);
    a.integer[1] /= parts;
  }
}

TEST(PassExecution, AccumulatedGradientsAreTheBatchs) {
  RunConfig run = TinyRun();
  run.training.micro_batch = 4;
  const Execution whole = ExecuteGraph(GraphOf(run), run.device);
  for (const int64_t parts : {2, 4}) {
    SCOPED_TRACE(std::to_string(parts) + " parts");
    RunConfig split = run;
    split.passes = {AccumulatePass{.parts = parts}};
    Graph graph = GraphOf(split);
    FetchRowsOf(graph, parts, run.training.micro_batch / parts);
    const auto expected = SumsOf(whole);
    const auto actual = SumsOf(ExecuteGraph(graph, run.device));
    ASSERT_EQ(expected.size(), actual.size());
    for (const auto& [name, values] : expected) {
      const std::vector<double>& others = actual.at(name);
      double largest = 0;
      for (const double value : values) largest = std::max(largest, std::abs(value));
      for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(values[i], others[i], 1e-5 * largest) << name;
    }
  }
}

}  // namespace
}  // namespace tidemark
