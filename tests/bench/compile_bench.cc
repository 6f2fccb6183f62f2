// Time to trace and compile a step: 32 layers of GPT-2 and of Llama, and the run of configs/runs/nanogpt-30m-rtx4070.
#include <benchmark/benchmark.h>

#include "graph/training/loop.h"
#include "passes/compile/compiled_graph.h"
#include "passes/compile/compiled_model.h"
#include "sim/lower.h"

namespace tidemark {
namespace {

RunConfig Layers32(Family family) {
  RunConfig run;
  run.model = {.family = family,
               .implementation = family == Family::kGpt2 ? Implementation::kNanogpt : Implementation::kTransformers,
               .layers = 32,
               .hidden = 2048,
               .heads = 16,
               .kv_heads = family == Family::kGpt2 ? 16 : 4,
               .head_dim = 128,
               .ffn = family == Family::kGpt2 ? 8192 : 5632,
               .vocab = 32000,
               .context = 2048,
               .tied_embeddings = false};
  run.training = {.micro_batch = 4, .sequence = {1024}, .precision = Precision::kAmpBf16};
  run.training.compile = CompileMode::kOn;
  run.training.steps = 1;
  return run;
}

// Capture, cut, lowering, fusion, order, plan of forward and backward.
void CompileStep(benchmark::State& state, Family family) {
  const RunConfig run = Layers32(family);
  size_t kernels = 0;
  for (auto _ : state) {
    const Result<compile::CompiledStep> step =
        compile::CompileStep(run, {.tokens = {4, 1024}, .tokens_now = {4, 1024}});
    if (!step.ok()) return state.SkipWithError(step.error().message.c_str());
    kernels = step->forward.kernels.size() + step->backward.kernels.size();
    benchmark::DoNotOptimize(kernels);
  }
  state.counters["kernels"] = static_cast<double>(kernels);
}

void CompileGpt2Of32Layers(benchmark::State& state) { CompileStep(state, Family::kGpt2); }
BENCHMARK(CompileGpt2Of32Layers)->Unit(benchmark::kMillisecond);

void CompileLlamaOf32Layers(benchmark::State& state) { CompileStep(state, Family::kLlama); }
BENCHMARK(CompileLlamaOf32Layers)->Unit(benchmark::kMillisecond);

// The whole run: evaluation, three steps of four micro-steps.
void TraceCompiledRun(benchmark::State& state) {
  RunConfig run;
  run.model = {.layers = 6,
               .hidden = 384,
               .heads = 6,
               .kv_heads = 6,
               .head_dim = 64,
               .ffn = 1536,
               .vocab = 50304,
               .context = 512};
  run.training = {.micro_batch = 16, .sequence = {512}, .gradient_accumulation = 4, .precision = Precision::kAmpFp16};
  run.training.optimizer.implementation = OptimizerImplementation::kFused;
  run.training.grad_clip = 1;
  run.training.compile = CompileMode::kOn;
  run.training.evaluation = EvaluationConfig{.every = 2, .batches = 2};
  for (auto _ : state) {
    const Result<Graph> graph = TraceRun(run, compile::CompiledModels());
    if (!graph.ok()) return state.SkipWithError(graph.error().message.c_str());
    benchmark::DoNotOptimize(Lower(*graph, run.device));
  }
}
BENCHMARK(TraceCompiledRun)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tidemark
