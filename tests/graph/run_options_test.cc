// What a run may ask of the models and optimizers, and what it is told: errors that name what would have been right,
// and the assumptions behind what can't be known.
#include <gtest/gtest.h>

#include <string>

#include "graph/training/loop.h"

namespace tidemark {
namespace {

RunConfig SmallRun(Family family) {
  RunConfig run;
  run.model = {.family = family,
               .implementation = Implementation::kTransformers,
               .layers = 1,
               .hidden = 16,
               .heads = 2,
               .kv_heads = 2,
               .head_dim = 8,
               .ffn = 32,
               .vocab = 64,
               .context = 8};
  run.training.micro_batch = 2;
  run.training.sequence = {8};
  run.training.steps = 1;
  run.training.loop = Loop::kPlain;
  return run;
}

std::string ErrorOf(const RunConfig& run) {
  const Result<Graph> graph = TraceRun(run);
  return graph.ok() ? "no error" : graph.error().message;
}

bool Contains(const std::vector<std::string>& texts, const std::string& part) {
  for (const std::string& text : texts) {
    if (text.find(part) != std::string::npos) return true;
  }
  return false;
}

TEST(RunOptions, AnUnknownFieldOfTheConfigurationIsAnErrorThatNamesTheKnownOnes) {
  RunConfig run = SmallRun(Family::kT5);
  run.model.config = {{"feed_forward", std::string("relu")}};
  const std::string error = ErrorOf(run);
  EXPECT_NE(error.find("unknown field \"feed_forward\""), std::string::npos) << error;
  EXPECT_NE(error.find("feed_forward_proj"), std::string::npos) << error;
}

TEST(RunOptions, AnUnknownActivationIsAnErrorThatNamesTheKnownOnes) {
  RunConfig run = SmallRun(Family::kBert);
  run.model.config = {{"hidden_act", std::string("mish")}};
  const std::string error = ErrorOf(run);
  EXPECT_NE(error.find("gelu_new"), std::string::npos) << error;
}

TEST(RunOptions, AFusedAdafactorIsRefused) {
  RunConfig run = SmallRun(Family::kGpt2);
  run.training.optimizer = {.kind = OptimizerKind::kAdafactor, .implementation = OptimizerImplementation::kFused};
  const std::string error = ErrorOf(run);
  EXPECT_NE(error.find("foreach and for-loop"), std::string::npos) << error;
}

// T5's bias by position is a mask, which flash attention doesn't take.
TEST(RunOptions, ForcedFlashAttentionIsRefusedForT5) {
  RunConfig run = SmallRun(Family::kT5);
  run.training.precision = Precision::kBf16;
  run.training.attention = AttentionChoice::kFlash;
  const std::string error = ErrorOf(run);
  EXPECT_NE(error.find("training.attention"), std::string::npos) << error;
}

TEST(RunOptions, AssumptionsAreNamedOnceEach) {
  RunConfig run = SmallRun(Family::kGpt2);
  run.training.steps = 2;
  run.training.precision = Precision::kAmpFp16;
  const Result<Graph> graph = TraceRun(run);
  ASSERT_TRUE(graph.ok()) << graph.error().message;
  EXPECT_EQ(graph->assumptions.size(), 3U);
  EXPECT_TRUE(Contains(graph->assumptions, "find_packed_sequence_indices"));
  EXPECT_TRUE(Contains(graph->assumptions, "leaving autocast"));
  EXPECT_TRUE(Contains(graph->assumptions, "GradScaler"));
}

// No positions are given to T5's masks, and nothing is scaled or cast.
TEST(RunOptions, AFullPrecisionRunOfT5AssumesNothing) {
  const Result<Graph> graph = TraceRun(SmallRun(Family::kT5));
  ASSERT_TRUE(graph.ok()) << graph.error().message;
  EXPECT_TRUE(graph->assumptions.empty());
}

}  // namespace
}  // namespace tidemark
