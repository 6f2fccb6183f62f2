// Compiled runs on the host: losses and gradients are those of the eager run, in memory laid out as predicted, with
// freed bytes poisoned; what is executed takes the memory that was predicted.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "graph/training/loop.h"
#include "kernels/placed_tape.h"
#include "passes/compile/compiled_model.h"
#include "sim/replay.h"
#include "tests/support/execute.h"
#include "tests/support/runs.h"

namespace tidemark {
namespace {

Graph Compiled(RunConfig run) {
  run.training.compile = CompileMode::kOn;
  Result<Graph> graph = TraceRun(run, compile::CompiledModels());
  EXPECT_TRUE(graph.ok()) << graph.error().message;
  return graph.ok() ? *std::move(graph) : Graph();
}

void ExpectEqualToEager(const RunConfig& run, double tolerance) {
  const Graph compiled = Compiled(run);
  ASSERT_FALSE(compiled.fused.empty());
  const Execution eager = ExecuteGraph(GraphOf(run), run.device);
  const Execution execution = ExecuteGraph(compiled, run.device);
  EXPECT_EQ(DifferenceOf(eager, execution, tolerance), "");

  const Lowered lowered = Lower(compiled, run.device);
  const Result<Replay> replay =
      RunReplay(lowered.tape, {.allocator = {.device_memory = run.device.memory}, .observers = {}});
  ASSERT_TRUE(replay.ok());
  EXPECT_EQ(execution.requested_peak, replay->requested.bytes);
  EXPECT_EQ(execution.allocated_peak, replay->allocated.bytes);
  EXPECT_EQ(execution.reserved_peak, replay->reserved.bytes);
}

RunConfig TinyLlama() {
  RunConfig run = TinyRun();
  run.model.family = Family::kLlama;
  run.model.implementation = Implementation::kTransformers;
  run.model.kv_heads = 1;
  run.model.ffn = 176;
  run.training.loop = Loop::kNanogpt;
  return run;
}

constexpr double kFp32 = 1e-5;

TEST(CompiledExecution, Gpt2ComputesWhatTheEagerRunDoes) { ExpectEqualToEager(TinyRun(), kFp32); }

TEST(CompiledExecution, Gpt2WithBiasesOverTwoAccumulatedSteps) {
  RunConfig run = TinyRun();
  run.model.bias = true;
  run.training.gradient_accumulation = 2;
  run.training.steps = 2;
  ExpectEqualToEager(run, kFp32);
}

TEST(CompiledExecution, Gpt2WithEvaluationAndAnotherLength) {
  RunConfig run = TinyRun();
  run.training.steps = 2;
  run.training.sequence = {32, 24};
  run.training.evaluation = EvaluationConfig{.every = 1, .batches = 1};
  ExpectEqualToEager(run, kFp32);
}

// Rows of more than 8192 elements, fewer than two for each multiprocessor, are reduced in blocks; the last block is
// shorter than the others.
TEST(CompiledExecution, Gpt2WithFewLongRowsOfLogits) {
  RunConfig run = TinyRun();
  run.model.vocab = 8263;
  ExpectEqualToEager(run, kFp32);
}

TEST(CompiledExecution, Gpt2WithCheckpointedBlocks) {
  RunConfig run = TinyRun();
  run.passes = {RecomputePass{.policy = RecomputePolicy::kFull}};
  ExpectEqualToEager(run, kFp32);
}

TEST(CompiledExecution, LlamaComputesWhatTheEagerRunDoes) { ExpectEqualToEager(TinyLlama(), kFp32); }

TEST(CompiledExecution, LlamaWithAnUntiedHeadAndAllHeads) {
  RunConfig run = TinyLlama();
  run.model.kv_heads = 2;
  run.model.tied_embeddings = false;
  ExpectEqualToEager(run, kFp32);
}

// Mixed precision rounds at other places than the eager run does: values in registers aren't rounded.
TEST(CompiledExecution, MixedPrecisionIsNear) {
  for (RunConfig run : {TinyRun(), TinyLlama()}) {
    run.training.precision = Precision::kAmpBf16;
    ExpectEqualToEager(run, 0.05);
  }
}

TEST(CompiledExecution, AFirstRunComputesTheSame) {
  RunConfig run = TinyRun();
  const Execution later = ExecuteGraph(Compiled(run), run.device);
  run.training.compile = CompileMode::kFirstRun;
  Result<Graph> first = TraceRun(run, compile::CompiledModels());
  ASSERT_TRUE(first.ok()) << first.error().message;
  EXPECT_EQ(DifferenceOf(later, ExecuteGraph(*first, run.device), 0), "");
}

}  // namespace
}  // namespace tidemark
