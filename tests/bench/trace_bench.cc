// Events per second of tracing a training step and lowering it: Llama 3 8B with gradients of 8 micro-batches
// accumulated, and GPT-2 124M as nanoGPT writes it.
#include <benchmark/benchmark.h>

#include "graph/training/loop.h"
#include "sim/lower.h"

namespace tidemark {
namespace {

RunConfig Llama8b() {
  RunConfig run;
  run.model = {.family = Family::kLlama,
               .implementation = Implementation::kTransformers,
               .layers = 32,
               .hidden = 4096,
               .heads = 32,
               .kv_heads = 8,
               .head_dim = 128,
               .ffn = 14336,
               .vocab = 128256,
               .context = 8192,
               .tied_embeddings = false};
  run.training = {.micro_batch = 1, .sequence = {2048}, .gradient_accumulation = 8, .precision = Precision::kBf16};
  run.training.optimizer.implementation = OptimizerImplementation::kFused;
  run.training.grad_clip = 1;
  run.training.steps = 1;
  run.training.loop = Loop::kPlain;
  return run;
}

RunConfig Gpt2() {
  RunConfig run;
  run.model = {.layers = 12,
               .hidden = 768,
               .heads = 12,
               .kv_heads = 12,
               .head_dim = 64,
               .ffn = 3072,
               .vocab = 50304,
               .context = 1024};
  run.training = {.micro_batch = 12, .sequence = {1024}, .gradient_accumulation = 5, .precision = Precision::kAmpFp16};
  run.training.optimizer.implementation = OptimizerImplementation::kFused;
  run.training.grad_clip = 1;
  run.training.steps = 1;
  return run;
}

void Traces(benchmark::State& state, const RunConfig& run) {
  size_t events = 0;
  for (auto _ : state) {
    const Result<Graph> graph = TraceRun(run);
    if (!graph.ok()) return state.SkipWithError(graph.error().message.c_str());
    const Lowered lowered = Lower(*graph, run.device);
    events = lowered.tape.events.size();
    benchmark::DoNotOptimize(lowered);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(events));
  state.counters["events"] = static_cast<double>(events);
}

void TraceLlama8b(benchmark::State& state) { Traces(state, Llama8b()); }
BENCHMARK(TraceLlama8b)->Unit(benchmark::kMillisecond);

void TraceGpt2(benchmark::State& state) { Traces(state, Gpt2()); }
BENCHMARK(TraceGpt2)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tidemark
