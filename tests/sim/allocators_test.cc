// Every policy of the table: what must hold for all of them, and what is particular to each.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "sim/check_placement.h"
#include "sim/replay.h"
#include "tests/support/tapes.h"

namespace tidemark {
namespace {

using namespace literals;

Replay Replayed(const Tape& tape, const AllocatorOptions& allocator, std::vector<Placed>* placed = nullptr) {
  PlacementRecorder recorder;
  ReplayOptions options;
  options.allocator = allocator;
  if (placed != nullptr) options.observers.push_back(&recorder);
  Result<Replay> replay = RunReplay(tape, options);
  EXPECT_TRUE(replay.ok()) << (replay.ok() ? "" : replay.error().message);
  if (placed != nullptr) *placed = std::move(recorder).Finish();
  return replay.ok() ? *std::move(replay) : Replay{};
}

class EveryAllocator : public testing::TestWithParam<std::string> {};

TEST_P(EveryAllocator, KeepsLiveBlocksApartAndStaysAboveTheLowerBound) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Tape tape = seed % 2 == 0 ? RandomTape({.events = 600, .seed = seed, .streams = seed % 4 == 0 ? 3 : 1})
                                    : TrainingTape({.events = 600, .seed = seed});
    std::vector<Placed> placed;
    const Replay replay = Replayed(tape, {.backend = GetParam()}, &placed);
    EXPECT_EQ(replay.failures, 0);
    EXPECT_GE(replay.reserved.bytes, LiveBytesPeak(tape).bytes);
    EXPECT_GE(replay.requested.bytes, LiveBytesPeak(tape).bytes);
    EXPECT_GE(replay.reserved.bytes, replay.allocated.bytes);
    if (GetParam() == "lower-bound") {
      EXPECT_EQ(replay.reserved.bytes, LiveBytesPeak(tape).bytes);
    } else {
      const Status check = CheckPlacement(placed, {.alignment = 256_B});
      EXPECT_TRUE(check.ok()) << check.error().message;
    }
  }
}

TEST_P(EveryAllocator, FailsWhereTheDeviceEndsAndGoesOn) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Tape tape =
        RandomTape({.events = 1000, .seed = seed, .streams = 2, .live = 1_GiB, .empty = 0.01, .synchronize = 0.01});
    std::vector<Placed> placed;
    const Replay replay = Replayed(
        tape,
        {.backend = GetParam(), .device_memory = 600_MiB, .process_overhead = 100_MiB, .events = EventTiming::kLazy},
        &placed);
    EXPECT_GT(replay.failures, 0);
    EXPECT_LE(replay.reserved.bytes, 500_MiB);
    EXPECT_EQ(replay.events, tape.events.size());
    if (GetParam() != "lower-bound") {
      EXPECT_TRUE(CheckPlacement(placed, {}).ok());
    }
  }
}

TEST_P(EveryAllocator, SegmentsAddUpToWhatIsReserved) {
  if (GetParam() == "lower-bound") GTEST_SKIP() << "has no segments";
  const Tape tape = RandomTape({.events = 500, .seed = 5});
  const Result<MemoryState> state = StateAt(tape, {.backend = GetParam()}, 400);
  ASSERT_TRUE(state.ok());
  Bytes reserved;
  Bytes live;
  for (const SegmentView& segment : state->segments) {
    for (const BlockView& block : segment.blocks) reserved += block.size;
  }
  for (const LiveBlock& block : state->live) live += block.requested;
  EXPECT_EQ(reserved, state->usage.reserved);
  EXPECT_EQ(live, state->usage.requested);
}

TEST_P(EveryAllocator, HasAllStatistics) {
  const Replay native = Replayed(Tape{}, {});
  const Replay replay = Replayed(Tape{}, {.backend = GetParam()});
  ASSERT_EQ(replay.statistics.size(), native.statistics.size());
  for (size_t k = 0; k < native.statistics.size(); ++k) EXPECT_EQ(replay.statistics[k].key, native.statistics[k].key);
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const AllocatorInfo& info : Allocators()) names.emplace_back(info.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, EveryAllocator, testing::ValuesIn(Names()), [](const auto& parameter) {
  std::string name = parameter.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

TEST(CudaMallocAsync, IsChosenByTheConfString) {
  const Replay replay = Replayed(TapeOf("a 0 1000\n"), {.conf = "backend:cudaMallocAsync"});
  EXPECT_EQ(replay.reserved.bytes, 32_MiB);
}

// 2 MiB, then twice as much each time; a request above that gets what it needs by doubling.
TEST(Bfc, RegionsDouble) {
  EXPECT_EQ(Replayed(TapeOf("a 0 100\n"), {.backend = "bfc"}).reserved.bytes, 2_MiB);
  EXPECT_EQ(Replayed(TapeOf("a 0 2097152\na 1 100\n"), {.backend = "bfc"}).reserved.bytes, 2_MiB + 4_MiB);
  EXPECT_EQ(Replayed(TapeOf("a 0 5000000\n"), {.backend = "bfc"}).reserved.bytes, 8_MiB);
}

// A chunk twice as large as needed is split; one of less than that is handed out whole.
TEST(Bfc, SplitsWhatIsTwiceAsLarge) {
  EXPECT_EQ(Replayed(TapeOf("a 0 1048576\n"), {.backend = "bfc"}).allocated.bytes, 1_MiB);
  EXPECT_EQ(Replayed(TapeOf("a 0 1048832\n"), {.backend = "bfc"}).allocated.bytes, 2_MiB);
}

TEST(Bump, UsesMemoryAgainOnceAllIsFree) {
  EXPECT_EQ(
      Replayed(TapeOf("a 0 512\na 1 512\nf 0\na 2 512\nf 1\nf 2\na 3 1024\n"), {.backend = "bump"}).reserved.bytes,
      1536_B);
}

// offset
//  1024 |   b b b
//     0 | a a   c c     Online c would go on top, if b were below it.
//       +-0-1-2-3-4--> event
TEST(Static, PlansBeforeTheFirstEvent) {
  const Tape tape = TapeOf("a 0 1024\na 1 1024\nf 0\na 2 1000\nf 1\nf 2\n");
  EXPECT_EQ(Replayed(tape, {.backend = "static"}).reserved, (Peak{2048_B, 0}));
}

TEST(Static, CannotBeStreamed) {
  TapeReader reader = TapeReader::FromBuffer("x", "a 0 1\n");
  ReplayOptions options;
  options.allocator.backend = "static";
  EXPECT_FALSE(RunReplay(reader, options).ok());
}

}  // namespace
}  // namespace tidemark
