// What transformers' models say about options that they don't know, and about runs that PyTorch would refuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/training/loop.h"

namespace tidemark {
namespace {

using testing::AllOf;
using testing::HasSubstr;

RunConfig Tiny(Family family) {
  RunConfig run;
  run.model = {.family = family,
               .implementation = Implementation::kTransformers,
               .layers = 1,
               .hidden = 32,
               .heads = 4,
               .kv_heads = 2,
               .head_dim = 8,
               .ffn = 64,
               .vocab = 64,
               .context = 16};
  run.training = {.micro_batch = 2, .sequence = {16}, .precision = Precision::kBf16};
  run.training.steps = 1;
  run.training.loop = Loop::kPlain;
  return run;
}

std::string ErrorOf(const RunConfig& run) {
  const Result<Graph> graph = TraceRun(run);
  return graph.ok() ? "" : graph.error().message;
}

int64_t ParametersOf(const RunConfig& run) {
  const Result<Graph> graph = TraceRun(run);
  EXPECT_TRUE(graph.ok()) << graph.error().message;
  return graph.ok() ? graph->parameters : 0;
}

TEST(ModelConfigFields, AnUnknownOneIsAnErrorThatNamesTheKnownOnes) {
  RunConfig run = Tiny(Family::kGptNeox);
  run.model.config = {{"use_paralel_residual", false}};
  EXPECT_THAT(ErrorOf(run),
              AllOf(HasSubstr("use_paralel_residual"), HasSubstr("use_parallel_residual"), HasSubstr("rotary_pct")));
}

TEST(ModelConfigFields, AValueOfAnotherTypeIsAnError) {
  RunConfig run = Tiny(Family::kMistral);
  run.model.config = {{"sliding_window", std::string("wide")}};
  EXPECT_THAT(ErrorOf(run), AllOf(HasSubstr("model.config.sliding_window"), HasSubstr("null")));
  run.model.config = {{"attention_dropout", int64_t{2}}};
  EXPECT_THAT(ErrorOf(run), HasSubstr("model.config.attention_dropout"));
}

TEST(ModelConfigFields, AnUnknownActivationIsAnErrorThatNamesTheKnownOnes) {
  RunConfig run = Tiny(Family::kPhi);
  run.model.config = {{"hidden_act", std::string("xielu")}};
  EXPECT_THAT(ErrorOf(run), AllOf(HasSubstr("xielu"), HasSubstr("gelu_new")));
}

TEST(ModelConfigFields, NullSwitchesASlidingWindowOff) {
  RunConfig run = Tiny(Family::kMistral);
  run.training.attention = AttentionChoice::kFlash;
  run.model.config = {{"sliding_window", std::monostate()}};
  EXPECT_EQ(ErrorOf(run), "");
}

TEST(Refusals, FlashAttentionTakesNoMask) {
  RunConfig run = Tiny(Family::kMistral);
  run.training.attention = AttentionChoice::kFlash;
  run.model.config = {{"sliding_window", int64_t{8}}};
  EXPECT_THAT(ErrorOf(run), HasSubstr("training.attention"));
}

TEST(Refusals, EfficientAttentionTakesAlignedHeads) {
  RunConfig run = Tiny(Family::kLlama);
  run.model.head_dim = 12;
  run.training.attention = AttentionChoice::kEfficient;
  EXPECT_THAT(ErrorOf(run), HasSubstr("multiples of 4 (16-bit: 8)"));
  run.training.precision = Precision::kFp32;
  EXPECT_EQ(ErrorOf(run), "");
}

TEST(Refusals, WhatOptDecidesAtRandom) {
  RunConfig run = Tiny(Family::kOpt);
  run.model.config = {{"layerdrop", 0.1}};
  EXPECT_THAT(ErrorOf(run), HasSubstr("model.config.layerdrop"));
  run.model.config = {{"layer_norm_elementwise_affine", false}};
  EXPECT_THAT(ErrorOf(run), HasSubstr("model.config.layer_norm_elementwise_affine"));
}

TEST(Refusals, AnOddNumberOfRotatedDimensions) {
  RunConfig run = Tiny(Family::kLlama);
  run.model.head_dim = 7;
  EXPECT_THAT(ErrorOf(run), HasSubstr("even"));
  run = Tiny(Family::kPhi);
  run.model.config = {{"partial_rotary_factor", 0.4}};  // 3 of 8
  EXPECT_THAT(ErrorOf(run), HasSubstr("3 of a head's 8"));
}

// How many ops of a kind the run has.
int64_t Count(const Graph& graph, OpKind kind) {
  int64_t count = 0;
  for (size_t i = 0; i < graph.ops.size(); ++i) count += graph.ops[OpId(i)].kind == kind ? 1 : 0;
  return count;
}

TEST(AttentionChoice, FollowsTheDevice) {
  RunConfig run = Tiny(Family::kLlama);
  run.model.head_dim = 200;
  for (const auto& [capability, flash] : {std::pair(75, false), {80, true}, {86, false}, {90, true}, {120, false}}) {
    run.device.compute_capability = capability;
    run.training.precision = Precision::kFp16;
    const Result<Graph> graph = TraceRun(run);
    ASSERT_TRUE(graph.ok()) << graph.error().message;
    EXPECT_EQ(Count(*graph, OpKind::kFlashForward) > 0, flash) << capability;
    EXPECT_EQ(Count(*graph, OpKind::kEfficientForward) > 0, !flash) << capability;
  }
}

// As torch._fused_sdp_choice of PyTorch 2.14 says (3: cuDNN), asked with random shapes on sm_90, 100 and 120.
TEST(AttentionChoice, TakesCudnnOnHopper) {
  struct Case {
    int capability;
    int64_t head_dim;
    double dropout;
    Precision precision;
    int64_t length;
    OpKind expected;
  };
  for (const Case& c : {Case{90, 64, 0, Precision::kFp16, 16, OpKind::kCudnnForward},
                        Case{90, 128, 0, Precision::kAmpBf16, 16, OpKind::kCudnnForward},
                        Case{90, 256, 0, Precision::kFp16, 16, OpKind::kCudnnForward},
                        Case{90, 136, 0, Precision::kFp16, 16, OpKind::kFlashForward},
                        Case{90, 36, 0, Precision::kFp16, 16, OpKind::kFlashForward},
                        Case{90, 64, 0.1, Precision::kFp16, 16, OpKind::kFlashForward},
                        Case{90, 64, 0, Precision::kFp16, 1, OpKind::kFlashForward},
                        Case{90, 64, 0, Precision::kFp32, 16, OpKind::kEfficientForward},
                        Case{80, 64, 0, Precision::kFp16, 16, OpKind::kFlashForward},
                        Case{120, 64, 0, Precision::kFp16, 16, OpKind::kFlashForward}}) {
    RunConfig run = Tiny(Family::kLlama);
    run.device.compute_capability = c.capability;
    run.model.head_dim = c.head_dim;
    run.model.dropout = c.dropout;
    run.training.precision = c.precision;
    run.training.sequence = {c.length};
    const Result<Graph> graph = TraceRun(run);
    ASSERT_TRUE(graph.ok()) << graph.error().message;
    EXPECT_GT(Count(*graph, c.expected), 0) << "sm_" << c.capability << ", " << c.head_dim << " dimensions";
  }
}

TEST(AttentionChoice, SaysWhereItDoesNotKnowWhatCudnnTakes) {
  RunConfig run = Tiny(Family::kLlama);
  run.device.compute_capability = 100;
  const Result<Graph> graph = TraceRun(run);
  ASSERT_TRUE(graph.ok()) << graph.error().message;
  EXPECT_THAT(graph->assumptions, testing::Contains(HasSubstr("assumed flash attention instead")));
  run.device.compute_capability = 80;
  const Result<Graph> without = TraceRun(run);
  ASSERT_TRUE(without.ok()) << without.error().message;
  EXPECT_THAT(without->assumptions, testing::Not(testing::Contains(HasSubstr("cuDNN"))));
}

// Matrices and vectors of one layer, counted by hand: hidden 32, 4 heads and 2 for keys and values of 8, ffn 64,
// vocab 64.
TEST(Parameters, OfEachFamily) {
  constexpr int64_t kEmbedding = 64 * 32;
  constexpr int64_t kGrouped = 32 * (32 + 16 + 16) + 32 * 32;
  constexpr int64_t kGated = 3 * 32 * 64;
  constexpr int64_t kNorms = 3 * 32;
  EXPECT_EQ(ParametersOf(Tiny(Family::kLlama)), kEmbedding + kGrouped + kGated + kNorms);
  EXPECT_EQ(ParametersOf(Tiny(Family::kMistral)), kEmbedding + kGrouped + kGated + kNorms);
  EXPECT_EQ(ParametersOf(Tiny(Family::kQwen2)), kEmbedding + kGrouped + (32 + 16 + 16) + kGated + kNorms);
  EXPECT_EQ(ParametersOf(Tiny(Family::kQwen3)), kEmbedding + kGrouped + 2 * 8 + kGated + kNorms);
  constexpr int64_t kPlain = 32 * 64 + 64 + 64 * 32 + 32;
  EXPECT_EQ(ParametersOf(Tiny(Family::kPhi)), kEmbedding + 64 + kGrouped + (32 + 16 + 16 + 32) + kPlain + 2 * 2 * 32);
  EXPECT_EQ(ParametersOf(Tiny(Family::kGptNeox)), kEmbedding + (32 * 96 + 96) + (32 * 32 + 32) + kPlain + 3 * 2 * 32);
  EXPECT_EQ(ParametersOf(Tiny(Family::kGemma)), kEmbedding + kGrouped + kGated + kNorms);
  EXPECT_EQ(ParametersOf(Tiny(Family::kPhi3)), kEmbedding + kGrouped + kGated + kNorms);
  constexpr int64_t kPositions = (16 + 2) * 32;
  EXPECT_EQ(ParametersOf(Tiny(Family::kOpt)), kEmbedding + kPositions + 4 * (32 * 32 + 32) + kPlain + 3 * 2 * 32);
  RunConfig projected = Tiny(Family::kOpt);
  projected.model.config = {{"word_embed_proj_dim", int64_t{16}}, {"do_layer_norm_before", false}};
  EXPECT_EQ(ParametersOf(projected), 64 * 16 + 2 * 16 * 32 + kPositions + 4 * (32 * 32 + 32) + kPlain + 2 * 2 * 32);
  RunConfig untied = Tiny(Family::kLlama);
  untied.model.tied_embeddings = false;
  EXPECT_EQ(ParametersOf(untied), 2 * kEmbedding + kGrouped + kGated + kNorms);
}

}  // namespace
}  // namespace tidemark
