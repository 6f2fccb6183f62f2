#include "tools/formats/snapshot_replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/tape_marks.h"

namespace tidemark {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using namespace literals;

constexpr int64_t kBase = 0x100000000;

TraceEntry Entry(TraceAction action, int64_t offset, Bytes size) {
  TraceEntry entry;
  entry.action = action;
  entry.address = kBase + offset;
  entry.size = size.count();
  return entry;
}
TraceEntry Alloc(Bytes offset, Bytes size) { return Entry(TraceAction::kAlloc, offset.count(), size); }
TraceEntry Free(Bytes offset, Bytes size) { return Entry(TraceAction::kFreeCompleted, offset.count(), size); }

SnapshotBlock Used(Bytes size, Bytes requested) { return {size, requested, SnapshotBlockState::kAllocated, 0}; }
SnapshotBlock Hole(Bytes size) { return {size, Bytes(0), SnapshotBlockState::kInactive, 0}; }

SnapshotSegment Segment(Bytes size, bool large, std::vector<SnapshotBlock> blocks) {
  SnapshotSegment segment;
  segment.address = kBase;
  segment.size = size;
  segment.large = large;
  segment.blocks = std::move(blocks);
  return segment;
}

std::string Check(const SnapshotReplay& recorded) {
  AddressCheck check(recorded);
  ReplayOptions options;
  options.allocator.initial = &recorded.initial;
  options.observers.push_back(&check);
  const Result<Replay> replay = RunReplay(recorded.tape, options);
  if (!replay.ok()) return replay.error().message;
  return std::to_string(check.equal()) + " of " + std::to_string(check.compared()) + check.first_difference();
}

// at the end     | a 1 KiB |        hole        |        the trace: b was freed, then a was allocated in its place
// at the start   | b 512 |         hole         |
TEST(SnapshotReplay, AnUndoneFreeIsABlockAndAnUndoneAllocAHole) {
  Snapshot snapshot;
  snapshot.stacks = {""};
  snapshot.segments = {Segment(2_MiB, false, {Used(1_KiB, 1000_B), Hole(2_MiB - 1_KiB)})};
  snapshot.trace = {Free(0_B, 400_B), Alloc(0_B, 1000_B)};
  const SnapshotReplay recorded = ReplayOf(snapshot);
  ASSERT_EQ(recorded.initial.segments.size(), 1U);
  EXPECT_THAT(recorded.initial.segments[0].blocks, ElementsAre(InitialBlock{512_B, 400_B, AllocationId(0)},
                                                               InitialBlock{2_MiB - 512_B, 0_B, AllocationId()}));
  EXPECT_THAT(recorded.notes, IsEmpty());
  EXPECT_EQ(Check(recorded), "1 of 1");
}

// Large blocks keep a rest of up to 1 MiB, so a freed block that had one was larger than its request.
TEST(SnapshotReplay, ABlockIncludesTheRestThatWasTooSmallToSplitOff) {
  Snapshot snapshot;
  snapshot.stacks = {""};
  snapshot.segments = {Segment(20_MiB, true, {Hole(20_MiB)})};
  snapshot.trace = {Alloc(0_B, 19_MiB), Free(0_B, 19_MiB), Alloc(0_B, 19_MiB - 512_B), Free(0_B, 19_MiB - 512_B)};
  const SnapshotReplay recorded = ReplayOf(snapshot);
  EXPECT_THAT(recorded.initial.segments[0].blocks, ElementsAre(InitialBlock{20_MiB, 0_B, AllocationId()}));
  EXPECT_EQ(Check(recorded), "2 of 2");
}

TEST(SnapshotReplay, SegmentsOfTheTraceTakeTheirRecordedAddresses) {
  Snapshot snapshot;
  snapshot.stacks = {""};
  snapshot.segments = {Segment(2_MiB, false, {Used(512_B, 512_B), Hole(2_MiB - 512_B)})};
  snapshot.trace = {Entry(TraceAction::kSegmentAlloc, 0, 2_MiB), Alloc(0_B, 512_B)};
  const SnapshotReplay recorded = ReplayOf(snapshot);
  EXPECT_THAT(recorded.initial.segments, IsEmpty());
  EXPECT_THAT(recorded.initial.later_addresses, ElementsAre(kBase));
  EXPECT_EQ(Check(recorded), "1 of 1");
}

TEST(SnapshotReplay, SegmentsGivenBackAreAnEmptyCache) {
  Snapshot snapshot;
  snapshot.stacks = {""};
  snapshot.trace = {Entry(TraceAction::kSegmentAlloc, 0, 2_MiB), Alloc(0_B, 512_B), Free(0_B, 512_B),
                    Entry(TraceAction::kSegmentFree, 0, 2_MiB)};
  const SnapshotReplay recorded = ReplayOf(snapshot);
  ASSERT_EQ(recorded.tape.events.size(), 3U);
  EXPECT_EQ(recorded.tape.events[2].kind, EventKind::kEmptyCache);
  EXPECT_EQ(Check(recorded), "1 of 1");
}

TEST(SnapshotReplay, WhatDoesNotFitIsCounted) {
  Snapshot snapshot;
  snapshot.stacks = {""};
  snapshot.segments = {Segment(2_MiB, false, {Hole(2_MiB)})};
  snapshot.trace = {Alloc(4_MiB, 512_B), Free(6_MiB, 512_B)};
  const SnapshotReplay recorded = ReplayOf(snapshot);
  EXPECT_THAT(recorded.notes, ElementsAre("2 events of the trace don't fit its segments"));
}

TEST(SnapshotReplay, PrivatePoolsAreLeftOut) {
  Snapshot snapshot;
  snapshot.stacks = {""};
  snapshot.segments = {Segment(2_MiB, false, {Used(512_B, 512_B), Hole(2_MiB - 512_B)})};
  snapshot.segments[0].private_pool = true;
  snapshot.trace = {Alloc(0_B, 512_B)};
  snapshot.trace[0].private_pool = true;
  const SnapshotReplay recorded = ReplayOf(snapshot);
  EXPECT_THAT(recorded.initial.segments, IsEmpty());
  EXPECT_THAT(recorded.notes, ElementsAre("1 events of private pools are left out"));
}

TEST(TapeMarks, PhasesAndTensorsAreReadBack) {
  const Moment moment = ParsePhase("evaluation step=2 batch=1");
  EXPECT_EQ(moment, (Moment{.phase = "evaluation", .step = 2, .micro_step = -1, .batch = 1, .op = ""}));
  EXPECT_EQ(DescribeMoment(moment), "evaluation of step 2, batch 1");
  EXPECT_EQ(DescribeMoment(ParsePhase("backward step=0 micro=3")), "backward of step 0, micro-step 3");
  EXPECT_EQ(DescribeMoment(ParsePhase("model")), "model");
  const TensorText tensor = ParseTensorText("gradient h.0.ln_1.weight float32[384,2]");
  EXPECT_EQ(tensor.category, "gradient");
  EXPECT_EQ(tensor.name, "h.0.ln_1.weight");
  EXPECT_EQ(tensor.dtype, "float32");
  EXPECT_THAT(tensor.shape, ElementsAre(384, 2));
  EXPECT_EQ(ParseTensorText("output loss float32[]").dtype, "float32");
  EXPECT_EQ(ParseTensorText("just words [here").dtype, "");
}

TEST(TapeMarks, PhasesCoverTheTape) {
  Tape tape;
  tape.events.resize(10);
  const TextId model = tape.texts.Add("model");
  const TextId forward = tape.texts.Add("forward step=0 micro=0");
  tape.marks = {{2, MarkKind::kPhase, model}, {5, MarkKind::kPhase, forward}};
  const std::vector<PhaseRange> phases = PhasesOf(tape);
  ASSERT_EQ(phases.size(), 3U);
  EXPECT_EQ(phases[0].end, 2U);
  EXPECT_EQ(phases[1].begin, 2U);
  EXPECT_EQ(phases[1].end, 5U);
  EXPECT_EQ(phases[2].end, 10U);
  EXPECT_EQ(phases[2].at.phase, "forward");
  EXPECT_EQ(PhasesOf(Tape()).size(), 1U);
}

}  // namespace
}  // namespace tidemark
