#include "tools/formats/snapshot_replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <unordered_map>

#include "graph/base/check.h"
#include "sim/allocators/caching/profile.h"
#include "sim/allocators/caching/rounding.h"
#include "sim/allocators/caching/settings.h"

namespace tidemark {
namespace {

constexpr Bytes kTooSmallToSplitLarge = kMiB;

// The settings of the recorded process; the defaults where its conf string isn't one of the newest release.
caching::Settings SettingsOf(const Snapshot& snapshot) {
  const auto profile = caching::FindProfile("pytorch");
  CHECK(profile.ok());
  Result<caching::Settings> settings = caching::ParseSettings(snapshot.conf, **profile);
  return settings.ok() ? *std::move(settings) : caching::Settings();
}

constexpr size_t kNone = SIZE_MAX;

struct WalkBlock {
  Bytes size;
  Bytes requested;
  std::optional<size_t> freed_by;  // the entry of the trace where its free completed
  uint32_t stack = 0;
};

struct WalkSegment {
  Bytes size;
  int64_t stream = 0;
  bool large = false;
  bool expandable = false;
  std::map<int64_t, WalkBlock> blocks;  // in use, by address
};

// The state of the allocator, going back in time.
class Walk {
 public:
  explicit Walk(const Snapshot& snapshot)
      : snapshot_(snapshot), settings_(SettingsOf(snapshot)), alloc_of_free_(snapshot.trace.size(), kNone) {
    for (const SnapshotSegment& segment : snapshot.segments) {
      if (segment.private_pool) continue;
      WalkSegment& to = segments_[segment.address];
      to = {segment.size, segment.stream, segment.large, segment.expandable, {}};
      int64_t address = segment.address;
      for (const SnapshotBlock& block : segment.blocks) {
        if (block.state != SnapshotBlockState::kInactive) {
          to.blocks[address] = {block.size, block.requested, std::nullopt, block.stack};
        }
        address += block.size.count();
      }
    }
  }

  // Undoes the whole trace, last entry first.
  void Run() {
    for (size_t i = snapshot_.trace.size(); i > 0; --i) Undo(i - 1);
    std::ranges::reverse(later_addresses_);
  }

  const std::map<int64_t, WalkSegment>& segments() const { return segments_; }
  const std::vector<int64_t>& later_addresses() const { return later_addresses_; }
  // Of a kFreeCompleted entry: the alloc entry, or kNone where the trace doesn't have it.
  const std::vector<size_t>& alloc_of_free() const { return alloc_of_free_; }
  int64_t unexplained() const { return unexplained_; }

 private:
  std::map<int64_t, WalkSegment>::iterator SegmentAt(int64_t address) {
    auto after = segments_.upper_bound(address);
    if (after == segments_.begin()) return segments_.end();
    const auto found = std::prev(after);
    return address < found->first + found->second.size.count() ? found : segments_.end();
  }

  void Undo(size_t index) {
    const TraceEntry& entry = snapshot_.trace[index];
    if (entry.private_pool) return;
    switch (entry.action) {
      case TraceAction::kAlloc:
        return UndoAlloc(index, entry);
      case TraceAction::kFreeCompleted:
        return UndoFree(index, entry);
      case TraceAction::kSegmentAlloc:
        later_addresses_.push_back(entry.address);
        if (segments_.erase(entry.address) == 0) ++unexplained_;
        return;
      case TraceAction::kSegmentFree:
        segments_[entry.address] = {Bytes(entry.size), entry.stream, entry.size > (kMiB * 2).count(), false, {}};
        return;
      case TraceAction::kSegmentMap:
        return UndoMap(entry);
      case TraceAction::kSegmentUnmap:
        return UndoUnmap(entry);
      default:
        return;
    }
  }

  void UndoAlloc(size_t index, const TraceEntry& entry) {
    const auto segment = SegmentAt(entry.address);
    if (segment == segments_.end()) return Unexplained();
    const auto block = segment->second.blocks.find(entry.address);
    if (block == segment->second.blocks.end()) return Unexplained();
    if (block->second.freed_by) alloc_of_free_[*block->second.freed_by] = index;
    segment->second.blocks.erase(block);
  }

  void UndoFree(size_t index, const TraceEntry& entry) {
    const auto segment = SegmentAt(entry.address);
    if (segment == segments_.end()) return Unexplained();
    std::map<int64_t, WalkBlock>& blocks = segment->second.blocks;
    const auto next = blocks.lower_bound(entry.address);
    const int64_t segment_end = segment->first + segment->second.size.count();
    const int64_t limit = next == blocks.end() ? segment_end : next->first;
    const Bytes hole(limit - entry.address);
    if (entry.size <= 0 || entry.size > hole.count()) return Unexplained();
    Bytes size(caching::RoundSize(entry.size, settings_));
    if (size > hole) return Unexplained();
    if (!SplitsOff(segment->second, size, hole - size)) size = hole;
    blocks[entry.address] = {size, Bytes(entry.size), index, entry.stack};
  }

  // Whether the rest of a free block is split off.
  bool SplitsOff(const WalkSegment& segment, Bytes size, Bytes rest) const {
    if (!segment.large || settings_.expandable_segments) return true;
    return static_cast<uint64_t>(size.count()) < settings_.max_split_size && rest > kTooSmallToSplitLarge;
  }

  // Pages that came are taken away again, from the end (or the beginning) of a mapped run.
  void UndoMap(const TraceEntry& entry) {
    const auto run = SegmentAt(entry.address);
    if (run == segments_.end()) return Unexplained();
    const int64_t end = run->first + run->second.size.count();
    const int64_t gone_end = entry.address + entry.size;
    WalkSegment segment = std::move(run->second);
    const int64_t begin = run->first;
    segments_.erase(run);
    if (begin < entry.address) {
      WalkSegment& left = segments_[begin];
      left = segment;
      left.size = Bytes(entry.address - begin);
      left.blocks.erase(left.blocks.lower_bound(entry.address), left.blocks.end());
    }
    if (gone_end < end) {
      WalkSegment& right = segments_[gone_end];
      right = segment;
      right.size = Bytes(end - gone_end);
      right.blocks.erase(right.blocks.begin(), right.blocks.lower_bound(gone_end));
    }
  }

  // Pages that went are there again, and join their neighbours of the same stream.
  void UndoUnmap(const TraceEntry& entry) {
    WalkSegment joined{Bytes(entry.size), entry.stream, true, true, {}};
    int64_t begin = entry.address;
    const auto after = segments_.find(entry.address + entry.size);
    if (after != segments_.end() && after->second.expandable && after->second.stream == entry.stream) {
      joined.size += after->second.size;
      joined.large = after->second.large;
      joined.blocks.merge(after->second.blocks);
      segments_.erase(after);
    }
    const auto before = SegmentAt(entry.address - 1);
    if (before != segments_.end() && before->second.expandable && before->second.stream == entry.stream) {
      begin = before->first;
      joined.size += before->second.size;
      joined.large = before->second.large;
      joined.blocks.merge(before->second.blocks);
      segments_.erase(before);
    }
    segments_[begin] = std::move(joined);
  }

  void Unexplained() { ++unexplained_; }

  const Snapshot& snapshot_;
  caching::Settings settings_;
  std::map<int64_t, WalkSegment> segments_;
  std::vector<size_t> alloc_of_free_;
  std::vector<int64_t> later_addresses_;
  int64_t unexplained_ = 0;
};

// What a trace without segments says by itself, going forwards.
class ForwardWalk {
 public:
  explicit ForwardWalk(const std::vector<TraceEntry>& trace) : alloc_of_free_(trace.size(), kNone) {
    std::unordered_map<int64_t, size_t> alive;  // alloc entries, by address
    std::map<int64_t, int64_t> known;           // memory that came within the trace: begin -> end
    for (size_t i = 0; i < trace.size(); ++i) {
      const TraceEntry& entry = trace[i];
      if (entry.private_pool) continue;
      const auto holder = [&] {
        const auto after = known.upper_bound(entry.address);
        return after == known.begin() ? known.end() : std::prev(after);
      };
      switch (entry.action) {
        case TraceAction::kSegmentAlloc:
        case TraceAction::kSegmentMap:
          known[entry.address] = entry.address + entry.size;
          if (entry.action == TraceAction::kSegmentAlloc) later_addresses_.push_back(entry.address);
          break;
        case TraceAction::kAlloc: {
          alive[entry.address] = i;
          const auto found = holder();
          unknown_memory_ = unknown_memory_ || found == known.end() || found->second <= entry.address;
          break;
        }
        case TraceAction::kFreeCompleted:
          if (const auto alloc = alive.find(entry.address); alloc != alive.end()) {
            alloc_of_free_[i] = alloc->second;
            alive.erase(alloc);
          } else {
            before_.push_back(i);
          }
          break;
        default:
          break;
      }
    }
  }

  const std::vector<size_t>& alloc_of_free() const { return alloc_of_free_; }
  const std::vector<int64_t>& later_addresses() const { return later_addresses_; }
  // Frees of what was there before the trace.
  const std::vector<size_t>& before() const { return before_; }
  bool from_the_start() const { return before_.empty() && !unknown_memory_; }

 private:
  std::vector<size_t> alloc_of_free_;
  std::vector<int64_t> later_addresses_;
  std::vector<size_t> before_;
  bool unknown_memory_ = false;  // something lies where no segment of the trace is
};

// Puts the pieces together, forwards.
class ReplayBuilder {
 public:
  ReplayBuilder(const Snapshot& snapshot, const std::vector<size_t>& alloc_of_free)
      : snapshot_(snapshot), alloc_of_free_(alloc_of_free) {}

  // From the state that a walk back through the trace arrived at.
  SnapshotReplay RunFrom(const Walk& walk) {
    AddTexts();
    for (const auto& [address, segment] : walk.segments()) AddSegment(address, segment);
    result_.initial.later_addresses = walk.later_addresses();
    AddTrace();
    if (walk.unexplained() != 0) {
      result_.notes.push_back(fmt::format("{} events of the trace don't fit its segments", walk.unexplained()));
    }
    return Finish();
  }

  // From nothing but the trace.
  SnapshotReplay RunForwards(const ForwardWalk& walk) {
    AddTexts();
    for (const size_t free : walk.before()) {
      const TraceEntry& entry = snapshot_.trace[free];
      before_of_free_[free] = NewAllocation(entry.address, entry.stack);
      AddEvent(EventKind::kAlloc, before_of_free_[free]);
      result_.tape.events.back().stream = StreamNumber(entry.stream);
      result_.tape.events.back().bytes = Bytes(entry.size);
    }
    result_.initial.later_addresses = walk.later_addresses();
    AddTrace();
    if (!walk.from_the_start()) {
      result_.initial.later_addresses.clear();
      result_.incomparable = "the trace doesn't say what was there before it";
      result_.notes.push_back(
          fmt::format("there are no segments and the trace doesn't begin with its process: what was there before is "
                      "unknown, but for {} blocks that are freed later",
                      walk.before().size()));
    }
    return Finish();
  }

 private:
  void AddTexts() {
    for (size_t i = 1; i < snapshot_.stacks.size(); ++i) texts_.push_back(result_.tape.texts.Add(snapshot_.stacks[i]));
  }
  void AddTrace() {
    id_of_entry_.resize(snapshot_.trace.size());
    for (size_t i = 0; i < snapshot_.trace.size(); ++i) AddEntry(i);
  }
  SnapshotReplay Finish() {
    result_.notes.insert(result_.notes.begin(), snapshot_.notes.begin(), snapshot_.notes.end());
    if (left_out_ != 0) result_.notes.push_back(fmt::format("{} events of private pools are left out", left_out_));
    return std::move(result_);
  }

  int32_t StreamNumber(int64_t handle) {
    if (handle == 0) return 0;
    return streams_.try_emplace(handle, static_cast<int32_t>(streams_.size()) + 1).first->second;
  }

  TextId TextOf(uint32_t stack) const { return stack == 0 ? TextId() : texts_[stack - 1]; }

  AllocationId NewAllocation(int64_t address, uint32_t stack) {
    result_.addresses.push_back(address);
    return result_.tape.allocations.Add({.id = result_.tape.allocations.size(), .text = TextOf(stack)});
  }

  // Runs of pages of one pool and stream, with nothing else between them, lie in one expandable segment.
  bool Joins(int64_t address, const WalkSegment& from) const {
    if (!from.expandable || result_.initial.segments.empty()) return false;
    const InitialSegment& last = result_.initial.segments.back();
    const auto stream = streams_.find(from.stream);
    const int32_t number = from.stream == 0 ? 0 : stream == streams_.end() ? -1 : stream->second;
    return last.expandable && last.large == from.large && last.stream == number && last.address < address;
  }

  void AddSegment(int64_t address, const WalkSegment& from) {
    if (Joins(address, from)) {
      InitialSegment& last = result_.initial.segments.back();
      const Bytes gap = Bytes(address - last.address) - last.size;
      if (gap > Bytes(0)) last.blocks.push_back({gap, Bytes(0), AllocationId(), false});
      AddBlocks(address, from, last);
      last.size = Bytes(address - last.address) + from.size;
      return;
    }
    InitialSegment segment{address, from.size, StreamNumber(from.stream), from.large, from.expandable, {}};
    AddBlocks(address, from, segment);
    result_.initial.segments.push_back(std::move(segment));
  }

  void AddBlocks(int64_t address, const WalkSegment& from, InitialSegment& segment) {
    int64_t at = address;
    const auto add_hole = [&](int64_t until) {
      if (until > at) segment.blocks.push_back({Bytes(until - at), Bytes(0), AllocationId()});
    };
    for (const auto& [begin, block] : from.blocks) {
      add_hole(begin);
      const AllocationId id = NewAllocation(begin, block.stack);
      segment.blocks.push_back({block.size, block.requested, id});
      if (block.freed_by) before_of_free_[*block.freed_by] = id;
      at = begin + block.size.count();
    }
    add_hole(address + from.size.count());
  }

  void AddEntry(size_t index) {
    const TraceEntry& entry = snapshot_.trace[index];
    const bool gives_back = entry.action == TraceAction::kSegmentFree || entry.action == TraceAction::kSegmentUnmap;
    result_.maps_pages = result_.maps_pages || entry.action == TraceAction::kSegmentMap;
    if (entry.private_pool) {
      ++left_out_;
    } else if (entry.action == TraceAction::kAlloc) {
      AddAlloc(index, entry);
    } else if (entry.action == TraceAction::kFreeCompleted) {
      AddFree(index);
    } else if (gives_back && !giving_back_) {
      AddEvent(EventKind::kEmptyCache, AllocationId());
    }
    giving_back_ = gives_back;
  }

  void AddEvent(EventKind kind, AllocationId allocation) {
    Event event;
    event.kind = kind;
    event.allocation = allocation;
    result_.tape.events.push_back(event);
  }

  void AddAlloc(size_t index, const TraceEntry& entry) {
    Tape& tape = result_.tape;
    if (entry.stack != 0 && entry.stack != last_stack_) {
      tape.marks.push_back({static_cast<uint32_t>(tape.events.size()), MarkKind::kOp, TextOf(entry.stack)});
      last_stack_ = entry.stack;
    }
    const AllocationId id = NewAllocation(entry.address, entry.stack);
    id_of_entry_[index] = id;
    AddEvent(EventKind::kAlloc, id);
    tape.events.back().stream = StreamNumber(entry.stream);
    tape.events.back().bytes = Bytes(entry.size);
  }

  void AddFree(size_t index) {
    AllocationId id;
    if (const size_t alloc = alloc_of_free_[index]; alloc != kNone) {
      id = id_of_entry_[alloc];
    } else if (const auto before = before_of_free_.find(index); before != before_of_free_.end()) {
      id = before->second;
    } else {
      return;  // a free that the walk could not explain
    }
    AddEvent(EventKind::kFree, id);
  }

  const Snapshot& snapshot_;
  const std::vector<size_t>& alloc_of_free_;
  SnapshotReplay result_;
  std::vector<TextId> texts_;  // by stack - 1
  std::unordered_map<int64_t, int32_t> streams_;
  std::vector<AllocationId> id_of_entry_;
  std::unordered_map<size_t, AllocationId> before_of_free_;
  uint32_t last_stack_ = 0;
  int64_t left_out_ = 0;
  bool giving_back_ = false;
};

}  // namespace

SnapshotReplay ReplayOf(const Snapshot& snapshot) {
  if (snapshot.segments.empty() && !snapshot.trace.empty()) {
    const ForwardWalk walk(snapshot.trace);
    return ReplayBuilder(snapshot, walk.alloc_of_free()).RunForwards(walk);
  }
  Walk walk(snapshot);
  walk.Run();
  return ReplayBuilder(snapshot, walk.alloc_of_free()).RunFrom(walk);
}

AddressCheck::AddressCheck(const SnapshotReplay& recorded) : recorded_(recorded) {}

int64_t AddressCheck::ShiftOf(int64_t segment, int64_t recorded, int64_t predicted) {
  const bool there_before = segment < static_cast<int64_t>(recorded_.initial.segments.size());
  if (there_before || !recorded_.maps_pages) return 0;
  return shifts_.try_emplace(segment, recorded - predicted).first->second;
}

void AddressCheck::OnEvent(const Observation& observation) {
  if (observation.kind != EventKind::kAlloc) return;
  const bool placed = observation.outcome == AllocateOutcome::kPlaced;
  const int64_t recorded = recorded_.addresses[observation.allocation.index()];
  int64_t predicted = placed ? observation.placement.address : -1;
  if (placed) predicted += ShiftOf(observation.placement.segment, recorded, predicted);
  ++compared_;
  if (predicted == recorded) {
    ++equal_;
  } else if (first_difference_.empty()) {
    first_difference_ = fmt::format("event {}: {} bytes were at {:#x}; the replay puts them at {}", observation.event,
                                    recorded_.tape.events[observation.event].bytes.count(), recorded,
                                    !placed ? "no place" : fmt::format("{:#x}", predicted));
  }
}

}  // namespace tidemark
