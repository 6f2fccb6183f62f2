#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tools/compare/variants.h"
#include "tools/formats/files.h"

namespace tidemark {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(SplitSettings, SplitsAtCommasOutsideOfBracketsAndQuotes) {
  EXPECT_THAT(SplitSettings("a=1,b=2"), ElementsAre("a=1", "b=2"));
  EXPECT_THAT(SplitSettings("passes=[{recompute: {policy: selective, ops: [gelu, add]}}],a=1"),
              ElementsAre("passes=[{recompute: {policy: selective, ops: [gelu, add]}}]", "a=1"));
  EXPECT_THAT(SplitSettings("allocator.conf=\"a:1,b:2\""), ElementsAre("allocator.conf=\"a:1,b:2\""));
  EXPECT_THAT(SplitSettings(""), ElementsAre());
}

VariantTable Compare(const std::vector<std::string>& settings) {
  const std::string path = TIDEMARK_SOURCE_DIR "/configs/runs/nanogpt-30m-rtx4070-eager.yaml";
  std::vector<std::string> notes;
  const std::vector<std::string> overrides = {"training.steps=7"};  // as many as were recorded
  Result<VariantTable> table = CompareVariants(*ReadFile(path), path, overrides, settings, false, notes);
  EXPECT_TRUE(table.ok()) << table.error().message;
  return *std::move(table);
}

struct Recorded {
  const char* settings;
  int allocated_mib, reserved_mib, process_mib;
  bool fits = true;
};

// PyTorch 2.14 under a phantom GPU, nanoGPT's train.py: rounded to MiB; process: reserved and 200 MiB.
constexpr Recorded kRecorded[] = {
    {"training.micro_batch=8", 3238, 4196, 4396},
    {"training.sequence=256,model.context=256", 3236, 4194, 4394},
    {"training.gradient_accumulation=8", 5924, 8182, 8382},
    {"training.gradient_accumulation=8,training.micro_batch=8", 3238, 4196, 4396},
    {"passes.recompute.policy=full", 5322, 6610, 6810},
    {"training.micro_batch=8,training.sequence=256,model.context=256,training.gradient_accumulation=8,"
     "passes.recompute.policy=full",
     1722, 2208, 2408},
    {"training.precision=fp32", 7944, 8208, 8408},
    {"allocator.conf=expandable_segments:True", 5917, 7328, 7528},
    {"training.micro_batch=32", 11305, 12968, 13168, false},
    {"model.dropout=0.2", 5967, 8182, 8382},
    {"training.evaluation=null", 5926, 7196, 7396},
};

TEST(Compare, GivesTheRecordedFigures) {
  std::vector<std::string> settings;
  for (const Recorded& row : kRecorded) settings.emplace_back(row.settings);
  const VariantTable table = Compare(settings);
  const auto mib = [](Bytes bytes) { return static_cast<int>(bytes / kMiB + 0.5); };
  EXPECT_EQ(mib(table.base.report.allocated_peak), 5924);
  EXPECT_EQ(mib(table.base.report.reserved_peak), 8182);
  ASSERT_EQ(table.variants.size(), std::size(kRecorded));
  for (size_t i = 0; i < std::size(kRecorded); ++i) {
    SCOPED_TRACE(kRecorded[i].settings);
    const Report& report = table.variants[i].report;
    // 11305.45 was rounded down.
    EXPECT_NEAR(report.allocated_peak / kMiB, kRecorded[i].allocated_mib, 0.51);
    EXPECT_EQ(mib(report.reserved_peak), kRecorded[i].reserved_mib);
    EXPECT_EQ(mib(report.process_peak.value), kRecorded[i].process_mib);
    EXPECT_EQ(report.fits, kRecorded[i].fits);
  }
}

TEST(Compare, SaysWhyMoreMicroStepsChangeNothing) {
  const VariantTable table = Compare({"training.gradient_accumulation=8"});
  EXPECT_THAT(table.variants[0].explanation, HasSubstr("a micro-step still runs 16 sequences"));
}

TEST(Compare, SaysWhatBlocksOfCheckpointsLeaveUntouched) {
  const VariantTable table = Compare({"passes.recompute.policy=full"});
  EXPECT_THAT(table.variants[0].explanation, HasSubstr("it stays at NllLossBackward0"));
}

TEST(Compare, SaysThatOnlyThePackingChanged) {
  const VariantTable table = Compare({"training.evaluation=null"});
  EXPECT_THAT(table.variants[0].explanation, HasSubstr("what changes is the packing: reserved -986 MiB"));
}

TEST(Compare, KeepsTheMessageOfAVariantThatDoesNotFit) {
  const VariantTable table = Compare({"training.micro_batch=32"});
  ASSERT_TRUE(table.variants[0].report.out_of_memory.has_value());
  EXPECT_THAT(table.variants[0].report.out_of_memory->message, HasSubstr("Tried to allocate 3.07 GiB"));
}

TEST(Compare, NamesTheSettingThatMeansNothing) {
  std::vector<std::string> notes;
  const std::vector<std::string> settings = {"training.micro_bach=8"};
  const Result<VariantTable> table = CompareVariants(*ReadFile(TIDEMARK_SOURCE_DIR "/configs/runs/nanogpt-tiny.yaml"),
                                                     "tiny", {}, settings, false, notes);
  ASSERT_FALSE(table.ok());
  EXPECT_THAT(table.error().message, HasSubstr("nearest: micro_batch"));
}

}  // namespace
}  // namespace tidemark
