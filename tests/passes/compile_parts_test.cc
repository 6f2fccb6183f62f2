// The compiler's parts by themselves: indices, the min-cut, split reductions, fusion, the memory plan.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "passes/compile/builder.h"
#include "passes/compile/fuse.h"
#include "passes/compile/index.h"
#include "passes/compile/lower.h"
#include "passes/compile/min_cut.h"
#include "passes/compile/order.h"
#include "passes/compile/plan.h"
#include "passes/compile/split_reduction.h"
#include "tests/support/tapes.h"

namespace tidemark::compile {
namespace {

using testing::HasSubstr;

// --- Indices

int64_t ValueOf(const Index& index, const std::vector<int64_t>& variables) {
  int64_t value = index.offset().hint();
  for (const Term& t : index.terms()) {
    int64_t v = variables[static_cast<size_t>(t.variable)] / t.divisor.hint();
    if (!t.modulus.is(0)) v %= t.modulus.hint();
    value += t.coefficient.hint() * v;
  }
  return value;
}

std::vector<int64_t> DigitsOf(int64_t number, const Shape& sizes) {
  std::vector<int64_t> digits(static_cast<size_t>(sizes.size()));
  for (int i = sizes.size(); i-- > 0;) {
    digits[static_cast<size_t>(i)] = number % sizes[i].hint();
    number /= sizes[i].hint();
  }
  return digits;
}

TEST(Index, AReshapeAndItsInverseAreTheIdentity) {
  const std::vector<Extent> ranges = {4, 6};
  const std::vector<Index> to_flat = ReshapeIndices({24}, {4, 6});
  const std::vector<Index> back = ReshapeIndices({4, 6}, {24});
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(back[static_cast<size_t>(i)].Substitute(to_flat, ranges), Index::Variable(i));
  }
}

TEST(Index, ChainsOfRandomReshapesTouchTheSameElements) {
  Random random(7);
  const std::vector<Shape> shapes = {{48}, {4, 12}, {12, 4}, {2, 2, 12}, {4, 3, 4}, {48, 1}, {2, 24}, {4, 6, 2}};
  for (int round = 0; round < 200; ++round) {
    const Shape& from = shapes[random.Below(shapes.size())];
    const Shape& middle = shapes[random.Below(shapes.size())];
    const Shape& to = shapes[random.Below(shapes.size())];
    const std::vector<Extent> ranges(to.begin(), to.end());
    std::vector<Index> composed;
    for (const Index& index : ReshapeIndices(from, middle)) {
      composed.push_back(index.Substitute(ReshapeIndices(middle, to), ranges));
      if (!composed.back().is_exact()) break;
    }
    if (!composed.back().is_exact()) continue;  // such an index can't be said in terms of whole digits
    for (int64_t n = 0; n < 48; ++n) {
      const std::vector<int64_t> expected = DigitsOf(n, from);
      for (size_t i = 0; i < composed.size(); ++i) {
        ASSERT_EQ(ValueOf(composed[i], DigitsOf(n, to)), expected[i]) << "round " << round << ", element " << n;
      }
    }
  }
}

TEST(Index, SizesThatAgreeAtOneLengthOnlyAreNotEqual) {
  const Extent length(64, 96);
  EXPECT_FALSE(length == Extent(64));
  const std::vector<Extent> ranges = {length};
  // floor(v / 64) is 0 at the compiled length, but not at the other.
  EXPECT_FALSE(Index::Variable(0).FloorMod(ranges, 64, 0) == Index());
}

// --- Min-cut

//   source --2--> a --2--> b --2--> sink: three minimal cuts
TEST(MinimumCut, OfSeveralTheOneNearestTheSinkIsTaken) {
  FlowNetwork network;
  const int a = network.AddVertex();
  const int b = network.AddVertex();
  network.AddEdge(FlowNetwork::kSource, a, 2);
  network.AddEdge(a, b, 2);
  network.AddEdge(b, FlowNetwork::kSink, 2);
  const FlowNetwork::Cut cut = network.MinimumCut();
  EXPECT_EQ(cut.value, 2);
  EXPECT_FALSE(cut.near_sink[static_cast<size_t>(a)]);
  EXPECT_FALSE(cut.near_sink[static_cast<size_t>(b)]);
}

// What may not be cut, infinite, moves the cut elsewhere, dearer as it is.
TEST(MinimumCut, InfiniteEdgesAreNotCut) {
  FlowNetwork network;
  const int a = network.AddVertex();
  const int b = network.AddVertex();
  network.AddEdge(FlowNetwork::kSource, a, kInfiniteCapacity);
  network.AddEdge(a, b, 5);
  network.AddEdge(a, b, 4);
  network.AddEdge(b, FlowNetwork::kSink, kInfiniteCapacity);
  const FlowNetwork::Cut cut = network.MinimumCut();
  EXPECT_EQ(cut.value, 9);
  EXPECT_TRUE(cut.near_sink[static_cast<size_t>(b)]);
}

// --- Split reductions: an RTX 4070 has 46 multiprocessors of 1536 threads

TEST(SplitReduction, ColumnSumsAreSplitAsRecorded) {
  const DeviceSpec device;
  EXPECT_EQ(SplitReduction(384, 8192, false, device).splits, 64);
  EXPECT_EQ(SplitReduction(256, 2048, false, device).splits, 16);
  EXPECT_EQ(SplitReduction(64, 256, false, device).splits, 2);
}

TEST(SplitReduction, ASumOfEverythingIsSplitFromAnLengthOn) {
  const DeviceSpec device;
  EXPECT_EQ(EasyReductionPlan(1, 8192, device)->splits, 1);
  EXPECT_EQ(EasyReductionPlan(1, 16384, device)->splits, 2);
}

// --- Lowering, fusion, plan

class SmallGraph : public testing::Test {
 protected:
  NodeId Input(const char* name, const Shape& sizes) {
    return b_.Add(OpKind::kFromHost, name, {}, ContiguousType(DType::kFloat32, sizes));
  }
  NodeId Mm(NodeId a, NodeId b) {
    const Shape sizes = {b_.type(a).sizes[0], b_.type(b).sizes[1]};
    return b_.Add(OpKind::kMm, "mm", {a, b}, ContiguousType(DType::kFloat32, sizes));
  }
  std::string LinesOf(const std::vector<NodeId>& outputs) {
    graph_.outputs = outputs;
    LoweredGraph lowered = Lower(graph_, {.visible_outputs = outputs.size()}, device_);
    Schedule schedule(lowered);
    std::vector<Kernel> kernels = Fuse(schedule);
    MemoryEstimate estimate;
    kernels = OrderForMemory(schedule, std::move(kernels), &estimate);
    return ToText(lowered, PlanMemory(lowered, schedule, kernels, estimate, {}, device_));
  }

  DeviceSpec device_;
  FunctionalGraph graph_;
  Builder b_{graph_};
};

TEST_F(SmallGraph, AChainOfPointwiseOpsIsOneKernelAndOneBuffer) {
  const NodeId x = Input("x", {64, 32});
  const NodeId y = b_.Unary(OpKind::kExp, "exp", x);
  EXPECT_EQ(LinesOf({b_.Binary(OpKind::kAdd, "add", b_.Unary(OpKind::kNeg, "neg", y), x)}),
            "allocate buf0\nlaunch buf0\ndelete x\n");
}

// Rows are summed and then scaled in one pass: the sum is written, what is summed isn't.
TEST_F(SmallGraph, ARowSumTakesWhatItReadsAndWhatReadsItIntoItsKernel) {
  const NodeId x = Input("x", {64, 32});
  const NodeId y = b_.Unary(OpKind::kExp, "exp", x);
  const NodeId sum = b_.Reduce(OpKind::kSum, "sum", y, 2, true, DType::kFloat32);
  EXPECT_EQ(LinesOf({sum, b_.Binary(OpKind::kMul, "mul", x, sum)}),
            "allocate buf0\nallocate buf1\nlaunch buf0 buf1\ndelete x\n");
}

TEST_F(SmallGraph, ADeadBufferIsTakenOverByTheNextOfItsSize) {
  const NodeId w = Input("w", {32, 32});
  const NodeId first = Mm(Input("x", {64, 32}), w);
  EXPECT_THAT(LinesOf({Mm(Mm(first, w), w)}), HasSubstr("buf2 takes over buf0\nlaunch buf2\n"));
}

TEST_F(SmallGraph, APointwiseOpOnAProductThatNobodyElseReadsIsInPlace) {
  const NodeId product = Mm(Input("x", {64, 32}), Input("w", {32, 32}));
  EXPECT_THAT(LinesOf({b_.Unary(OpKind::kExp, "exp", product)}), HasSubstr("buf1 takes over buf0\nlaunch buf1\n"));
}

TEST_F(SmallGraph, ABufferThatIsAnOutputIsNotChangedInPlace) {
  const NodeId product = Mm(Input("x", {64, 32}), Input("w", {32, 32}));
  EXPECT_THAT(LinesOf({product, b_.Unary(OpKind::kExp, "exp", product)}), HasSubstr("allocate buf1\nlaunch buf1\n"));
}

// 9 loads are one too many: the sum so far becomes a buffer.
TEST_F(SmallGraph, ASumOfManyBuffersIsWrittenOnTheWay) {
  NodeId sum = Input("x", {64, 32});
  for (int i = 0; i < 9; ++i)
    sum = b_.Binary(OpKind::kAdd, "add", sum, Input(("y" + std::to_string(i)).c_str(), {64, 32}));
  const std::string lines = LinesOf({b_.Unary(OpKind::kExp, "exp", sum)});
  EXPECT_THAT(lines, HasSubstr("launch buf0 buf1"));
}

TEST_F(SmallGraph, LongRowsArePaddedInsideAGraphOnly) {
  const NodeId x = Input("x", {64, 1060});
  const NodeId w = Input("w", {1060, 1060});
  const NodeId inside = Mm(x, w);
  graph_.outputs = {Mm(inside, w)};
  const LoweredGraph lowered = Lower(graph_, {.visible_outputs = 1}, device_);
  EXPECT_EQ(lowered.buffers[lowered.outputs[0].buffer].strides[0].hint(), 1060);
  const Buffer& hidden = lowered.buffers[lowered.operations[OperationId(0)].result];
  EXPECT_EQ(hidden.strides[0].hint(), 1088);
}

}  // namespace
}  // namespace tidemark::compile
