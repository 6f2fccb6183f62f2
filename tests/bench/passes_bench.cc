// How long passes take, and how long a plan for a budget takes to find.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "passes/pipeline.h"
#include "passes/recompute_budget.h"
#include "sim/lower.h"
#include "sim/replay.h"
#include "tests/support/runs.h"
#include "tools/compare/compare_text.h"
#include "tools/compare/variants.h"
#include "tools/formats/files.h"

namespace tidemark {
namespace {

// A GPT-2 of `layers` layers; 40 make steps of 2,572 ops.
RunConfig Gpt2(int64_t layers) {
  RunConfig run = TinyRun();
  run.model = {.layers = layers,
               .hidden = 768,
               .heads = 12,
               .kv_heads = 12,
               .head_dim = 64,
               .ffn = 3072,
               .vocab = 50304,
               .context = 1024};
  run.training = {.micro_batch = 12, .sequence = {1024}, .precision = Precision::kAmpBf16};
  run.training.optimizer.implementation = OptimizerImplementation::kFused;
  run.training.grad_clip = 1;
  run.training.steps = 1;
  return run;
}

Result<Bytes> ReservedPeak(const Graph& graph, const DeviceSpec& device) {
  AllocatorOptions allocator;
  allocator.device_memory = kGiB * (1 << 20);
  const Lowered lowered = Lower(graph, device);
  ASSIGN_OR_RETURN(const Replay replay, RunReplay(lowered.tape, {.allocator = allocator, .observers = {}}));
  return replay.reserved.bytes;
}

// All plans that a budget chooses from, each replayed.
void PlanForABudget(benchmark::State& state) {
  const RunConfig run = Gpt2(state.range(0));
  const Graph graph = GraphOf(run);
  const PassContext context = {.device = run.device,
                               .physical_peak = [&](const Graph& g) { return ReservedPeak(g, run.device); }};
  int plans = 0;
  for (auto _ : state) {
    const RecomputeAnalysis analysis(graph);
    const Result<PlanFront> front = MeasurePlans(analysis, context);
    if (!front.ok()) return state.SkipWithError(front.error().message.c_str());
    plans = front->measured;
  }
  state.counters["ops"] = static_cast<double>(graph.ops.size());
  state.counters["plans"] = plans;
}
BENCHMARK(PlanForABudget)->Arg(6)->Arg(12)->Arg(24)->Arg(40)->Unit(benchmark::kMillisecond);

// The what-if table of the run whose 4464 MiB started this project: the base and twelve variants.
void CompareTwelve(benchmark::State& state) {
  const std::string path = TIDEMARK_SOURCE_DIR "/configs/runs/nanogpt-30m-rtx4070-eager.yaml";
  const Result<std::string> text = ReadFile(path);
  if (!text.ok()) return state.SkipWithError(text.error().message.c_str());
  const std::vector<std::string> variants = {"training.micro_batch=8",
                                             "training.sequence=256,model.context=256",
                                             "training.gradient_accumulation=8",
                                             "training.gradient_accumulation=8,training.micro_batch=8",
                                             "passes.recompute.policy=full",
                                             "training.precision=fp32",
                                             "allocator.conf=expandable_segments:True",
                                             "training.micro_batch=32",
                                             "model.dropout=0.2",
                                             "training.evaluation=null",
                                             "passes=[{fuse: {}}]",
                                             "passes=[{chunk_loss: {chunks: 4}}]"};
  for (auto _ : state) {
    std::vector<std::string> notes;
    const Result<VariantTable> table = CompareVariants(*text, path, {}, variants, false, notes);
    if (!table.ok()) return state.SkipWithError(table.error().message.c_str());
    benchmark::DoNotOptimize(CompareText(*table, {}));
  }
}
BENCHMARK(CompareTwelve)->Unit(benchmark::kMillisecond);

void RunPass(benchmark::State& state, const PassConfig& pass) {
  const RunConfig run = Gpt2(40);
  const Graph graph = GraphOf(run);
  for (auto _ : state) {
    Result<PassResult> result = InfoOf(pass).rewrite(graph, pass, {.device = run.device});
    if (!result.ok()) return state.SkipWithError(result.error().message.c_str());
    benchmark::DoNotOptimize(result);
  }
  state.counters["ops"] = static_cast<double>(graph.ops.size());
}
BENCHMARK_CAPTURE(RunPass, MinCut, RecomputePass{.policy = RecomputePolicy::kMinCut})->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(RunPass, EveryBlock, RecomputePass{.policy = RecomputePolicy::kEveryN, .blocks = 1})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(RunPass, Fuse, FusePass{})->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(RunPass, ChunkLoss, ChunkLossPass{.chunks = 8})->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(RunPass, Offload, OffloadPass{})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tidemark
