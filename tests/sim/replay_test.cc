#include "sim/replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "sim/check_placement.h"
#include "tests/support/tapes.h"

namespace tidemark {
namespace {

using namespace literals;

Replay Replayed(const Tape& tape, const ReplayOptions& options = {}) {
  Result<Replay> replay = RunReplay(tape, options);
  EXPECT_TRUE(replay.ok()) << (replay.ok() ? "" : replay.error().message);
  return replay.ok() ? *std::move(replay) : Replay{};
}

// reserved:   2   2   2  32 MiB       The reset forgets nothing that a replay keeps.
TEST(RunReplay, PeaksNameTheFirstEventThatReachedThem) {
  const Tape tape = TapeOf("a 0 1000\na 1 1000\nf 0\nr\na 2 31457280\nf 2\na 3 31457280\n");
  const Replay replay = Replayed(tape);
  EXPECT_EQ(replay.requested, (Peak{31457280_B + 1000_B, 4}));
  EXPECT_EQ(replay.allocated, (Peak{30_MiB + 1024_B, 4}));
  EXPECT_EQ(replay.reserved, (Peak{32_MiB, 4}));
  EXPECT_EQ(replay.events, 7u);
  EXPECT_EQ(LiveBytesPeak(tape), (Peak{31457280_B + 1000_B, 4}));
}

TEST(RunReplay, FailuresAreFindingsAndTheTapeGoesOn) {
  const Tape tape = TapeOf("a 0 1048576000\na 1 1048576000\nf 1\na 2 1000\n");
  ReplayOptions options;
  options.allocator.device_memory = 1500_MiB;
  Replay replay = Replayed(tape, options);
  ASSERT_EQ(replay.out_of_memory.size(), 1u);
  EXPECT_EQ(replay.out_of_memory[0].event, 1u);
  EXPECT_EQ(replay.out_of_memory[0].allocation, AllocationId(1));
  EXPECT_EQ(replay.out_of_memory[0].requested, 1000_MiB);
  EXPECT_EQ(replay.events, 4u);
  options.stop_at_out_of_memory = true;
  replay = Replayed(tape, options);
  EXPECT_EQ(replay.events, 2u);
  EXPECT_EQ(replay.failures, 1);
}

TEST(RunReplay, AStreamedTapeGivesTheSameReplay) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Tape tape = RandomTape({.events = 4000, .seed = seed, .streams = 3, .empty = 0.01, .pools = 0.01});
    ReplayOptions options;
    options.allocator.device_memory = 3_GiB;
    const std::string text = TapeText(tape);
    TapeReader reader = TapeReader::FromBuffer("x", text);
    // The text has no allocation ids: they are the only difference.
    Result<Replay> streamed = RunReplay(reader, options);
    ASSERT_TRUE(streamed.ok()) << streamed.error().message;
    Replay whole = Replayed(tape, options);
    for (OutOfMemory& failure : whole.out_of_memory) failure.allocation = {};
    EXPECT_EQ(*streamed, whole);
  }
}

TEST(RunReplay, StreamedTapesCheckTheirIds) {
  const auto error = [](std::string_view text) {
    TapeReader reader = TapeReader::FromBuffer("x", text);
    const Result<Replay> replay = RunReplay(reader, {});
    return replay.ok() ? "no error" : replay.error().message;
  };
  EXPECT_EQ(error("a 1 2\nf 1\na 1 2\n"), "x:3: ID 1 was allocated before: IDs are never used again");
  EXPECT_EQ(error("a 1 2\nf 1\nf 1\n"), "x:3: ID 1 isn't allocated here");
  EXPECT_EQ(error("a 1 2\nf 2\n"), "x:2: ID 2 isn't allocated here");
}

TEST(RunReplay, EventsThatPyTorchCannotDoAreErrors) {
  const Result<Replay> replay = RunReplay(TapeOf("B 1\nE 1\nR 1\nR 1\n"), {});
  ASSERT_FALSE(replay.ok());
  EXPECT_NE(replay.error().message.find("has no user that could go"), std::string::npos);
}

// segment 0 (20 MiB): | a 5 MiB | free 5 MiB | c 8 MiB | free 2 MiB |
TEST(StateAt, TellsWhoIsAliveAndWhoPinsWhat) {
  const Tape tape = TapeOf("a 0 5242880\na 1 5242880\na 2 8388600\nf 1\nf 0\n");
  const Result<MemoryState> state = StateAt(tape, {}, 3);
  ASSERT_TRUE(state.ok());
  ASSERT_EQ(state->live.size(), 2u);
  EXPECT_EQ(state->live[0], (LiveBlock{AllocationId(0), 5_MiB, 5_MiB, 0, 0_B, false}));
  EXPECT_EQ(state->live[1], (LiveBlock{AllocationId(2), 8388600_B, 8_MiB, 0, 10_MiB, false}));
  const Fragmentation f = MeasureFragmentation(*state);
  EXPECT_EQ(f.rounding, 8_B);
  EXPECT_EQ(f.cached_free, 7_MiB);
  EXPECT_EQ(f.largest_free, 5_MiB);
  EXPECT_EQ(f.inactive_split, 7_MiB);
  EXPECT_EQ(f.free_whole, 0_B);
  EXPECT_EQ(f.free_blocks, 2);
  ASSERT_EQ(f.pinned.size(), 1u);
  EXPECT_EQ(f.pinned[0], (PinnedSegment{0, 20_MiB, 13_MiB, state->live}));
}

TEST(StateAt, BlocksThatWaitForAnotherStreamArePending) {
  AllocatorOptions options;
  options.events = EventTiming::kLazy;
  const Result<MemoryState> state = StateAt(TapeOf("a 0 512\ns 0 1\nf 0\na 1 512\n"), options, 3);
  ASSERT_TRUE(state.ok());
  ASSERT_EQ(state->live.size(), 2u);
  EXPECT_TRUE(state->live[0].pending);
  EXPECT_EQ(state->live[0].allocation, AllocationId(0));
  EXPECT_FALSE(state->live[1].pending);
}

int64_t StatisticOf(const Replay& replay, const std::string& key) {
  const auto found = std::ranges::find(replay.statistics, key, &Statistic::key);
  EXPECT_NE(found, replay.statistics.end()) << key;
  return found == replay.statistics.end() ? 0 : found->value;
}

// Checks a running replay against what must always hold.
class Auditor final : public ReplayObserver {
 public:
  void OnEvent(const Observation& o) override {
    EXPECT_LE(o.usage.requested, o.usage.active);
    EXPECT_LE(o.usage.allocated, o.usage.active);
    EXPECT_LE(o.usage.active + o.usage.inactive_split, o.usage.reserved);
    if (o.outcome == AllocateOutcome::kPlaced && o.kind == EventKind::kAlloc)
      highest_ = std::max(highest_, o.usage.allocated);
  }
  Bytes highest() const { return highest_; }

 private:
  Bytes highest_;
};

struct Setting {
  const char* conf;
  Bytes memory;
  EventTiming events;
};

class EverySetting : public testing::TestWithParam<Setting> {};

TEST_P(EverySetting, KeepsLiveBlocksApartAndItsBooksInOrder) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << ", conf " << GetParam().conf);
    const bool expandable = std::string(GetParam().conf).find("expandable") != std::string::npos;
    const TapeShape shape{.events = 1500,
                          .seed = seed,
                          .streams = seed % 3 == 0 ? 3 : 1,
                          .live = 1_GiB,
                          .largest = 300_MiB,
                          .empty = 0.01,
                          .synchronize = 0.01,
                          .pools = seed % 4 == 0 ? 0.03 : 0,
                          .release_pools = !expandable};
    const Tape tape = seed % 2 == 0 ? RandomTape(shape) : NestedTape(shape);
    PlacementRecorder recorder;
    Auditor auditor;
    ReplayOptions options;
    options.allocator.conf = GetParam().conf;
    options.allocator.device_memory = GetParam().memory;
    options.allocator.events = GetParam().events;
    options.observers = {&recorder, &auditor};
    const Replay replay = Replayed(tape, options);
    const Status check = CheckPlacement(std::move(recorder).Finish(), {.alignment = 512_B});
    EXPECT_TRUE(check.ok()) << (check.ok() ? "" : check.error().message);
    EXPECT_EQ(replay.allocated.bytes, auditor.highest());
    for (const char* name :
         {"allocated_bytes", "active_bytes", "requested_bytes", "reserved_bytes", "inactive_split_bytes"}) {
      const std::string n = name;
      EXPECT_EQ(StatisticOf(replay, n + ".all.allocated") - StatisticOf(replay, n + ".all.freed"),
                StatisticOf(replay, n + ".all.current"));
      EXPECT_EQ(StatisticOf(replay, n + ".small_pool.current") + StatisticOf(replay, n + ".large_pool.current"),
                StatisticOf(replay, n + ".all.current"));
    }
    // Without an observer: the same.
    options.observers.clear();
    EXPECT_EQ(Replayed(tape, options), replay);
    // The segments add up to what is reserved.
    const Result<MemoryState> state = StateAt(tape, options.allocator, 1499);
    ASSERT_TRUE(state.ok());
    Bytes reserved;
    Bytes live;
    for (const SegmentView& segment : state->segments) {
      Bytes sum;
      for (const BlockView& block : segment.blocks) sum += block.size;
      EXPECT_EQ(sum, segment.size);
      reserved += segment.size;
    }
    for (const LiveBlock& block : state->live) live += block.block;
    EXPECT_EQ(reserved, state->usage.reserved);
    EXPECT_EQ(live, state->usage.active);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, EverySetting,
    testing::Values(Setting{"", 80_GiB, EventTiming::kAtOnce}, Setting{"", 1200_MiB, EventTiming::kLazy},
                    Setting{"max_split_size_mb:64,max_non_split_rounding_mb:30", 1500_MiB, EventTiming::kLazy},
                    Setting{"roundup_power2_divisions:[1:4,16:2,>:8],garbage_collection_threshold:0.6,"
                            "per_process_memory_fraction:0.8",
                            2_GiB, EventTiming::kAtOnce},
                    Setting{"expandable_segments:True", 1300_MiB, EventTiming::kLazy},
                    Setting{"expandable_segments:True,max_split_size_mb:100,garbage_collection_threshold:0.5,"
                            "per_process_memory_fraction:0.9,throw_on_cudamalloc_oom:True",
                            2_GiB, EventTiming::kAtOnce}));

}  // namespace
}  // namespace tidemark
