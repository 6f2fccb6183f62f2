#include "kernels/placed_tape.h"

#include <gtest/gtest.h>

#include "tests/support/tapes.h"

namespace tidemark {
namespace {

using namespace literals;

// Three blocks of 20 MiB; the first goes, and with it the memory under it; 30 MiB then lie behind the third.
TEST(PlacedTape, KnowsAnExpandableSegmentWithAGap) {
  const char* text = "a 0 20971520\na 1 20971520\na 2 20971520\nf 0\ne\na 3 31457280\n";
  const Result<PlacedTape> placed = Place(TapeOf(text), {.conf = "expandable_segments:True", .device_memory = 1_GiB});
  ASSERT_TRUE(placed.ok()) << placed.error().message;
  ASSERT_EQ(placed->segments.size(), 1U);
  EXPECT_TRUE(placed->segments[0].expandable);
  EXPECT_EQ(placed->segments[0].most, 90_MiB);  // 60 before, and the block of 30 behind them
  EXPECT_TRUE(placed->has_gaps);
  EXPECT_EQ(
      placed->segment_changes,
      (std::vector<SegmentChange>{{0, 0, 20_MiB}, {1, 0, 40_MiB}, {2, 0, 60_MiB}, {4, 0, 40_MiB}, {5, 0, 80_MiB}}));
}

TEST(PlacedTape, ASegmentThatStaysAsItIsHasNone) {
  const Result<PlacedTape> placed = Place(TapeOf("a 0 20971520\nf 0\na 1 1000\n"), {.device_memory = 1_GiB});
  ASSERT_TRUE(placed.ok()) << placed.error().message;
  ASSERT_EQ(placed->segments.size(), 2U);
  EXPECT_FALSE(placed->segments[0].expandable);
  EXPECT_EQ(placed->segments[0].most, 20_MiB);
  EXPECT_EQ(placed->segments[1].most, 2_MiB);
  EXPECT_FALSE(placed->has_gaps);
}

}  // namespace
}  // namespace tidemark
