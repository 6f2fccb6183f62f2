#include "kernels/number.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/host/elements.h"
#include "tests/support/tapes.h"

namespace tidemark {
namespace {

TEST(Number, EveryFloat16SurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float value = FloatOfFloat16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(FloatOfFloat16(Float16Of(value))));
    } else {
      EXPECT_EQ(Float16Of(value), bits);
    }
  }
}

TEST(Number, Float16RoundsToTheNearestAndTiesToEven) {
  EXPECT_EQ(Float16Of(1.0F), 0x3c00);
  EXPECT_EQ(Float16Of(1.0F + 0x1p-11F), 0x3c00);      // a tie: down to even
  EXPECT_EQ(Float16Of(1.0F + 3 * 0x1p-11F), 0x3c02);  // a tie: up to even
  EXPECT_EQ(Float16Of(1.0F + 0x1.004p-11F), 0x3c01);  // just above
  EXPECT_EQ(Float16Of(65519.0F), 0x7bff);             // the largest
  EXPECT_EQ(Float16Of(65520.0F), 0x7c00);             // infinity
  EXPECT_EQ(Float16Of(0x1p-24F), 0x0001);             // the smallest
  EXPECT_EQ(Float16Of(0x1p-25F), 0x0000);             // a tie with zero
  EXPECT_EQ(Float16Of(-std::numeric_limits<float>::infinity()), 0xfc00);
}

TEST(Number, Bfloat16RoundsToTheNearestAndTiesToEven) {
  EXPECT_EQ(Bfloat16Of(1.0F), 0x3f80);
  EXPECT_EQ(Bfloat16Of(1.0F + 0x1p-8F), 0x3f80);
  EXPECT_EQ(Bfloat16Of(1.0F + 3 * 0x1p-8F), 0x3f82);
  EXPECT_EQ(Bfloat16Of(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(std::isnan(FloatOfBfloat16(Bfloat16Of(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(Number, IntegersAreTheNearestThatTheFormatHas) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(IntegerOf<int64_t>(-kInfinity), std::numeric_limits<int64_t>::lowest());
  EXPECT_EQ(IntegerOf<int64_t>(kInfinity), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(IntegerOf<int64_t>(0x1p63), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(IntegerOf<int64_t>(0x1p63 - 1024), (int64_t{1} << 62) - 512 + ((int64_t{1} << 62) - 512));
  EXPECT_EQ(IntegerOf<int64_t>(-0x1p63), std::numeric_limits<int64_t>::lowest());
  EXPECT_EQ(IntegerOf<int64_t>(std::nan("")), std::numeric_limits<int64_t>::lowest());
  EXPECT_EQ(IntegerOf<int32_t>(-2.75F), -2);
  EXPECT_EQ(IntegerOf<int32_t>(0x1p31F), std::numeric_limits<int32_t>::max());
  EXPECT_EQ(IntegerOf<uint8_t>(255.5), 255);
  EXPECT_EQ(IntegerOf<uint8_t>(256.0), 255);
  EXPECT_EQ(IntegerOf<uint8_t>(-1.0), 0);
  EXPECT_EQ(IntegerOf<uint64_t>(0x1p64), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(IntegerOf<int64_t>(int64_t{-7}), -7);
}

TEST(Number, ThePoisonIsANaNInEachFloatingFormat) {
  std::array<std::byte, 8> poison;
  poison.fill(std::byte{0xff});
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64}) {
    EXPECT_TRUE(std::isnan(LoadNumber(dtype, poison.data())));
  }
}

TEST(Number, RunsGiveTheSameBitsAsSingleNumbers) {
  Random random(7);
  std::vector<float> values(1003);
  for (float& v : values) v = std::bit_cast<float>(static_cast<uint32_t>(random.Next()));
  for (size_t i = 0; i < 100; ++i) values[i] = static_cast<float>(i) * 0x1p-26F;
  std::vector<uint16_t> halves(values.size());
  host::Float16sOf(values.data(), static_cast<int64_t>(values.size()), halves.data());
  std::vector<float> back(values.size());
  host::FloatsOfFloat16s(halves.data(), static_cast<int64_t>(halves.size()), back.data());
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) {
      EXPECT_TRUE(std::isnan(back[i]));
      continue;
    }
    EXPECT_EQ(halves[i], Float16Of(values[i])) << values[i];
    EXPECT_EQ(std::bit_cast<uint32_t>(back[i]), std::bit_cast<uint32_t>(FloatOfFloat16(halves[i])));
  }
}

}  // namespace
}  // namespace tidemark
