#include "tests/support/runs.h"

#include <cstdio>
#include <cstdlib>
#include <functional>

#include "graph/graph_text.h"
#include "graph/training/loop.h"

namespace tidemark {
namespace {

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::abort();
}

}  // namespace

RunConfig TinyRun() {
  RunConfig run;
  run.model = {
      .layers = 2, .hidden = 64, .heads = 2, .kv_heads = 2, .head_dim = 32, .ffn = 256, .vocab = 160, .context = 32};
  run.training.micro_batch = 2;
  run.training.sequence = {32};
  run.training.steps = 1;
  run.device = {.name = "NVIDIA GeForce RTX 4070",
                .memory = kMiB * 12282,
                .memory_bandwidth = 5.042e11,
                .peak_flops_fp32 = 2.915e13,
                .peak_flops_tf32 = 2.915e13,
                .peak_flops_half = 5.83e13};
  return run;
}

std::vector<NamedRun> TinyRuns() {
  std::vector<NamedRun> runs;
  const auto add = [&](const char* name, const std::function<void(RunConfig&)>& change) {
    runs.push_back({name, TinyRun()});
    change(runs.back().run);
  };
  add("fp32", [](RunConfig&) {});
  add("fp16", [](RunConfig& r) { r.training.precision = Precision::kAmpFp16; });
  add("bf16", [](RunConfig& r) { r.training.precision = Precision::kAmpBf16; });
  add("pure bf16", [](RunConfig& r) { r.training.precision = Precision::kBf16; });
  add("two steps of two micro-steps", [](RunConfig& r) {
    r.training.precision = Precision::kAmpFp16;
    r.training.gradient_accumulation = 2;
    r.training.steps = 2;
    r.training.grad_clip = 1;
    r.training.evaluation = EvaluationConfig{.every = 2, .batches = 2};
  });
  add("bias and dropout", [](RunConfig& r) {
    r.training.precision = Precision::kAmpBf16;
    r.model.bias = true;
    r.model.dropout = 0.1;
  });
  add("attention written out", [](RunConfig& r) { r.training.attention = AttentionChoice::kEager; });
  add("math attention", [](RunConfig& r) { r.training.attention = AttentionChoice::kMath; });
  add("fused", [](RunConfig& r) { r.training.optimizer.implementation = OptimizerImplementation::kFused; });
  add("for-loop", [](RunConfig& r) { r.training.optimizer.implementation = OptimizerImplementation::kForLoop; });
  add("sgd", [](RunConfig& r) { r.training.optimizer = {.kind = OptimizerKind::kSgd, .momentum = 0.9}; });
  add("checkpoints", [](RunConfig& r) { r.passes = {RecomputePass{}}; });
  add("reentrant checkpoints", [](RunConfig& r) { r.passes = {RecomputePass{.reentrant = true}}; });
  add("lengths", [](RunConfig& r) {
    r.training.steps = 2;
    r.training.sequence = {32, 16};
  });
  return runs;
}

Graph GraphOf(const RunConfig& run) {
  Result<Graph> graph = TraceRun(run);
  if (!graph.ok()) Die(graph.error().message);
  return *std::move(graph);
}

Graph GraphOfText(const std::string& text) {
  Result<Graph> graph = ParseGraph(text);
  if (!graph.ok()) Die(graph.error().message);
  return *std::move(graph);
}

}  // namespace tidemark
