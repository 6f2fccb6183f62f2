#include "sim/allocators/caching/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

namespace tidemark::caching {
namespace {

constexpr uint64_t kMiBytes = uint64_t{1} << 20;

// Separators and maximal runs of other characters; blanks vanish, even inside words.
std::vector<std::string> Tokens(std::string_view conf) {
  std::vector<std::string> tokens;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) tokens.push_back(std::exchange(word, {}));
  };
  for (const char c : conf) {
    if (c == ',' || c == ':' || c == '[' || c == ']') {
      end_word();
      tokens.emplace_back(1, c);
    } else if (c != ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\v' && c != '\f') {
      word += c;
    }
  }
  end_word();
  return tokens;
}

// A position in the tokens that remembers the first thing that went wrong. After an error every call is harmless.
class Cursor {
 public:
  Cursor(std::vector<std::string> tokens, ConfGrammar grammar) : tokens_(std::move(tokens)), grammar_(grammar) {}

  bool ok() const { return error_.empty(); }
  const std::string& error() const { return error_; }
  void Fail(std::string message) {
    if (ok()) error_ = std::move(message);
  }
  bool more() const { return ok() && at_ < tokens_.size(); }
  std::string Next() {
    if (at_ >= tokens_.size()) {
      Fail("Index out of bounds in ConfigTokenizer");
      return {};
    }
    return tokens_[at_++];
  }
  bool NextIs(std::string_view token) {
    if (at_ >= tokens_.size()) Fail("Index out of bounds in ConfigTokenizer");
    return ok() && tokens_[at_] == token;
  }
  // Passes one token, which the strict grammar looks at.
  void Separator(std::string_view token) {
    if (grammar_ == ConfGrammar::kStrict && (at_ >= tokens_.size() || tokens_[at_] != token)) {
      Fail(fmt::format("Error parsing CachingAllocator settings, expected {}", token));
    }
    Next();
  }
  // As std::stoull and std::stoi read it: a prefix counts, a minus wraps around.
  uint64_t Integer() {
    const std::string token = Next();
    if (!ok()) return 0;
    char* end = nullptr;
    errno = 0;
    const bool is_signed = grammar_ == ConfGrammar::kStrict;
    const uint64_t value = is_signed ? static_cast<uint64_t>(std::strtoll(token.c_str(), &end, 10))
                                     : std::strtoull(token.c_str(), &end, 10);
    const bool too_large = is_signed && (static_cast<int64_t>(value) > std::numeric_limits<int32_t>::max() ||
                                         static_cast<int64_t>(value) < std::numeric_limits<int32_t>::min());
    if (end == token.c_str() || errno == ERANGE || too_large) Fail(is_signed ? "stoi" : "stoull");
    return value;
  }
  double Real() {
    const std::string token = Next();
    if (!ok()) return 0;
    char* end = nullptr;
    errno = 0;
    const double value = std::strtod(token.c_str(), &end);
    if (end == token.c_str() || errno == ERANGE) Fail("stod");
    return value;
  }
  bool Boolean() {
    const size_t index = at_;
    const std::string token = Next();
    if (ok() && token != "True" && token != "False") {
      Fail(fmt::format("Expected 'True' or 'False' at index {} in ConfigTokenizer but got '{}'", index, token));
    }
    return token == "True";
  }
  // A positive number, perhaps with a G; anything else is ignored with a warning.
  std::optional<Settings::Reserve> Reserve() {
    const std::string token = Next();
    char* end = nullptr;
    const double value = std::strtod(token.c_str(), &end);
    const bool in_gib = *end == 'G' || *end == 'g';
    if (end == token.c_str() || end[in_gib ? 1 : 0] != '\0' || !std::isfinite(value) || value <= 0) return {};
    return Settings::Reserve{value, in_gib};
  }
  // The value of a key that means nothing here: a word, or a list.
  void SkipValue() {
    if (Next() != "[") return;
    while (more()) {
      if (Next() == "]") return;
    }
    Fail("Expected closing bracket ']' in ConfigTokenizer but reached end of config");
  }

 private:
  std::vector<std::string> tokens_;
  ConfGrammar grammar_;
  size_t at_ = 0;
  std::string error_;
};

void ParseMaxSplitSize(Cursor& cursor, const Profile& profile, Settings& settings) {
  const uint64_t least = settings.large_segment_size / kMiBytes;
  const uint64_t value = cursor.Integer();
  if (profile.grammar == ConfGrammar::kStrict) {
    if (static_cast<int64_t>(value) <= static_cast<int64_t>(least)) {
      cursor.Fail(fmt::format("CachingAllocator option max_split_size_mb too small, must be > {}", least));
    }
  } else if (value < least) {
    cursor.Fail(fmt::format("CachingAllocator option max_split_size_mb too small, must be >= {}", least));
  }
  settings.max_split_size = std::min(value, Settings::kNoLimit / kMiBytes) * kMiBytes;
}

void ParseMaxNonSplitRounding(Cursor& cursor, const Profile& profile, Settings& settings) {
  const uint64_t least = settings.large_segment_size / kMiBytes;
  const uint64_t value = cursor.Integer();
  const bool strict = profile.grammar == ConfGrammar::kStrict;
  if (strict ? static_cast<int64_t>(value) <= static_cast<int64_t>(least) : value < least) {
    cursor.Fail(fmt::format("CachingAllocator option max_non_split_rounding_mb too small, must be {} {}",
                            strict ? ">" : ">=", least));
  }
  settings.max_non_split_rounding = std::min(value, Settings::kNoLimit / kMiBytes) * kMiBytes;
}

// [K1:V1,K2:V2,…,>:V]: entries act in their written order. The first one with a number also fills the intervals below
// it.
void ParseDivisionList(Cursor& cursor, const Profile& profile, Settings& settings) {
  auto& table = settings.roundup_divisions;
  const bool strict = profile.grammar == ConfGrammar::kStrict;
  size_t last = 0;
  bool first = true;
  cursor.Next();
  while (cursor.ok() && !cursor.NextIs("]")) {
    const bool rest = cursor.NextIs(">");
    Cursor key = cursor;
    cursor.Next();
    cursor.Separator(":");
    const uint64_t value = cursor.Integer();
    if (!cursor.ok()) return;
    if (!std::has_single_bit(value) && (strict || value != 0)) {
      cursor.Fail(strict ? "For roundups, the divisons has to be power of 2 "
                         : "For roundups, the divisions has to be power of 2 or 0 to disable roundup ");
    }
    if (rest) {
      std::fill(table.begin() + static_cast<std::ptrdiff_t>(strict                    ? last
                                                            : last + 1 < table.size() ? last + 1
                                                                                      : table.size()),
                table.end(), value);
    } else {
      const uint64_t boundary = key.Integer();
      if (!key.ok()) return cursor.Fail(key.error());
      if (!std::has_single_bit(boundary)) cursor.Fail("For roundups, the intervals have to be power of 2 ");
      if (!cursor.ok()) return;
      last = std::min<size_t>(static_cast<size_t>(std::countr_zero(boundary)), table.size() - 1);
      if (std::exchange(first, false))
        std::fill(table.begin(), table.begin() + static_cast<std::ptrdiff_t>(last), value);
      table[last] = value;
    }
    if (!cursor.NextIs("]")) cursor.Separator(",");
  }
  cursor.Next();
}

void ParseDivisions(Cursor& cursor, const Profile& profile, Settings& settings) {
  if (cursor.NextIs("[")) return ParseDivisionList(cursor, profile, settings);
  const uint64_t value = cursor.Integer();
  if (cursor.ok() && !std::has_single_bit(value)) cursor.Fail("For roundups, the divisions has to be power of 2 ");
  settings.roundup_divisions.fill(value);
}

void ParseLargeSegmentSize(Cursor& cursor, Settings& settings) {
  const uint64_t value = cursor.Integer();
  if (cursor.ok() && value <= 10) cursor.Fail("CachingAllocator option large_segment_size_mb must be > 10 MB");
  settings.large_segment_size = std::min(value, Settings::kNoLimit / kMiBytes) * kMiBytes;
  settings.max_non_split_rounding = settings.large_segment_size;
}

void ParseThreshold(Cursor& cursor, Settings& settings) {
  settings.garbage_collection_threshold = cursor.Real();
  if (!(settings.garbage_collection_threshold > 0 && settings.garbage_collection_threshold < 1)) {
    cursor.Fail("garbage_collect_threshold is invalid, set it in (0.0, 1.0)");
  }
}

void ParseFraction(Cursor& cursor, Settings& settings) {
  settings.per_process_memory_fraction = cursor.Real();
  if (!(settings.per_process_memory_fraction >= 0 && settings.per_process_memory_fraction <= 1)) {
    cursor.Fail("per_process_memory_fraction is invalid, set it in [0.0, 1.0]");
  }
}

// The backend is chosen when PyTorch is loaded, by the first mention; a later one must agree.
void ParseBackend(Cursor& cursor, Settings& settings, std::string& first) {
  const std::string name = cursor.Next();
  if (name != "native" && name != "cudaMallocAsync") {
    cursor.Fail("Unknown allocator backend, options are native and cudaMallocAsync");
  }
  if (first.empty()) first = name;
  if (name != first) {
    cursor.Fail(fmt::format("Allocator backend parsed at runtime != allocator backend parsed at load time, {} != {}",
                            name, first));
  }
  settings.backend = name == "native" ? Backend::kNative : Backend::kCudaMallocAsync;
}

// Options of pinned host memory and of locks: their values are checked, and that is all.
void ParseIdleValue(std::string_view key, Cursor& cursor) {
  if (key == "pinned_num_register_threads") {
    const uint64_t threads = cursor.Integer();
    if (!std::has_single_bit(threads)) {
      cursor.Fail(fmt::format("Number of register threads has to be power of 2, got {}", threads));
    }
    if (threads > 128) {
      cursor.Fail(fmt::format("Number of register threads should be less than or equal to 128, got {}", threads));
    }
  } else if (key == "pinned_reserve_segment_size_mb") {
    if (cursor.Integer() == 0) cursor.Fail("Pinned reserve segment size has to be greater than 0");
  } else if (key.starts_with("pinned_max_")) {
    cursor.Integer();
  } else if (key == "expandable_segments_reserve_by_class") {
    cursor.SkipValue();  // of streams that a program has put into a class
  } else {
    cursor.Boolean();
  }
}

// Whether a key exists in the profile and decides nothing that this allocator does.
bool IsIdleKey(std::string_view key, const Profile& profile) {
  constexpr std::array<std::string_view, 7> kAlways = {
      "pinned_num_register_threads",   "pinned_reserve_segment_size_mb", "pinned_use_background_threads",
      "pinned_use_cuda_host_register", "pinned_use_hip_host_register",   "release_lock_on_cudamalloc",
      "release_lock_on_hipmalloc"};
  constexpr std::array<std::string_view, 3> kCatchAll = {"pinned_free_catch_all", "pinned_max_cached_size_mb",
                                                         "pinned_max_round_threshold_mb"};
  if (std::ranges::find(kAlways, key) != kAlways.end()) return true;
  if (profile.catch_all_options && std::ranges::find(kCatchAll, key) != kCatchAll.end()) return true;
  if (profile.reserve_option && key.starts_with("expandable_segments_reserve")) return true;
  return profile.reuse_in_capture_option && key == "graph_capture_record_stream_reuse";
}

// Keys that CUDA's half of the configuration reads; the other half, which all accelerators share, comes after it.
bool IsCudaKey(std::string_view key) {
  constexpr std::array<std::string_view, 12> kKeys = {"backend",
                                                      "release_lock_on_cudamalloc",
                                                      "release_lock_on_hipmalloc",
                                                      "pinned_use_cuda_host_register",
                                                      "pinned_use_hip_host_register",
                                                      "pinned_num_register_threads",
                                                      "pinned_reserve_segment_size_mb",
                                                      "pinned_free_catch_all",
                                                      "graph_capture_record_stream_reuse",
                                                      "per_process_memory_fraction",
                                                      "throw_on_cudamalloc_oom",
                                                      "expandable_segments_reserve"};
  return std::ranges::find(kKeys, key) != kKeys.end() || key.starts_with("expandable_segments_reserve");
}

void ParseValue(std::string_view key, Cursor& cursor, const Profile& profile, Settings& settings,
                std::string& backend) {
  if (key == "max_split_size_mb") {
    ParseMaxSplitSize(cursor, profile, settings);
  } else if (key == "max_non_split_rounding_mb" && profile.non_split_rounding_option) {
    ParseMaxNonSplitRounding(cursor, profile, settings);
  } else if (key == "roundup_power2_divisions") {
    ParseDivisions(cursor, profile, settings);
  } else if (key == "garbage_collection_threshold") {
    ParseThreshold(cursor, settings);
  } else if (key == "expandable_segments") {
    settings.expandable_segments = cursor.Boolean();
  } else if (key == "large_segment_size_mb" && profile.large_segment_option) {
    cursor.SkipValue();  // read before everything else
  } else if (key == "per_process_memory_fraction" && profile.fraction_option) {
    ParseFraction(cursor, settings);
  } else if (key == "throw_on_cudamalloc_oom" && profile.reject_option) {
    settings.throw_on_cudamalloc_oom = cursor.Boolean();
  } else if (key == "expandable_segments_reserve" && profile.reserve_option) {
    if (const auto reserve = cursor.Reserve()) settings.expandable_segments_reserve = reserve;
  } else if (key == "backend") {
    ParseBackend(cursor, settings, backend);
  } else {
    ParseIdleValue(key, cursor);
  }
}

bool IsKnownKey(std::string_view key, const Profile& profile) {
  return key == "max_split_size_mb" || (key == "max_non_split_rounding_mb" && profile.non_split_rounding_option) ||
         key == "roundup_power2_divisions" || key == "garbage_collection_threshold" || key == "expandable_segments" ||
         (key == "large_segment_size_mb" && profile.large_segment_option) ||
         (key == "per_process_memory_fraction" && profile.fraction_option) ||
         (key == "throw_on_cudamalloc_oom" && profile.reject_option) || key == "backend" || IsIdleKey(key, profile);
}

// PyTorch reads the string four times: for the backend, when it is loaded; for what is CUDA's own, where keys that
// nobody knows are found out; for the large segment size, which the limits of other options follow wherever it stands;
// and for the rest. What a pass doesn't look for it skips, so errors come in the order of the passes. Before the
// refactoring it was read once.
enum class Pass : uint8_t { kBackend, kCuda, kLargeSegment, kShared, kEverything };

bool Reads(Pass pass, std::string_view key) {
  switch (pass) {
    case Pass::kBackend:
      return false;
    case Pass::kCuda:
      return IsCudaKey(key);
    case Pass::kLargeSegment:
      return key == "large_segment_size_mb";
    case Pass::kShared:
      return !IsCudaKey(key);
    case Pass::kEverything:
      return true;
  }
  return false;
}

void ParsePairs(Cursor& cursor, const Profile& profile, Pass pass, Settings& settings) {
  std::string backend;
  while (cursor.more()) {
    const std::string key = cursor.Next();
    const bool judges_keys = pass == Pass::kEverything || pass == Pass::kCuda;
    if (judges_keys && !IsKnownKey(key, profile)) {
      cursor.Fail(profile.grammar == ConfGrammar::kStrict
                      ? fmt::format("Unrecognized CachingAllocator option: {}", key)
                      : fmt::format("Unrecognized key '{}' in CUDA allocator config.", key));
      return;
    }
    cursor.Separator(":");
    if (pass == Pass::kBackend && key == "backend") return;  // which one it is matters later
    if (!Reads(pass, key)) {
      cursor.SkipValue();
    } else if (pass == Pass::kLargeSegment) {
      ParseLargeSegmentSize(cursor, settings);
    } else {
      ParseValue(key, cursor, profile, settings, backend);
    }
    if (cursor.more()) cursor.Separator(",");
  }
}

}  // namespace

Result<Settings> ParseSettings(std::string_view conf, const Profile& profile) {
  Settings settings;
  settings.conf = conf;
  const bool once = profile.grammar == ConfGrammar::kStrict;
  for (const Pass pass : {Pass::kBackend, Pass::kCuda, Pass::kLargeSegment, Pass::kShared, Pass::kEverything}) {
    if (once != (pass == Pass::kEverything)) continue;
    Cursor cursor(Tokens(conf), profile.grammar);
    ParsePairs(cursor, profile, pass, settings);
    if (!cursor.ok()) return InvalidInput(cursor.error());
  }
  return settings;
}

}  // namespace tidemark::caching
