// The staging of reductions on an RTX 4070 (46 multiprocessors of 1536 threads): figures measured on PyTorch 2.14.1.
#include <gtest/gtest.h>

#include "graph/op.h"

namespace tidemark {
namespace {

TensorInfo Matrix(int64_t rows, int64_t columns) {
  return {StorageId(), DType::kFloat32, 0, {rows, columns}, {columns, 1}};
}

struct Case {
  int64_t rows, columns;
  int64_t staging, semaphores;
};

TEST(Reduction, ColumnSumsStageWhatTheirBlocksCannotFinish) {
  const DeviceSpec rtx4070;
  const Case cases[] = {
      // 4 B * 384 outputs * 128 parts * 32 lanes * 4 outputs a lane = 24 MiB; 3 blocks across, 4 B each.
      {8192, 384, 4 * 384 * 128 * 32 * 4, 12},
      {8192, 1536, 36'175'872, 48},
      {1024, 128, 1 << 20, 4},
      {64, 128, 0, 0},  // few rows: one block does it
      {64, 4096, 0, 0},
      {65536, 4096, int64_t{128} << 20, 128},
  };
  for (const Case& c : cases) {
    const ReductionScratch scratch = ScratchOfReduction(Matrix(c.rows, c.columns), {1, c.columns}, rtx4070);
    EXPECT_EQ(scratch.staging, Bytes(c.staging)) << c.rows << " x " << c.columns;
    EXPECT_EQ(scratch.semaphores, Bytes(c.semaphores)) << c.rows << " x " << c.columns;
  }
}

TEST(Reduction, RowMeansNeedNoStaging) {
  EXPECT_EQ(ScratchOfReduction(Matrix(64, 4096), {64, 1}, DeviceSpec()).staging, Bytes());
}

TEST(Reduction, AFullSumStagesOneNumberAPart) {
  const auto staging_of = [](int64_t n) {
    const TensorInfo vector = {StorageId(), DType::kFloat32, 0, {n}, {1}};
    return ScratchOfReduction(vector, {}, DeviceSpec()).staging;
  };
  EXPECT_EQ(staging_of(1'000'000), Bytes(4 * 123));  // ceil(ceil(10^6 / 512) / 16) parts: 16 values a thread
  EXPECT_EQ(staging_of(1'200'000), Bytes(4 * 138));  // 46 multiprocessors, 3 blocks of 512 threads each
}

TEST(Reduction, ResidentThreadsDecideHowManyParts) {
  DeviceSpec a100;
  a100.compute_capability = 80;
  a100.multiprocessors = 108;
  a100.threads_per_multiprocessor = 1536;
  const Bytes fewer = ScratchOfReduction(Matrix(16384, 1152), {1, 1152}, a100).staging;
  a100.threads_per_multiprocessor = 2048;
  EXPECT_GT(ScratchOfReduction(Matrix(16384, 1152), {1, 1152}, a100).staging, fewer);
}

}  // namespace
}  // namespace tidemark
