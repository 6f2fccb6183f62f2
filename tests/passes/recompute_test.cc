#include "passes/recompute.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "graph/graph_text.h"
#include "graph/lifetimes.h"
#include "graph/verify.h"
#include "tests/support/runs.h"

namespace tidemark {
namespace {

// a = mm x w, b = gelu a, c = mm b v; backward reads a and b.
constexpr const char* kMlp = R"(phase model
s0:float32[8,32] parameter = FromHost()
hold h0 s0 parameter
s1:float32[32,8] parameter = FromHost()
hold h1 s1 parameter
s2:float32[4,8] input = FromHost()
hold h2 s2 caller
phase forward step=0 micro=0
s3:float32[4,32] activation = Mm(s2, s0) @h.0.fc
hold h3 s3 local @h.0.fc
hold h4 s3 saved node=GeluBackward0 @h.0
s4:float32[4,32] activation = Gelu(s3) @h.0
hold h5 s4 local @h.0
hold h6 s4 saved node=MmBackward0 @h.0.proj
release h3
s5:float32[4,8] activation = Mm(s4, s1) @h.0.proj
hold h7 s5 caller @h.0.proj
release h5
phase backward step=0 micro=0
s6:float32[4,8] activation_gradient = OnesLike(s5) autograd
hold h8 s6 local
s7:float32[32,8] gradient = Mm(s4:float32[32,4]{1,32}, s6) @h.0.proj node=MmBackward0 autograd
hold h9 s7 gradient @h.0.proj
s8:float32[4,32] activation_gradient = Mm(s6, s1:float32[8,32]{1,8}) @h.0.proj node=MmBackward0 autograd
hold h10 s8 engine_buffer @h.0.proj
release h8
release h6
s9:float32[4,32] activation_gradient = GeluBackward(s8, s3) @h.0 node=GeluBackward0 autograd
hold h11 s9 local @h.0
release h10
release h4
s10:float32[8,32] gradient = Mm(s2:float32[8,4]{1,8}, s9) @h.0.fc node=MmBackward0 autograd
hold h12 s10 gradient @h.0.fc
release h11
)";

PassResult RunRecompute(Graph graph, const RecomputePass& pass) {
  Result<PassResult> result = Recompute(std::move(graph), PassConfig(pass), {});
  EXPECT_TRUE(result.ok());
  return *std::move(result);
}

// The gelu runs again right before the first op of backward that reads it, and its saved holder holds the copy.
TEST(Recompute, RepeatsANamedOpBeforeItsFirstReaderInBackward) {
  const PassResult result =
      RunRecompute(GraphOfText(kMlp), {.policy = RecomputePolicy::kSelective, .ops = {"aten::gelu"}});
  EXPECT_EQ(PrintGraph(result.graph), R"(phase model
s0:float32[8,32] parameter = FromHost()
hold h0 s0 parameter
s1:float32[32,8] parameter = FromHost()
hold h1 s1 parameter
s2:float32[4,8] input = FromHost()
hold h2 s2 caller
phase forward step=0 micro=0
s3:float32[4,32] activation = Mm(s2, s0) @h.0.fc
hold h3 s3 local @h.0.fc
hold h4 s3 saved node=GeluBackward0 @h.0
s4:float32[4,32] activation = Gelu(s3) @h.0
hold h5 s4 local @h.0
release h3
s5:float32[4,8] activation = Mm(s4, s1) @h.0.proj
hold h6 s5 caller @h.0.proj
release h5
phase backward step=0 micro=0
s6:float32[4,8] activation_gradient = OnesLike(s5) autograd
hold h7 s6 local
s7:float32[4,32] activation = Gelu(s3) @h.0 node=MmBackward0 autograd
hold h8 s7 saved node=MmBackward0 @h.0.proj
s8:float32[32,8] gradient = Mm(s7:float32[32,4]{1,32}, s6) @h.0.proj node=MmBackward0 autograd
hold h9 s8 gradient @h.0.proj
s9:float32[4,32] activation_gradient = Mm(s6, s1:float32[8,32]{1,8}) @h.0.proj node=MmBackward0 autograd
hold h10 s9 engine_buffer @h.0.proj
release h7
release h8
s10:float32[4,32] activation_gradient = GeluBackward(s9, s3) @h.0 node=GeluBackward0 autograd
hold h11 s10 local @h.0
release h10
release h4
s11:float32[8,32] gradient = Mm(s2:float32[8,4]{1,8}, s10) @h.0.fc node=MmBackward0 autograd
hold h12 s11 gradient @h.0.fc
release h11
)");
}

// Both are dropped: the product runs again first, and stays for gelu's backward.
TEST(Recompute, RepeatsWhatARepeatedOpReadsFirst) {
  const PassResult result = RunRecompute(GraphOfText(kMlp), {.policy = RecomputePolicy::kEveryN, .blocks = 1});
  const std::string text = PrintGraph(result.graph);
  EXPECT_THAT(text, testing::HasSubstr(R"(hold h6 s6 local
s7:float32[4,32] activation = Mm(s2, s0) @h.0.fc node=MmBackward0 autograd
hold h7 s7 saved node=GeluBackward0 @h.0
s8:float32[4,32] activation = Gelu(s7) @h.0 node=MmBackward0 autograd
hold h8 s8 saved node=MmBackward0 @h.0.proj
)"));
  EXPECT_THAT(text, testing::HasSubstr("GeluBackward(s10, s7)"));
}

// A minimum cut keeps the product's result, from which gelu's follows.
TEST(Recompute, CutsWhereTheLeastIsSaved) {
  const Graph graph = GraphOfText(kMlp);
  const RecomputeAnalysis analysis(graph);
  const RecomputePlan plan = PlanOf(analysis, {.policy = RecomputePolicy::kMinCut});
  EXPECT_EQ(plan[StorageId(3)], Keep::kAsItIs);
  EXPECT_EQ(plan[StorageId(4)], Keep::kDrop);
}

TEST(Recompute, LeavesACallersTensorsAlone) {
  const Graph graph = GraphOfText(kMlp);
  const RecomputeAnalysis analysis(graph);
  EXPECT_FALSE(analysis.Droppable(StorageId(5), analysis.micro_steps[0]));
  EXPECT_FALSE(analysis.Droppable(StorageId(2), analysis.micro_steps[0]));
}

// What is changed in place after somebody else read it has no value that could be repeated.
TEST(Recompute, DoesNotRepeatWhatWasReadBeforeItWasComplete) {
  const Graph graph = GraphOfText(R"(phase forward step=0 micro=0
s0:float32[4] input = Full()
hold h0 s0 caller
s1:float32[4] activation = Neg(s0)
hold h1 s1 saved node=A
s2:float32[4] activation = Neg(s1)
hold h2 s2 caller
s1 = Add(s1, s0) number=1
phase backward step=0 micro=0
s3:float32[4] gradient = Mul(s1, s2)
hold h3 s3 gradient
release h1
)");
  const RecomputeAnalysis analysis(graph);
  EXPECT_FALSE(analysis.Repeatable(StorageId(1), analysis.micro_steps[0]));
}

// What is changed in place before anyone reads it is repeated with its changes.
TEST(Recompute, RepeatsChangesInPlace) {
  const PassResult result = RunRecompute(GraphOfText(R"(phase forward step=0 micro=0
s0:float32[4] input = Full()
hold h0 s0 caller
s1:float32[4] activation = Neg(s0) @h.0
hold h1 s1 saved node=A
s1 = Add(s1, s0) number=1 @h.0
s2:float32[4] activation = Neg(s1) @h.0
hold h2 s2 caller
phase backward step=0 micro=0
s3:float32[4] gradient = Mul(s1, s2)
hold h3 s3 gradient
release h1
)"),
                                         {.policy = RecomputePolicy::kEveryN, .blocks = 1});
  EXPECT_THAT(PrintGraph(result.graph), testing::HasSubstr(R"(phase backward step=0 micro=0
s3:float32[4] activation = Neg(s0) @h.0 autograd
hold h3 s3 saved node=A
s3 = Add(s3, s0) number=1 @h.0 autograd
s4:float32[4] gradient = Mul(s3, s2)
)"));
}

size_t OpsOfForward(const Graph& graph) {
  size_t ops = 0;
  for (const MicroStep& micro : MicroStepsOf(graph)) {
    for (int64_t i = micro.forward.begin; i < micro.forward.end; ++i) {
      if (graph.program[static_cast<size_t>(i)].kind() == Step::Kind::kOp) ++ops;
    }
  }
  return ops;
}

Bytes LiveAtBackward(const Graph& graph, const DeviceSpec& device) {
  const MicroStep micro = MicroStepsOf(graph).at(0);
  return LiveBytesOf(graph, device).after[static_cast<size_t>(micro.backward.begin)];
}

const RecomputePass kPolicies[] = {
    {.policy = RecomputePolicy::kEveryN, .blocks = 1},
    {.policy = RecomputePolicy::kEveryN, .blocks = 2},
    {.policy = RecomputePolicy::kSelective, .ops = {"gelu", "native_layer_norm", "_to_copy", "_log_softmax"}},
    {.policy = RecomputePolicy::kMinCut},
};

TEST(Recompute, MakesGraphsOfEveryRunThatHoldLessThroughForward) {
  for (const NamedRun& named : TinyRuns()) {
    for (const RecomputePass& pass : kPolicies) {
      SCOPED_TRACE(named.name + ", policy " + std::to_string(static_cast<int>(pass.policy)));
      const Graph graph = GraphOf(named.run);
      const PassResult result = RunRecompute(graph, pass);
      const Status status = VerifyGraph(result.graph);
      ASSERT_TRUE(status.ok()) << status.error().message;
      EXPECT_LE(result.graph.ops.size(), graph.ops.size() + OpsOfForward(graph));
      EXPECT_LE(LiveAtBackward(result.graph, named.run.device), LiveAtBackward(graph, named.run.device));
    }
  }
}

// A second run finds everything dropped or needed.
TEST(Recompute, ByMinimumCutTwiceIsOnce) {
  for (const NamedRun& named : TinyRuns()) {
    const RecomputePass pass = {.policy = RecomputePolicy::kMinCut};
    const PassResult once = RunRecompute(GraphOf(named.run), pass);
    const PassResult twice = RunRecompute(once.graph, pass);
    EXPECT_TRUE(PrintGraph(once.graph) == PrintGraph(twice.graph)) << named.name;
  }
}

}  // namespace
}  // namespace tidemark
