// Every recording of a compiled run under tests/truth/compiled: the same events, the same peaks, the same saved
// tensors.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "graph/training/loop.h"
#include "passes/compile/compiled_model.h"
#include "sim/lower.h"
#include "sim/replay.h"
#include "sim/tape_io.h"
#include "tests/support/recording.h"
#include "tools/build_run.h"
#include "tools/config/run_file.h"

namespace tidemark {
namespace {

constexpr const char* kRecordings = TIDEMARK_TEST_DATA "/truth/compiled";
constexpr const char* kFirstRuns = TIDEMARK_TEST_DATA "/truth/compiled-first-run";

// "f16 4x64x64", one a saved tensor, graph by graph.
using SavedTensors = std::vector<std::string>;

// saved.txt: graph, number, name, dtype, shape, bytes, buffer. Numbers that backward gets aren't tensors.
SavedTensors RecordedTensors(const std::filesystem::path& folder) {
  SavedTensors saved;
  std::ifstream file(folder / "saved.txt");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string graph, number, name, dtype, shape;
    words >> graph >> number >> name >> dtype >> shape;
    if (graph.starts_with('#') || dtype.starts_with("Sym")) continue;
    saved.push_back(fmt::format("{} {}", dtype, shape));
  }
  return saved;
}

std::string ShapeText(const std::string& recorded, const Dims& sizes) {
  // A symbolic size, "s13", stands for what the graph was compiled for.
  std::string text;
  std::istringstream parts(recorded.substr(recorded.find(' ') + 1));
  int dim = 0;
  for (std::string part; std::getline(parts, part, 'x'); ++dim) {
    if (dim > 0) text += 'x';
    text += dim < sizes.size() && part.find('s') == std::string::npos ? std::to_string(sizes[dim]) : part;
  }
  return text;
}

std::string_view ShortName(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return "f16";
    case DType::kBFloat16:
      return "bf16";
    case DType::kInt64:
      return "i64";
    case DType::kUInt64:
      return "u64";
    case DType::kBool:
      return "b8";
    default:
      return "f32";
  }
}

// name -> requested, allocated and reserved bytes at the peak.
RecordedPeak PeakOf(const std::filesystem::path& folder) {
  const std::string recording = folder.filename();
  std::ifstream file(folder.parent_path() / "index.csv");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(recording + ",")) continue;
    std::istringstream cells(line);
    std::vector<int64_t> numbers;
    std::string cell;
    std::getline(cells, cell, ',');
    while (std::getline(cells, cell, ',')) numbers.push_back(std::stoll(cell));
    return {Bytes(numbers[2]), Bytes(numbers[3]), Bytes(numbers[5])};
  }
  ADD_FAILURE() << recording << " isn't in index.csv";
  return {};
}

class CompiledRecordings : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(CompiledRecordings, AreCompiledEventByEvent) {
  const Result<LoadedRun> loaded = LoadRun(GetParam() / "run.yaml", {});
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  const RunConfig& run = loaded->config;
  const Result<Tape> recorded = ReadTape(GetParam() / "tape.gz");
  ASSERT_TRUE(recorded.ok()) << recorded.error().message;
  const Result<BuiltRun> built = BuildRun(run, {.summarize_compiled = true});
  ASSERT_TRUE(built.ok()) << built.error().message;
  EXPECT_EQ(FirstDifference(*recorded, built->lowered.tape), "");

  const Result<Replay> replay = RunReplay(built->lowered.tape, {.allocator = AllocatorOf(run), .observers = {}});
  ASSERT_TRUE(replay.ok()) << replay.error().message;
  const RecordedPeak peak = PeakOf(GetParam());
  EXPECT_EQ(replay->requested.bytes, peak.requested);
  EXPECT_EQ(replay->allocated.bytes, peak.allocated);
  EXPECT_EQ(replay->reserved.bytes, peak.reserved);

  const SavedTensors expected = RecordedTensors(GetParam());
  SavedTensors saved;
  for (const compile::GraphSummary& graph : built->compiled) {
    for (const compile::ValueSummary& v : graph.saved) {
      const std::string& recorded_as = saved.size() < expected.size() ? expected[saved.size()] : "";
      const std::string shape = v.sizes.empty() ? "scalar" : ShapeText(recorded_as, v.sizes);
      saved.push_back(fmt::format("{} {}", ShortName(v.dtype), shape));
    }
  }
  EXPECT_EQ(saved, expected);
}

class FirstRuns : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(FirstRuns, AllocateWhatTheRecordingDoes) {
  const Result<LoadedRun> loaded = LoadRun(GetParam() / "run.yaml", {});
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  const Result<Tape> recorded = ReadTape(GetParam() / "tape.gz");
  ASSERT_TRUE(recorded.ok()) << recorded.error().message;
  const Result<BuiltRun> built = BuildRun(loaded->config, {});
  ASSERT_TRUE(built.ok()) << built.error().message;
  EXPECT_EQ(FirstDifference(WithoutRepeats(*recorded), WithoutRepeats(built->lowered.tape)), "");
  const Result<Replay> replay =
      RunReplay(built->lowered.tape, {.allocator = AllocatorOf(loaded->config), .observers = {}});
  ASSERT_TRUE(replay.ok()) << replay.error().message;
  const RecordedPeak peak = PeakOf(GetParam());
  EXPECT_EQ(replay->requested.bytes, peak.requested);
  EXPECT_EQ(replay->allocated.bytes, peak.allocated);
  EXPECT_EQ(replay->reserved.bytes, peak.reserved);
}

// One after another, as they were recorded, with one compile cache that was empty in the beginning.
TEST(FirstRunsWithOneCache, AllocateWhatTheRecordingsDo) {
  compile::TuningCache cache;
  const std::vector<std::filesystem::path> folders =
      RecordingFolders(TIDEMARK_TEST_DATA "/truth/compiled-shared-cache");
  ASSERT_EQ(folders.size(), 3U);
  for (const std::filesystem::path& folder : folders) {
    const Result<LoadedRun> loaded = LoadRun(folder / "run.yaml", {});
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    const Result<Tape> recorded = ReadTape(folder / "tape.gz");
    ASSERT_TRUE(recorded.ok()) << recorded.error().message;
    const Result<BuiltRun> built = BuildRun(loaded->config, {.tuned = &cache});
    ASSERT_TRUE(built.ok()) << built.error().message;
    EXPECT_EQ(FirstDifference(WithoutRepeats(*recorded), WithoutRepeats(built->lowered.tape)), "") << folder;
    const Result<Replay> replay =
        RunReplay(built->lowered.tape, {.allocator = AllocatorOf(loaded->config), .observers = {}});
    ASSERT_TRUE(replay.ok()) << replay.error().message;
    EXPECT_EQ(replay->reserved.bytes, PeakOf(folder).reserved) << folder;
  }
  // A run whose kernels are all known allocates what a later run does.
  const Result<LoadedRun> first = LoadRun(folders[0] / "run.yaml", {});
  const std::vector<std::string> compiled = {"training.compile=true"};
  const Result<LoadedRun> later = LoadRun(folders[0] / "run.yaml", compiled);
  ASSERT_TRUE(first.ok() && later.ok());
  const Result<BuiltRun> again = BuildRun(first->config, {.tuned = &cache});
  const Result<BuiltRun> filled = BuildRun(later->config, {});
  ASSERT_TRUE(again.ok() && filled.ok());
  EXPECT_EQ(FirstDifference(filled->lowered.tape, again->lowered.tape), "");
}

std::string NameOfFolder(const testing::TestParamInfo<std::filesystem::path>& folder) {
  std::string name = folder.param.filename();
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Compiled, FirstRuns, testing::ValuesIn(RecordingFolders(kFirstRuns)), &NameOfFolder);
INSTANTIATE_TEST_SUITE_P(Compiled, CompiledRecordings, testing::ValuesIn(RecordingFolders(kRecordings)), &NameOfFolder);

}  // namespace
}  // namespace tidemark
