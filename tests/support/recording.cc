#include "tests/support/recording.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "sim/tape_io.h"
#include "tools/config/run_file.h"

namespace tidemark {
namespace {

// The same events, each run of consecutive frees in order of allocation.
std::vector<Event> WithSortedFrees(const Tape& tape) {
  std::vector<Event> events = tape.events;
  const auto is_free = [](const Event& e) { return e.kind == EventKind::kFree; };
  for (auto begin = events.begin(); begin != events.end();) {
    begin = std::find_if(begin, events.end(), is_free);
    const auto end = std::find_if_not(begin, events.end(), is_free);
    std::ranges::sort(begin, end, {}, &Event::allocation);
    begin = end;
  }
  return events;
}

// The phase and the op in force at an event.
std::string MarksAt(const Tape& tape, size_t event) {
  std::string phase;
  std::string op;
  for (const Mark& mark : tape.marks) {
    if (mark.event > event) break;
    const std::string& text = tape.texts[mark.text];
    if (mark.kind == MarkKind::kPhase) {
      phase = text;
      op.clear();
    } else {
      op = text;
    }
  }
  return phase + " | " + op;
}

// Bytes by allocation.
std::vector<Bytes> Sizes(const Tape& tape) {
  std::vector<Bytes> sizes;
  for (const Event& e : tape.events) {
    if (e.kind == EventKind::kAlloc) sizes.push_back(e.bytes);
  }
  return sizes;
}

std::string Describe(const Tape& tape, const std::vector<Event>& events, size_t at) {
  if (at >= events.size()) return "(end of tape)";
  const Event& e = events[at];
  const auto ordinal = e.allocation.index();
  std::string what;
  switch (e.kind) {
    case EventKind::kAlloc:
      what = fmt::format("allocates {} bytes (allocation {})", e.bytes.count(), ordinal);
      break;
    case EventKind::kFree:
      what = fmt::format("frees allocation {} of {} bytes", ordinal, Sizes(tape)[ordinal].count());
      break;
    default:
      what = "another event";
  }
  return what + " in " + MarksAt(tape, at);
}

constexpr size_t kLongestGroup = 16;  // events

// One past the group that begins at `begin`: a few allocations and their frees, nothing else; `begin` where there is
// none.
size_t EndOfGroup(const std::vector<Event>& events, size_t begin) {
  size_t live = 0;
  for (size_t end = begin; end < std::min(events.size(), begin + kLongestGroup); ++end) {
    const Event& e = events[end];
    if (e.kind == EventKind::kAlloc) {
      ++live;
    } else if (live == 0 || e.kind != EventKind::kFree || e.allocation < events[begin].allocation) {
      return begin;
    } else if (--live == 0) {
      return end + 1;
    }
  }
  return begin;
}

}  // namespace

Tape WithoutRepeats(const Tape& tape) {
  const std::vector<Event>& events = tape.events;
  Tape result;
  result.texts = tape.texts;
  std::vector<AllocationId> renumbered(events.size());
  std::vector<Bytes> sizes(events.size());
  size_t allocations = 0;
  size_t mark = 0;
  const auto keep = [&](size_t i) {
    for (; mark < tape.marks.size() && tape.marks[mark].event <= i; ++mark) {
      result.marks.push_back(tape.marks[mark]);
      result.marks.back().event = static_cast<uint32_t>(result.events.size());
    }
    Event event = events[i];
    if (event.kind == EventKind::kAlloc) renumbered[event.allocation.index()] = AllocationId(allocations++);
    if (event.kind == EventKind::kAlloc || event.kind == EventKind::kFree)
      event.allocation = renumbered[event.allocation.index()];
    result.events.push_back(event);
  };
  using Step = std::pair<bool, Bytes>;  // an allocation or not, of how many bytes
  std::vector<Step> last;               // the group that has just ended, in any order
  for (size_t i = 0; i < events.size();) {
    const size_t end = EndOfGroup(events, i);
    if (end == i) {
      last.clear();
      keep(i++);
      continue;
    }
    std::vector<Step> group;
    for (size_t k = i; k < end; ++k) {
      const bool allocates = events[k].kind == EventKind::kAlloc;
      if (allocates) sizes[events[k].allocation.index()] = events[k].bytes;
      group.emplace_back(allocates, sizes[events[k].allocation.index()]);
    }
    std::ranges::sort(group);
    const bool repeats = group == last;
    for (; i < end; ++i) {
      if (!repeats) keep(i);
    }
    last = std::move(group);
  }
  return result;
}

std::vector<std::filesystem::path> RecordingFolders(const std::filesystem::path& root) {
  std::vector<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (entry.is_directory()) folders.push_back(entry.path());
  }
  std::ranges::sort(folders);
  return folders;
}

Result<Recording> ReadRecording(const std::filesystem::path& folder) {
  Recording recording;
  ASSIGN_OR_RETURN(LoadedRun loaded, LoadRun(folder / "run.yaml", {}));
  recording.run = std::move(loaded.config);
  ASSIGN_OR_RETURN(recording.tape, ReadTape(folder / "tape.gz"));
  std::ifstream file(folder / "stats.json");
  const nlohmann::json stats = nlohmann::json::parse(file, nullptr, false);
  if (stats.is_discarded()) return InvalidInput((folder / "stats.json").string() + ": no JSON");
  recording.parameters = stats.at("parameters");
  const auto peak = [&](const char* kind) { return Bytes(stats.at("peak").at(kind).get<int64_t>()); };
  recording.peak = {peak("requested"), peak("allocated"), peak("reserved")};
  return recording;
}

std::string FirstDifference(const Tape& recorded, const Tape& traced) {
  const std::vector<Event> truth = WithSortedFrees(recorded);
  const std::vector<Event> guess = WithSortedFrees(traced);
  const auto [a, b] = std::ranges::mismatch(truth, guess);
  if (a == truth.end() && b == guess.end()) return {};
  const auto at = static_cast<size_t>(a - truth.begin());
  return fmt::format("event {} of {}:\n  recorded: {}\n  traced:   {}", at, truth.size(), Describe(recorded, truth, at),
                     Describe(traced, guess, at));
}

}  // namespace tidemark
