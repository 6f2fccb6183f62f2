#include "sim/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <utility>

#include "graph/base/check.h"
#include "sim/id_table.h"

namespace tidemark {
namespace {

// What became of an allocation: a block's handle, or one of these.
constexpr BlockHandle kFailed = kNoBlock - 1;
constexpr BlockHandle kZero = kNoBlock - 2;

AllocateOutcome OutcomeOf(BlockHandle handle) {
  if (handle == kFailed) return AllocateOutcome::kOutOfMemory;
  return handle == kZero ? AllocateOutcome::kZeroBytes : AllocateOutcome::kPlaced;
}

// Drives an allocator event by event and keeps what a Replay holds.
class Driver {
 public:
  Driver(Allocator& allocator, const ReplayOptions& options) : allocator_(allocator), options_(options) {}

  // The handle of the allocation, or kFailed or kZero.
  BlockHandle Allocate(AllocationId allocation, Bytes bytes, int32_t stream) {
    const Allocated result = allocator_.Allocate(allocation, bytes, stream);
    if (allocator_.TakePeakRose()) NotePeaks();
    if (result.outcome == AllocateOutcome::kPlaced) return result.block;
    if (result.outcome == AllocateOutcome::kZeroBytes) return kZero;
    if (result.outcome == AllocateOutcome::kOutOfMemory) NoteFailure(allocation);
    return kFailed;
  }
  void Free(BlockHandle handle) {
    if (handle < kZero) allocator_.Free(handle);
  }
  void RecordStream(BlockHandle handle, int32_t stream) {
    if (handle < kZero) allocator_.RecordStream(handle, stream);
  }
  void Other(const Event& event) {
    switch (event.kind) {
      case EventKind::kSynchronize:
        return allocator_.Synchronize();
      case EventKind::kEmptyCache:
        return allocator_.EmptyCache();
      case EventKind::kResetPeak:
        return allocator_.ResetPeak();
      default:
        return allocator_.PoolEvent(event);
    }
  }

  bool watched() const { return !options_.observers.empty(); }
  Placement Where(BlockHandle handle) const { return handle < kZero ? allocator_.Where(handle) : Placement{}; }
  void Tell(EventKind kind, AllocationId allocation, uint64_t id, BlockHandle handle, const Placement& placement) {
    const Observation observation{event_, kind, allocation, id, OutcomeOf(handle), placement, allocator_.usage()};
    for (ReplayObserver* observer : options_.observers) observer->OnEvent(observation);
  }

  // What is there before the first event counts, too.
  void Begin() { NotePeaks(); }
  // False: the replay ends here.
  bool NextEvent() {
    ++event_;
    return !(options_.stop_at_out_of_memory && replay_.failures > 0);
  }
  uint64_t event() const { return event_; }

  Result<Replay> Finish(const std::string& place) && {
    if (!allocator_.unsupported().empty()) {
      return InvalidInput(
          fmt::format("{}: event {} or one before it can't be simulated: {}", place, event_, allocator_.unsupported()));
    }
    replay_.events = event_;
    replay_.final_usage = allocator_.usage();
    replay_.statistics = allocator_.Statistics();
    return std::move(replay_);
  }

 private:
  void NotePeaks() {
    const Usage peak = allocator_.peak();
    const auto note = [&](Peak& highest, Bytes bytes) {
      if (bytes > highest.bytes) highest = Peak{bytes, static_cast<uint32_t>(event_)};
    };
    note(replay_.requested, peak.requested);
    note(replay_.allocated, peak.allocated);
    note(replay_.active, peak.active);
    note(replay_.reserved, peak.reserved);
  }
  void NoteFailure(AllocationId allocation) {
    if (++replay_.failures > static_cast<int64_t>(Replay::kMaxFailures)) return;
    replay_.out_of_memory.push_back(allocator_.last_out_of_memory());
    replay_.out_of_memory.back().event = static_cast<uint32_t>(event_);
    replay_.out_of_memory.back().allocation = allocation;
  }

  Allocator& allocator_;
  const ReplayOptions& options_;
  Replay replay_;
  uint64_t event_ = 0;
};

std::vector<BlockHandle> HandlesOf(const Allocator& allocator, const Tape& tape) {
  std::vector<BlockHandle> handles(tape.allocations.size(), kFailed);
  for (const SeededBlock& seeded : allocator.SeededBlocks()) {
    if (seeded.allocation.index() < handles.size()) handles[seeded.allocation.index()] = seeded.block;
  }
  return handles;
}

// Events [0, end) without anybody watching: the fast way.
void RunUnwatched(const Tape& tape, size_t end, std::vector<BlockHandle>& handles, Driver& driver) {
  for (size_t k = 0; k < end; ++k) {
    const Event& event = tape.events[k];
    switch (event.kind) {
      case EventKind::kAlloc:
        handles[event.allocation.index()] = driver.Allocate(event.allocation, event.bytes, event.stream);
        break;
      case EventKind::kFree:
        driver.Free(handles[event.allocation.index()]);
        break;
      case EventKind::kRecordStream:
        driver.RecordStream(handles[event.allocation.index()], event.stream);
        break;
      default:
        driver.Other(event);
        break;
    }
    if (!driver.NextEvent()) break;
  }
}

void RunWatched(const Tape& tape, std::vector<BlockHandle>& handles, Driver& driver) {
  for (const Event& event : tape.events) {
    BlockHandle handle = kFailed;
    Placement placement;
    if (event.allocation.valid()) {
      BlockHandle& known = handles[event.allocation.index()];
      if (event.kind == EventKind::kAlloc) known = driver.Allocate(event.allocation, event.bytes, event.stream);
      handle = known;
      placement = driver.Where(handle);
      if (event.kind == EventKind::kFree) driver.Free(handle);
      if (event.kind == EventKind::kRecordStream) driver.RecordStream(handle, event.stream);
    } else {
      driver.Other(event);
    }
    const uint64_t id = event.allocation.valid() ? tape.allocations[event.allocation].id : 0;
    driver.Tell(event.kind, event.allocation, id, handle, placement);
    if (!driver.NextEvent()) break;
  }
}

}  // namespace

Result<Replay> RunReplay(const Tape& tape, const ReplayOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Allocator> allocator, MakeAllocator(options.allocator));
  RETURN_IF_ERROR(allocator->Plan(tape));
  std::vector<BlockHandle> handles = HandlesOf(*allocator, tape);
  Driver driver(*allocator, options);
  driver.Begin();
  if (driver.watched()) {
    RunWatched(tape, handles, driver);
  } else {
    RunUnwatched(tape, tape.events.size(), handles, driver);
  }
  return std::move(driver).Finish("tape");
}

namespace {

Event EventOf(const TapeLine& line) {
  Event event;
  constexpr std::string_view kLetters = "afsyerBERXUNCD";
  event.kind = static_cast<EventKind>(kLetters.find(line.kind));
  event.stream = line.stream;
  event.pool = line.pool;
  event.bytes = Bytes(line.bytes);
  return event;
}

// Live ids of a streamed tape, and those that were used before.
class LiveIds {
 public:
  // Returns what is wrong, or an empty text.
  std::string Add(uint64_t id, BlockHandle handle) {
    if (!used_.Insert(id)) return fmt::format("ID {} was allocated before: IDs are never used again", id);
    live_.Insert(id, handle);
    return {};
  }
  BlockHandle Find(uint64_t id) const { return live_.Find(id); }  // kNoBlock: none
  void Remove(uint64_t id) { live_.Erase(id); }

 private:
  IdTable live_;
  IdSet used_;
};

}  // namespace

Result<Replay> RunReplay(TapeReader& reader, const ReplayOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Allocator> allocator, MakeAllocator(options.allocator));
  if (allocator->needs_whole_tape()) {
    return InvalidInput(
        fmt::format("allocator {} plans for a whole tape: it can't be streamed", options.allocator.backend));
  }
  LiveIds ids;
  Driver driver(*allocator, options);
  TapeLine line;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, reader.Next(&line));
    if (!more) break;
    if (line.kind == 'o' || line.kind == 'p' || line.kind == 't') continue;
    const Event event = EventOf(line);
    BlockHandle handle = kFailed;
    Placement placement;
    if (line.kind == 'a') {
      handle = driver.Allocate(AllocationId(), event.bytes, event.stream);
      if (std::string wrong = ids.Add(line.id, handle); !wrong.empty()) return reader.ErrorHere(wrong);
    } else if (line.kind == 'f' || line.kind == 's') {
      handle = ids.Find(line.id);
      if (handle == kNoBlock) return reader.ErrorHere(fmt::format("ID {} isn't allocated here", line.id));
    } else {
      driver.Other(event);
    }
    if (driver.watched()) placement = driver.Where(handle);
    if (line.kind == 's') driver.RecordStream(handle, event.stream);
    if (line.kind == 'f') {
      driver.Free(handle);
      ids.Remove(line.id);
    }
    if (driver.watched()) driver.Tell(event.kind, AllocationId(), line.id, handle, placement);
    if (!driver.NextEvent()) break;
  }
  return std::move(driver).Finish("tape");
}

Result<MemoryState> StateAt(const Tape& tape, const AllocatorOptions& options, uint32_t event) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Allocator> allocator, MakeAllocator(options));
  RETURN_IF_ERROR(allocator->Plan(tape));
  std::vector<BlockHandle> handles = HandlesOf(*allocator, tape);
  ReplayOptions replay_options;
  replay_options.allocator = options;
  Driver driver(*allocator, replay_options);
  RunUnwatched(tape, std::min<size_t>(tape.events.size(), size_t{event} + 1), handles, driver);
  if (!allocator->unsupported().empty()) return InvalidInput(allocator->unsupported());
  MemoryState state{.event = event, .usage = allocator->usage(), .live = {}, .segments = allocator->Segments()};
  // Handles are used again; the allocation that had one last is the one that has it.
  std::unordered_map<BlockHandle, AllocationId> owners;
  for (size_t k = 0; k < handles.size(); ++k) {
    if (handles[k] < kZero) owners[handles[k]] = AllocationId(k);
  }
  for (size_t k = 0; k <= event && k < tape.events.size(); ++k) {
    const Event& e = tape.events[k];
    if (e.kind == EventKind::kAlloc && handles[e.allocation.index()] < kZero) {
      owners[handles[e.allocation.index()]] = e.allocation;
    }
  }
  for (const SegmentView& segment : state.segments) {
    for (const BlockView& block : segment.blocks) {
      if (block.state == BlockState::kFree) continue;
      state.live.push_back({owners[block.handle], block.requested, block.size, segment.ordinal, block.offset,
                            block.state == BlockState::kPendingFree});
    }
  }
  return state;
}

Fragmentation MeasureFragmentation(const MemoryState& state) {
  Fragmentation f;
  f.event = state.event;
  f.usage = state.usage;
  f.cached_free = state.usage.reserved - state.usage.active;
  size_t live = 0;
  for (const SegmentView& segment : state.segments) {
    PinnedSegment pinned{.segment = segment.ordinal, .size = segment.size, .live = {}, .pinned_by = {}};
    Bytes free;
    for (const BlockView& block : segment.blocks) {
      if (block.state == BlockState::kFree) {
        free += block.size;
        ++f.free_blocks;
        f.largest_free = std::max(f.largest_free, block.size);
        continue;
      }
      if (block.state == BlockState::kAllocated) f.rounding += block.size - block.requested;
      pinned.live += block.size;
      pinned.pinned_by.push_back(state.live[live++]);
    }
    (pinned.pinned_by.empty() ? f.free_whole : f.inactive_split) += free;
    if (!pinned.pinned_by.empty() && free > Bytes(0)) f.pinned.push_back(std::move(pinned));
  }
  std::ranges::stable_sort(f.pinned, std::ranges::greater(), [](const PinnedSegment& s) { return s.size - s.live; });
  return f;
}

Peak LiveBytesPeak(const Tape& tape, const InitialState* initial) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  std::vector<int64_t> sizes(tape.allocations.size());
  int64_t live = 0;
  if (initial != nullptr) {
    for (const InitialSegment& segment : initial->segments) {
      for (const InitialBlock& block : segment.blocks) {
        if (!block.allocation.valid()) continue;
        int64_t& size = sizes[block.allocation.index()];
        size = std::min(block.requested.count(), kMost - live);
        live += size;
      }
    }
  }
  Peak peak{Bytes(live), 0};
  for (size_t k = 0; k < tape.events.size(); ++k) {
    const Event& event = tape.events[k];
    if (event.kind == EventKind::kAlloc) {
      // Sums that don't fit stay at the top; what was left out isn't taken off again.
      int64_t& size = sizes[event.allocation.index()];
      size = std::min(event.bytes.count(), kMost - live);
      live += size;
      if (Bytes(live) > peak.bytes) peak = Peak{Bytes(live), static_cast<uint32_t>(k)};
    } else if (event.kind == EventKind::kFree) {
      live -= sizes[event.allocation.index()];
    }
  }
  return peak;
}

}  // namespace tidemark
