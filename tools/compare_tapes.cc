#include "tools/compare_tapes.h"

#include <fmt/format.h>

#include <algorithm>
#include <compare>
#include <vector>

#include "tools/tape_marks.h"

namespace tidemark {
namespace {

// An event as far as it counts.
struct PlainEvent {
  EventKind kind;
  uint64_t allocation = 0;  // its ordinal, of a free or a record_stream
  int64_t bytes = 0;
  int32_t stream = 0;
  uint32_t event = 0;  // in its tape; doesn't count
  bool Agrees(const PlainEvent& other) const {
    return kind == other.kind && allocation == other.allocation && bytes == other.bytes && stream == other.stream;
  }
};

std::vector<PlainEvent> PlainEventsOf(const Tape& tape) {
  std::vector<PlainEvent> plain;
  plain.reserve(tape.events.size());
  std::vector<uint64_t> ordinals(tape.allocations.size());
  uint64_t allocations = 0;
  for (uint32_t i = 0; i < tape.events.size(); ++i) {
    const Event& event = tape.events[i];
    switch (event.kind) {
      case EventKind::kAlloc:
        ordinals[event.allocation.index()] = allocations++;
        plain.push_back({.kind = event.kind, .bytes = event.bytes.count(), .stream = event.stream, .event = i});
        break;
      case EventKind::kFree:
        plain.push_back({.kind = event.kind, .allocation = ordinals[event.allocation.index()], .event = i});
        break;
      case EventKind::kRecordStream:
        plain.push_back(
            {.kind = event.kind, .allocation = ordinals[event.allocation.index()], .stream = event.stream, .event = i});
        break;
      case EventKind::kResetPeak:
        break;
      default:
        plain.push_back({.kind = event.kind, .stream = event.stream, .event = i});
    }
  }
  const auto is_free = [](const PlainEvent& event) { return event.kind == EventKind::kFree; };
  for (auto begin = plain.begin(); begin != plain.end();) {
    const auto first = std::find_if(begin, plain.end(), is_free);
    const auto last = std::find_if_not(first, plain.end(), is_free);
    std::sort(first, last, [](const PlainEvent& a, const PlainEvent& b) { return a.allocation < b.allocation; });
    begin = last;
  }
  return plain;
}

std::vector<int64_t> SizesOf(const std::vector<PlainEvent>& events) {
  std::vector<int64_t> sizes;
  for (const PlainEvent& event : events) {
    if (event.kind == EventKind::kAlloc) sizes.push_back(event.bytes);
  }
  return sizes;
}

std::string DescribeEvent(const Tape& tape, const std::vector<PlainEvent>& events, uint64_t index) {
  if (index >= events.size()) return "the end";
  const PlainEvent& event = events[index];
  std::string text;
  switch (event.kind) {
    case EventKind::kAlloc:
      text = fmt::format("allocates {} bytes", event.bytes);
      break;
    case EventKind::kFree:
      text = fmt::format("frees allocation {} of {} bytes", event.allocation, SizesOf(events)[event.allocation]);
      break;
    case EventKind::kRecordStream:
      text = fmt::format("uses allocation {} on another stream", event.allocation);
      break;
    case EventKind::kSynchronize:
      text = "synchronises";
      break;
    case EventKind::kEmptyCache:
      text = "empties the cache";
      break;
    default:
      text = "uses a private pool";
  }
  if (event.stream != 0) text += fmt::format(" (stream {})", event.stream);
  const Moment moment = MomentOf(tape, event.event);
  if (!moment.op.empty()) text += " in " + moment.op;
  if (!moment.phase.empty()) text += fmt::format(" ({})", DescribeMoment(moment));
  return text;
}

}  // namespace

TapeDifference CompareTapes(const Tape& predicted, const Tape& measured) {
  const std::vector<PlainEvent> expected = PlainEventsOf(predicted);
  const std::vector<PlainEvent> found = PlainEventsOf(measured);
  TapeDifference difference{.events = found.size()};
  const size_t common = std::min(expected.size(), found.size());
  while (difference.first < common && expected[difference.first].Agrees(found[difference.first])) ++difference.first;
  if (difference.first == expected.size() && difference.first == found.size()) return difference;
  difference.predicted = DescribeEvent(predicted, expected, difference.first);
  difference.measured = DescribeEvent(measured, found, difference.first);
  return difference;
}

}  // namespace tidemark
