// Every recording under tests/truth/steps: the traced and lowered run has the same events, and in the allocator's model
// the same peaks.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "graph/training/loop.h"
#include "sim/breakdown.h"
#include "sim/lower.h"
#include "sim/replay.h"
#include "tests/support/recording.h"

namespace tidemark {
namespace {

constexpr const char* kRecordings = TIDEMARK_TEST_DATA "/truth/steps";

class Recordings : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(Recordings, AreTracedEventByEvent) {
  const Result<Recording> recording = ReadRecording(GetParam());
  ASSERT_TRUE(recording.ok()) << recording.error().message;
  const Result<Graph> graph = TraceRun(recording->run);
  ASSERT_TRUE(graph.ok()) << graph.error().message;
  EXPECT_EQ(graph->parameters, recording->parameters);
  const Lowered lowered = Lower(*graph, recording->run.device);
  EXPECT_EQ(FirstDifference(recording->tape, lowered.tape), "");

  ReplayOptions options;
  options.allocator.conf = recording->run.allocator.conf;
  options.allocator.device_memory = recording->run.device.memory;
  const Result<Replay> replay = RunReplay(lowered.tape, options);
  ASSERT_TRUE(replay.ok()) << replay.error().message;
  EXPECT_EQ(replay->requested.bytes, recording->peak.requested);
  EXPECT_EQ(replay->allocated.bytes, recording->peak.allocated);
  EXPECT_EQ(replay->reserved.bytes, recording->peak.reserved);

  // Every byte at the peak belongs to a category, and every tensor has a name, an op and a reason to be there.
  const Result<MemoryState> state = StateAt(lowered.tape, options.allocator, replay->allocated.event);
  ASSERT_TRUE(state.ok()) << state.error().message;
  const Breakdown breakdown = BreakDown(*graph, lowered, *state);
  EXPECT_EQ(std::accumulate(breakdown.categories.begin(), breakdown.categories.end(), Bytes()),
            recording->peak.allocated);
  for (const LiveTensor& tensor : breakdown.tensors) {
    EXPECT_NE(tensor.tensor, "");
    EXPECT_NE(tensor.op, "") << tensor.tensor;
    EXPECT_NE(tensor.why, "") << tensor.tensor;
  }
}

INSTANTIATE_TEST_SUITE_P(Steps, Recordings, testing::ValuesIn(RecordingFolders(kRecordings)), [](const auto& folder) {
  std::string name = folder.param.filename();
  std::ranges::replace(name, '-', '_');
  std::ranges::replace(name, '.', '_');
  return name;
});

TEST(FirstDifferenceOf, NamesTheEventAndItsOp) {
  const std::filesystem::path folder = RecordingFolders(kRecordings).front();
  const Result<Recording> recording = ReadRecording(folder);
  ASSERT_TRUE(recording.ok()) << recording.error().message;
  Tape changed = recording->tape;
  const auto last = std::ranges::find_if(changed.events.rbegin(), changed.events.rend(),
                                         [](const Event& e) { return e.kind == EventKind::kAlloc; });
  last->bytes += Bytes(1);
  const std::string difference = FirstDifference(recording->tape, changed);
  EXPECT_NE(difference.find("allocates"), std::string::npos) << difference;
  EXPECT_NE(difference.find("step=1"), std::string::npos) << difference;
}

TEST(FirstDifferenceOf, OrderOfConsecutiveFreesDoesNotCount) {
  const Result<Recording> recording = ReadRecording(RecordingFolders(kRecordings).front());
  ASSERT_TRUE(recording.ok()) << recording.error().message;
  Tape changed = recording->tape;
  const auto both_free = [](const Event& a, const Event& b) {
    return a.kind == EventKind::kFree && b.kind == EventKind::kFree;
  };
  const auto pair = std::ranges::adjacent_find(changed.events, both_free);
  ASSERT_NE(pair, changed.events.end());
  std::iter_swap(pair, pair + 1);
  EXPECT_EQ(FirstDifference(recording->tape, changed), "");
}

}  // namespace
}  // namespace tidemark
