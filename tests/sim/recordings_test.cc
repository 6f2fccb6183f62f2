// Recordings of PyTorch 2.14.1's own allocator (tests/truth/allocator): every row, statistic and message.
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sim/placements.h"
#include "sim/replay.h"
#include "sim/tape_io.h"

namespace tidemark {
namespace {

std::filesystem::path Folder() { return std::filesystem::path(TIDEMARK_TEST_DATA) / "truth" / "allocator"; }

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(Folder())) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem());
  }
  std::ranges::sort(names);
  return names;
}

std::vector<std::string> Lines(const std::string& path) {
  std::vector<std::string> lines;
  const gzFile file = gzopen(path.c_str(), "rb");  // reads plain files too
  if (file == nullptr) return lines;
  char line[512];
  while (gzgets(file, line, sizeof line) != nullptr) lines.emplace_back(line);
  gzclose(file);
  return lines;
}

class Recording : public testing::TestWithParam<std::string> {};

TEST_P(Recording, IsReproduced) {
  const std::string base = (Folder() / GetParam()).string();
  const nlohmann::json truth = nlohmann::json::parse(std::ifstream(base + ".json"));
  const Result<Tape> tape = ReadTape(base + ".tape.gz");
  ASSERT_TRUE(tape.ok()) << tape.error().message;
  ReplayOptions options;
  options.allocator.framework = truth["profile"];
  options.allocator.conf = truth["conf"];
  options.allocator.device_memory = kMiB * truth["memory_mib"].get<int64_t>();
  options.allocator.events = truth["events"] == "lazy" ? EventTiming::kLazy : EventTiming::kAtOnce;
  if (!truth["fraction"].is_null()) options.allocator.fraction = truth["fraction"].get<double>();
  const std::string path = testing::TempDir() + "/" + GetParam() + ".csv";
  auto writer = PlacementsWriter::Create(path);
  ASSERT_TRUE(writer.ok());
  options.observers.push_back(writer->get());
  const Result<Replay> replay = RunReplay(*tape, options);
  ASSERT_TRUE(replay.ok()) << replay.error().message;
  ASSERT_TRUE((*writer)->Finish().ok());
  const std::vector<std::string> want = Lines(base + ".placements.csv.gz");
  const std::vector<std::string> got = Lines(path);
  std::remove(path.c_str());
  ASSERT_EQ(got.size(), want.size());
  for (size_t row = 0; row < want.size(); ++row) ASSERT_EQ(got[row], want[row]) << "row " << row;
  const nlohmann::json& statistics = truth["final statistics"];
  EXPECT_EQ(replay->statistics.size(), statistics.size());
  for (const Statistic& statistic : replay->statistics)
    EXPECT_EQ(statistic.value, statistics[statistic.key]) << statistic.key;
  const nlohmann::json& failures = truth["out_of_memory"];
  ASSERT_EQ(std::min<size_t>(replay->out_of_memory.size(), 16), failures.size());
  for (size_t k = 0; k < failures.size(); ++k) EXPECT_EQ(replay->out_of_memory[k].message, failures[k]["message"]);
}

INSTANTIATE_TEST_SUITE_P(All, Recording, testing::ValuesIn(Names()), [](const auto& parameter) {
  std::string name = parameter.param;
  std::ranges::replace_if(
      name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
});

}  // namespace
}  // namespace tidemark
