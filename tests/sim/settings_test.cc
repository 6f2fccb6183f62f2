#include "sim/allocators/caching/settings.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

namespace tidemark::caching {
namespace {

constexpr uint64_t kMi = uint64_t{1} << 20;

const Profile& ProfileNamed(std::string_view name) { return **FindProfile(name); }

Settings Parsed(std::string_view conf, std::string_view profile = "pytorch-2.14") {
  Result<Settings> settings = ParseSettings(conf, ProfileNamed(profile));
  EXPECT_TRUE(settings.ok()) << conf << ": " << (settings.ok() ? "" : settings.error().message);
  return settings.ok() ? *settings : Settings{};
}

std::string ErrorOf(std::string_view conf, std::string_view profile = "pytorch-2.14") {
  const Result<Settings> settings = ParseSettings(conf, ProfileNamed(profile));
  return settings.ok() ? "no error" : settings.error().message;
}

TEST(ParseSettings, EmptyIsTheDefault) {
  EXPECT_EQ(Parsed(""), Settings{});
  EXPECT_EQ(Settings{}.max_split_size, ~uint64_t{0});
}

TEST(ParseSettings, ReadsEveryOption) {
  const Settings s = Parsed(
      "max_split_size_mb:64, garbage_collection_threshold:0.6,max_non_split_rounding_mb:24 ,expandable_segments:True,"
      "per_process_memory_fraction:0.5,throw_on_cudamalloc_oom:True,roundup_power2_divisions:4,backend:native");
  EXPECT_EQ(s.max_split_size, 64 * kMi);
  EXPECT_EQ(s.max_non_split_rounding, 24 * kMi);
  EXPECT_EQ(s.garbage_collection_threshold, 0.6);
  EXPECT_EQ(s.per_process_memory_fraction, 0.5);
  EXPECT_TRUE(s.expandable_segments);
  EXPECT_TRUE(s.throw_on_cudamalloc_oom);
  EXPECT_EQ(s.roundup_divisions[0], 4u);
  EXPECT_EQ(s.roundup_divisions[15], 4u);
}

TEST(ParseSettings, OddThingsThatPyTorchAccepts) {
  EXPECT_EQ(Parsed("max_split_size_mb,64").max_split_size, 64 * kMi);
  EXPECT_FALSE(Parsed("max_split_size_mb:64:expandable_segments:False").expandable_segments);
  EXPECT_EQ(Parsed("max_split_size_mb:64MB").max_split_size, 64 * kMi);
  EXPECT_EQ(Parsed("max_split_size_mb:-1").max_split_size, ~uint64_t{0} / kMi * kMi);
  EXPECT_EQ(Parsed("max_split_size_mb:20,max_split_size_mb:30").max_split_size, 30 * kMi);
  EXPECT_EQ(Parsed("garbage_collection_threshold:0.5x").garbage_collection_threshold, 0.5);
  EXPECT_EQ(Parsed("max_sp lit_size_mb : 6 4").max_split_size, 64 * kMi);
}

TEST(ParseSettings, TheLargeSegmentSizeIsReadFirst) {
  EXPECT_EQ(ErrorOf("max_split_size_mb:63,large_segment_size_mb:64"),
            "CachingAllocator option max_split_size_mb too small, must be >= 64");
  EXPECT_EQ(Parsed("large_segment_size_mb:64").max_non_split_rounding, 64 * kMi);
}

TEST(ParseSettings, Errors) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"max_split_size_mb:19", "CachingAllocator option max_split_size_mb too small, must be >= 20"},
      {"max_non_split_rounding_mb:19", "CachingAllocator option max_non_split_rounding_mb too small, must be >= 20"},
      {"max_split_size_mb:x", "stoull"},
      {"max_split_size_mb:", "Index out of bounds in ConfigTokenizer"},
      {"max_split_size_mb", "Index out of bounds in ConfigTokenizer"},
      {"a:1", "Unrecognized key 'a' in CUDA allocator config."},
      {"max_split_size_mb:64,,backend:native", "Unrecognized key ',' in CUDA allocator config."},
      {"garbage_collection_threshold:1.0", "garbage_collect_threshold is invalid, set it in (0.0, 1.0)"},
      {"garbage_collection_threshold:0", "garbage_collect_threshold is invalid, set it in (0.0, 1.0)"},
      {"expandable_segments:true", "Expected 'True' or 'False' at index 2 in ConfigTokenizer but got 'true'"},
      {"expandable_segments:1", "Expected 'True' or 'False' at index 2 in ConfigTokenizer but got '1'"},
      {"roundup_power2_divisions:0", "For roundups, the divisions has to be power of 2 "},
      {"roundup_power2_divisions:3", "For roundups, the divisions has to be power of 2 "},
      {"roundup_power2_divisions:[1:3]", "For roundups, the divisions has to be power of 2 or 0 to disable roundup "},
      {"roundup_power2_divisions:[1:2", "Expected closing bracket ']' in ConfigTokenizer but reached end of config"},
      {"roundup_power2_divisions:[", "Expected closing bracket ']' in ConfigTokenizer but reached end of config"},
      {"large_segment_size_mb:10", "CachingAllocator option large_segment_size_mb must be > 10 MB"},
      {"large_segment_size_mb:x", "stoull"},
      {"foo", "Index out of bounds in ConfigTokenizer"},
      {"foo:[1", "Expected closing bracket ']' in ConfigTokenizer but reached end of config"},
      {"[", "Index out of bounds in ConfigTokenizer"},
      {"max_split_size_mb 64", "Index out of bounds in ConfigTokenizer"},
      {"backend:foo", "Unknown allocator backend, options are native and cudaMallocAsync"},
      {"backend:native,backend:cudaMallocAsync",
       "Allocator backend parsed at runtime != allocator backend parsed at load time, cudaMallocAsync != native"},
      {"pinned_num_register_threads:3", "Number of register threads has to be power of 2, got 3"},
      {"pinned_num_register_threads:256", "Number of register threads should be less than or equal to 128, got 256"},
      {"pinned_reserve_segment_size_mb:0", "Pinned reserve segment size has to be greater than 0"},
      {"pinned_max_cached_size_mb:x", "stoull"},
      {"graph_capture_record_stream_reuse:1", "Expected 'True' or 'False' at index 2 in ConfigTokenizer but got '1'"},
      {"per_process_memory_fraction:1.5", "per_process_memory_fraction is invalid, set it in [0.0, 1.0]"},
      {"roundup_power2_divisions:[3:1]", "For roundups, the intervals have to be power of 2 "},
  };
  for (const auto& [conf, message] : cases) EXPECT_EQ(ErrorOf(conf), message) << conf;
}

// The string is read several times: what is CUDA's own first, and there unknown keys are found out; then the large
// segment size; then what all accelerators share. tests/differential/conf_differential.py asks PyTorch itself.
TEST(ParseSettings, OfSeveralErrorsTheFirstPassHasItsWay) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"max_split_size_mb:19,throw_on_cudamalloc_oom:19",
       "Expected 'True' or 'False' at index 6 in ConfigTokenizer but got '19'"},
      {"expandable_segments:19,pinned_use_cuda_host_register:64",
       "Expected 'True' or 'False' at index 6 in ConfigTokenizer but got '64'"},
      {"roundup_power2_divisions:native,per_process_memory_fraction:]", "stod"},
      {"max_split_size_mb:19,foo:1", "Unrecognized key 'foo' in CUDA allocator config."},
      {"max_split_size_mb:19,large_segment_size_mb:1", "CachingAllocator option large_segment_size_mb must be > 10 MB"},
      {"pinned_max_cached_size_mb:x,pinned_free_catch_all:2",
       "Expected 'True' or 'False' at index 6 in ConfigTokenizer but got '2'"},
      {"backend:x,foo", "Unknown allocator backend, options are native and cudaMallocAsync"},
      {"pinned_num_register_threads:20,backend:true", "Number of register threads has to be power of 2, got 20"},
      {"max_split_size_mb:19,foo", "Index out of bounds in ConfigTokenizer"},
  };
  for (const auto& [conf, message] : cases) EXPECT_EQ(ErrorOf(conf), message) << conf;
}

TEST(ParseSettings, ListsActInTheirWrittenOrder) {
  using Table = std::array<uint64_t, 16>;
  const std::vector<std::pair<const char*, Table>> cases = {
      {"[256:1,512:2,1024:4,>:8]", {1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 8, 8, 8, 8}},
      {"[16:4,4:8,>:2]", {4, 4, 8, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
      {"[>:4,4:2]", {2, 2, 2, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4}},
      {"[>:4]", {0, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4}},
      {"[1:4,8:2]", {4, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
      {"[]", {}},
      {"[1:0]", {}},
  };
  for (const auto& [list, table] : cases) {
    EXPECT_EQ(Parsed(std::string("roundup_power2_divisions:") + list).roundup_divisions, table) << list;
  }
}

// Before the refactoring the last entry overwrites the previous key's own value, and separators count.
TEST(ParseSettings, TheOldGrammar) {
  EXPECT_EQ(Parsed("roundup_power2_divisions:[256:1,512:2,1024:4,>:8]", "pytorch-2.6").roundup_divisions[10], 8u);
  EXPECT_EQ(ErrorOf("max_split_size_mb,64", "pytorch-2.6"), "Error parsing CachingAllocator settings, expected :");
  EXPECT_EQ(ErrorOf("max_split_size_mb:20", "pytorch-2.6"),
            "CachingAllocator option max_split_size_mb too small, must be > 20");
  EXPECT_EQ(ErrorOf("throw_on_cudamalloc_oom:True", "pytorch-2.6"),
            "Unrecognized CachingAllocator option: throw_on_cudamalloc_oom");
}

TEST(ParseSettings, AnythingIsReadOrRefused) {
  const std::string alphabet = "max_split_size_mb:64,[]>12 roundup_power2_divisions";
  uint64_t state = 1;
  for (int round = 0; round < 20000; ++round) {
    std::string conf = round % 2 == 0 ? "roundup_power2_divisions:" : "";
    for (int k = 0; k < 12; ++k) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      conf += alphabet[(state >> 33) % alphabet.size()];
    }
    for (const Profile& profile : Profiles()) (void)ParseSettings(conf, profile);
  }
}

TEST(FindProfile, UnknownNamesListTheKnown) {
  const auto profile = FindProfile("pytorch-1.0");
  ASSERT_FALSE(profile.ok());
  EXPECT_EQ(profile.error().message,
            "unknown framework \"pytorch-1.0\"; known: pytorch pytorch-2.6 pytorch-2.11 pytorch-2.12 pytorch-2.13 "
            "pytorch-2.14 "
            "pytorch-2.15");
}

}  // namespace
}  // namespace tidemark::caching
