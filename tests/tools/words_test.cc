#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/config/size.h"
#include "tools/config/suggest.h"

namespace tidemark {
namespace {

using testing::HasSubstr;

TEST(EditDistance, CountsSwapsOnce) {
  EXPECT_EQ(EditDistance("", "abc"), 3U);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3U);
  EXPECT_EQ(EditDistance("adamw", "adawm"), 1U);
  EXPECT_EQ(EditDistance("flash", "flash"), 0U);
}

TEST(Nearest, IsNearEnoughToBeMeant) {
  const std::vector<std::string> known = {"micro_batch", "sequence", "steps", "adam", "adamw"};
  EXPECT_EQ(Nearest("micro_bach", known), "micro_batch");
  EXPECT_EQ(Nearest("adm", known), "adam");
  EXPECT_EQ(Nearest("seq", known), "sequence") << "one begins with the other";
  EXPECT_EQ(Nearest("zzz", known), "");
  EXPECT_EQ(Nearest("", known), "");
  EXPECT_EQ(Nearest(std::string(10000, 'a'), known), "");
  EXPECT_EQ(KnownWords("stps", known), "known: micro_batch, sequence, steps, adam, adamw; nearest: steps");
}

TEST(Size, HasBinaryAndDecimalUnits) {
  const auto bytes = [](std::string_view text, Bytes plain = kUnitRequired) {
    const Result<Bytes> size = ParseSize(text, plain);
    return size.ok() ? size->count() : -1;
  };
  EXPECT_EQ(bytes("12GiB"), int64_t{12} << 30);
  EXPECT_EQ(bytes("12282MiB"), int64_t{12282} << 20);
  EXPECT_EQ(bytes("1.5 KiB"), 1536);
  EXPECT_EQ(bytes("12GB"), 12'000'000'000);
  EXPECT_EQ(bytes("512B"), 512);
  EXPECT_EQ(bytes("0"), 0);
  EXPECT_EQ(bytes("7190", kMiB), int64_t{7190} << 20);
  for (const char* wrong : {"12", "GiB", "", "-1GiB", "1e3GiB", "nan", "inf", "12Gib", "99999999999GiB", "1 2GiB"}) {
    EXPECT_EQ(bytes(wrong), -1) << wrong;
  }
}

TEST(Size, PrintsAsPyTorchDoes) {
  EXPECT_EQ(FormatSize(Bytes(512)), "512 bytes");
  EXPECT_EQ(FormatSize(Bytes(1024)), "1024 bytes");
  EXPECT_EQ(FormatSize(kKiB * 20), "20.00 KiB");
  EXPECT_EQ(FormatSize(kMiB * 2), "2.00 MiB");
  EXPECT_EQ(FormatSize(kGiB), "1024.00 MiB");
  EXPECT_EQ(FormatSize(Bytes(1648361472)), "1.54 GiB");
}

}  // namespace
}  // namespace tidemark
