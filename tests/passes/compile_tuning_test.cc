// What tuning and timing allocate in a first compiled run: products that are timed with padding, the compile cache.
#include <gtest/gtest.h>

#include <vector>

#include "graph/tracer.h"
#include "passes/compile/configurations.h"
#include "passes/compile/pad_mm.h"
#include "passes/compile/tuning.h"

namespace tidemark::compile {
namespace {

DeviceSpec Device(const char* name) {
  DeviceSpec device;
  device.name = name;
  return device;
}

NodeId AddNode(FunctionalGraph& graph, OpKind kind, std::vector<NodeId> inputs, const TensorType& type) {
  FunctionalNode node;
  node.kind = kind;
  node.inputs = std::move(inputs);
  node.results = {type};
  const NodeId id = graph.nodes.Add(std::move(node));
  graph.order.push_back(id);
  return id;
}

// cast(x) [m, k] times w [k, n]
FunctionalGraph Product(DType dtype, Extent m, Extent k, Extent n) {
  FunctionalGraph graph;
  const NodeId x = AddNode(graph, OpKind::kFromHost, {}, ContiguousType(DType::kFloat32, {m, k}));
  const NodeId cast = AddNode(graph, OpKind::kToCopy, {x}, ContiguousType(dtype, {m, k}));
  const NodeId w = AddNode(graph, OpKind::kFromHost, {}, ContiguousType(dtype, {k, n}));
  AddNode(graph, OpKind::kMm, {cast, w}, ContiguousType(dtype, {m, n}));
  return graph;
}

std::vector<TimedProduct> Timed(DType dtype, Extent m, Extent k, Extent n, const char* device = "a GPU") {
  return ProductsToTime(Product(dtype, m, k, n), Device(device), 1);
}

TEST(TimedProducts, ArePaddedToMultiplesOfSixteenBytes) {
  const std::vector<TimedProduct> half = Timed(DType::kFloat16, 6, 12, 20);
  ASSERT_EQ(half.size(), 1U);
  EXPECT_EQ(half[0].operands[0].padded, Dims({8, 16}));
  EXPECT_EQ(half[0].operands[1].padded, Dims({16, 24}));
  EXPECT_EQ(half[0].padded_result, Dims({8, 24}));
  // What a kernel computes could be written with padding at once, what comes from outside couldn't.
  EXPECT_TRUE(half[0].operands[0].is_free);
  EXPECT_FALSE(half[0].operands[1].is_free);
  const std::vector<TimedProduct> single = Timed(DType::kFloat32, 6, 12, 20);
  ASSERT_EQ(single.size(), 1U);
  EXPECT_EQ(single[0].operands[0].padded, Dims({8, 12}));
  EXPECT_FALSE(single[0].operands[1].is_padded);
}

TEST(TimedProducts, AreThoseWithSomethingToPad) {
  EXPECT_TRUE(Timed(DType::kFloat16, 8, 16, 24).empty());
  EXPECT_TRUE(Timed(DType::kFloat32, 4, 12, 20).empty());
  EXPECT_TRUE(Timed(DType::kFloat16, 1, 16, 24).empty());  // a row
}

TEST(TimedProducts, LeaveOpenLengthsAsTheyAre) {
  EXPECT_TRUE(Timed(DType::kFloat16, {6, 7}, 16, 24).empty());
  const std::vector<TimedProduct> open =
      ProductsToTime(Product(DType::kFloat16, {12, 22}, 16, 20), Device("a GPU"), {6, 11});
  ASSERT_EQ(open.size(), 1U);
  EXPECT_EQ(open[0].operands[0].padded, Dims({12, 16}));
  // The same with another length at hand: the same question.
  const std::vector<TimedProduct> later =
      ProductsToTime(Product(DType::kFloat16, {18, 38}, 16, 20), Device("a GPU"), {9, 19});
  EXPECT_EQ(open[0].padded, later[0].padded);
}

TEST(TimedProducts, OnADeviceWithKnownRatesAreBoundByArithmetic) {
  EXPECT_TRUE(Timed(DType::kFloat16, 1024, 20, 1024, "NVIDIA L4").empty());
  EXPECT_EQ(Timed(DType::kFloat16, 1024, 2044, 1024, "NVIDIA L4").size(), 1U);
  EXPECT_EQ(Timed(DType::kFloat16, 1024, 20, 1024).size(), 1U);
  EXPECT_EQ(Timed(DType::kBFloat16, 16, 36, 16, "NVIDIA L4").size(), 1U);  // a long reduction
}

TEST(TimedProducts, AreTimedOnce) {
  const std::vector<TimedProduct> products = Timed(DType::kFloat16, 6, 12, 20);
  Tracer tracer(Device("a GPU"));
  TuningCache cache;
  TimeProducts(tracer, products, cache);
  const size_t ops = tracer.graph().ops.size();
  EXPECT_GT(ops, 0U);
  TimeProducts(tracer, products, cache);
  EXPECT_EQ(tracer.graph().ops.size(), ops);
  EXPECT_EQ(tracer.live_bytes(), Bytes());
}

// As many as PyTorch 2.14's own functions return.
TEST(Configurations, AreThoseThatDiffer) {
  const std::vector<int64_t> results = {1, 2, 4, 8, 32, 128, 1024, 8192, 65536, 1048576};
  const auto looped = [&](int64_t length) {
    std::vector<int> counts;
    for (const int64_t n : results) counts.push_back(LoopedConfigurations(n, length, 2, ReductionHint::kDefault));
    return counts;
  };
  EXPECT_EQ(looped(128), (std::vector{3, 3, 5, 6, 6, 6, 6, 6, 6, 6}));
  EXPECT_EQ(looped(200), (std::vector{3, 3, 5, 5, 5, 5, 5, 5, 5, 5}));
  EXPECT_EQ(looped(512), (std::vector{3, 4, 6, 6, 6, 6, 6, 6, 6, 6}));
  EXPECT_EQ(looped(1024), (std::vector{4, 5, 6, 6, 6, 6, 6, 6, 6, 6}));
  EXPECT_EQ(looped(16384), (std::vector{4, 4, 5, 5, 5, 5, 5, 5, 5, 5}));
  EXPECT_EQ(LoopedConfigurations(8192, 50304, 3, ReductionHint::kInner), 1);
  EXPECT_EQ(PersistentConfigurations(8192, 16, ReductionHint::kDefault), 4);
  EXPECT_EQ(PersistentConfigurations(64, 64, ReductionHint::kDefault), 3);
  EXPECT_EQ(PersistentConfigurations(8192, 128, ReductionHint::kInner), 3);
  EXPECT_EQ(PersistentConfigurations(8192, 384, ReductionHint::kInner), 1);
  EXPECT_EQ(PersistentConfigurations(8192, 64, ReductionHint::kOuter), 1);
  EXPECT_EQ(PointwiseConfigurations(128), 1);
  EXPECT_EQ(PointwiseConfigurations(129), 2);
}

TEST(Copies, FitOneBesideTheOther) {
  EXPECT_EQ(CopiesThatFit({Bytes(6), Bytes(5), Bytes(4)}, Bytes(10)), (std::vector<bool>{true, false, true}));
  EXPECT_EQ(CopiesThatFit({Bytes(6)}, Bytes()), std::vector<bool>{false});
}

}  // namespace
}  // namespace tidemark::compile
