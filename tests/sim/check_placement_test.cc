#include "sim/check_placement.h"

#include <gtest/gtest.h>

namespace tidemark {
namespace {

using namespace literals;

Placed At(size_t id, int64_t segment, Bytes offset, Bytes bytes, Interval alive) {
  return {AllocationId(id), segment, offset, bytes, alive};
}

// offset
//  1024 |     b b b
//   512 | a a   c c      c takes the place of a in the step in which a is gone.
//       +-0-1-2-3-4--> event
TEST(CheckPlacement, AcceptsNeighboursInSpaceAndTime) {
  const std::vector<Placed> placed = {At(0, 0, 512_B, 512_B, {0, 2}), At(1, 0, 1024_B, 512_B, {2, 5}),
                                      At(2, 0, 512_B, 512_B, {2, 5}), At(3, 1, 512_B, 512_B, {0, 5})};
  EXPECT_TRUE(CheckPlacement(placed, {.capacity = 1536_B, .alignment = 512_B}).ok());
}

TEST(CheckPlacement, RefusesOneSharedByte) {
  const std::vector<Placed> placed = {At(0, 0, 0_B, 513_B, {0, 2}), At(1, 0, 512_B, 512_B, {1, 5})};
  EXPECT_FALSE(CheckPlacement(placed, {}).ok());
}

TEST(CheckPlacement, RefusesOneSharedEvent) {
  const std::vector<Placed> placed = {At(0, 0, 0_B, 512_B, {0, 3}), At(1, 0, 0_B, 512_B, {2, 5})};
  EXPECT_FALSE(CheckPlacement(placed, {}).ok());
}

TEST(CheckPlacement, RefusesAByteAboveTheCapacity) {
  EXPECT_FALSE(CheckPlacement(std::vector{At(0, 0, 512_B, 513_B, {0, 1})}, {.capacity = 1024_B}).ok());
}

TEST(CheckPlacement, RefusesNegativeOffsets) {
  EXPECT_FALSE(CheckPlacement(std::vector{At(0, 0, Bytes(-1), 513_B, {0, 1})}, {}).ok());
}

TEST(CheckPlacement, RefusesAnOffsetThatIsNotAligned) {
  EXPECT_FALSE(CheckPlacement(std::vector{At(0, 0, 256_B, 512_B, {0, 1})}, {.alignment = 512_B}).ok());
}

}  // namespace
}  // namespace tidemark
