#include "sim/allocators/caching/rounding.h"

#include <gtest/gtest.h>

namespace tidemark::caching {
namespace {

constexpr int64_t kMi = int64_t{1} << 20;

TEST(Rounding, BlocksAndSegmentsOfTheDefault) {
  struct Case {
    int64_t request, block, segment;
  };
  const Settings settings;
  for (const Case& c : {Case{1, 512, 2 * kMi}, Case{512, 512, 2 * kMi}, Case{513, 1024, 2 * kMi},
                        Case{kMi, kMi, 2 * kMi}, Case{kMi + 1, kMi + 512, 20 * kMi},
                        Case{10 * kMi - 512, 10 * kMi - 512, 20 * kMi}, Case{10 * kMi - 511, 10 * kMi, 10 * kMi},
                        Case{10 * kMi + 1, 10 * kMi + 512, 12 * kMi}, Case{13 * kMi, 13 * kMi, 14 * kMi}}) {
    EXPECT_EQ(RoundSize(c.request, settings), c.block) << c.request;
    EXPECT_EQ(SegmentSize(c.block, settings), c.segment) << c.request;
  }
}

TEST(Rounding, PowerOfTwoDivisions) {
  struct Case {
    int64_t request;
    uint64_t divisions;
    int64_t block;
  };
  for (const Case& c : {Case{1200, 2, 1536}, Case{1200, 4, 1536}, Case{5242881, 2, 6291456}, Case{5242881, 4, 6291456},
                        Case{5242881, 8, 5767168}, Case{5242881, 16, 5505024}, Case{9 * kMi, 2, 12 * kMi},
                        Case{9 * kMi, 4, 10 * kMi}, Case{9 * kMi, 8, 9 * kMi}, Case{104857605, 2, 134217728},
                        Case{104857605, 4, 117440512}, Case{104857605, 8, 109051904}, Case{104857605, 16, 109051904},
                        Case{614400, 2, 786432}, Case{614400, 4, 655360}, Case{614400, 16, 622592}}) {
    Settings settings;
    settings.roundup_divisions.fill(c.divisions);
    EXPECT_EQ(RoundSize(c.request, settings), c.block) << c.request << " in " << c.divisions;
  }
}

TEST(Rounding, HugeDivisionsAreOff) {
  Settings settings;
  settings.roundup_divisions.fill(uint64_t{1} << 63);
  EXPECT_EQ(RoundSize(kTooLarge - 1, settings), kTooLarge);
}

}  // namespace
}  // namespace tidemark::caching
