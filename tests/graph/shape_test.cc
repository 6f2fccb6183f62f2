#include "graph/shape.h"

#include <gtest/gtest.h>

#include <vector>

namespace tidemark {

void PrintTo(const Dims& dims, std::ostream* os) {
  *os << "[";
  for (const int64_t d : dims) *os << d << " ";
  *os << "]";
}

namespace {

TEST(Strides, ContiguousOnesAreRowMajorAndIgnoreSizesOfOne) {
  EXPECT_EQ(ContiguousStrides({2, 3, 4}), (Dims{12, 4, 1}));
  EXPECT_TRUE(IsContiguous({2, 1, 4}, {4, 999, 1}));
  EXPECT_FALSE(IsContiguous({2, 3}, {1, 2}));
}

TEST(Strides, DenseMeansEveryElementOnceInSomeOrder) {
  EXPECT_TRUE(IsDense({2, 4, 3, 8}, {96, 8, 32, 1}));    // [B, H, T, D] stored [B, T, H, D]
  EXPECT_FALSE(IsDense({2, 4, 3, 8}, {288, 8, 96, 1}));  // the same, cut out of a projection three times as wide
  EXPECT_FALSE(IsDense({2, 3}, {0, 1}));                 // broadcast
}

TEST(Strides, ADenseCopyKeepsTheOrderOfDimensions) {
  // A slice of a fused projection, seen as [B, H, T, D], becomes dense in the order [B, T, H, D].
  EXPECT_EQ(DenseStridesLike({2, 4, 3, 8}, {288, 8, 96, 1}), (Dims{96, 8, 32, 1}));
}

struct ViewCase {
  Dims sizes, strides, to;
  std::optional<Dims> expected;
};

TEST(Views, ShareStorageOnlyWhereStridesAllow) {
  const std::vector<ViewCase> cases = {
      {{2, 3, 4}, {12, 4, 1}, {6, 4}, Dims{4, 1}},                        // leading dimensions fold
      {{6, 4}, {4, 1}, {2, 3, 4}, Dims{12, 4, 1}},                        // and unfold
      {{2, 4, 3, 8}, {96, 8, 32, 1}, {8, 3, 8}, std::nullopt},            // B and H don't merge: stored [B, T, H, D]
      {{1, 4, 3, 8}, {96, 8, 32, 1}, {4, 3, 8}, Dims{8, 32, 1}},          // they do with B = 1
      {{2, 3, 64}, {576, 192, 1}, {2, 3, 4, 16}, Dims{576, 192, 16, 1}},  // a slice splits into heads
      {{2, 3, 64}, {576, 192, 1}, {6, 64}, Dims{192, 1}},                 // B and T of a slice do merge
      {{3, 2}, {1, 3}, {6}, std::nullopt},                                // a transposed matrix
      {{}, {}, {1}, Dims{1}},
  };
  for (const ViewCase& c : cases) EXPECT_EQ(ViewStrides(c.sizes, c.strides, c.to), c.expected);
}

std::vector<Layout> Operands(std::initializer_list<Layout> layouts) { return layouts; }

TEST(Elementwise, OneLayoutForAllIsKept) {
  const Layout heads = {{2, 4, 3, 8}, {96, 8, 32, 1}};
  EXPECT_EQ(ElementwiseLayout(Operands({heads, heads})).strides, heads.strides);
}

TEST(Elementwise, ABroadcastOperandHasNoSay) {
  // q [B, H, T, D] stored [B, T, H, D] times cos [1, 1, T, D]: the result is stored like q.
  const Layout q = {{2, 4, 3, 8}, {96, 8, 32, 1}};
  const Layout cos = {{1, 1, 3, 8}, {24, 24, 8, 1}};
  EXPECT_EQ(ElementwiseLayout(Operands({q, cos})).strides, q.strides);
  EXPECT_EQ(ElementwiseLayout(Operands({q, cos})).sizes, q.sizes);
}

TEST(Elementwise, TheFirstOperandDecidesBetweenLayouts) {
  const Layout row = {{3, 4}, {4, 1}};
  const Layout column = {{3, 4}, {1, 3}};
  EXPECT_EQ(ElementwiseLayout(Operands({row, column})).strides, row.strides);
  EXPECT_EQ(ElementwiseLayout(Operands({column, row})).strides, column.strides);
}

TEST(Elementwise, MissingLeadingDimensionsAreBroadcast) {
  const Layout x = {{2, 3, 4}, {12, 4, 1}};
  const Layout position = {{3, 4}, {4, 1}};
  EXPECT_EQ(ElementwiseLayout(Operands({x, position})).sizes, x.sizes);
}

}  // namespace
}  // namespace tidemark
