#include "kernels/placed_tape.h"

#include <map>
#include <memory>

namespace tidemark {
namespace {

// Follows an allocator's segments.
class Segments {
 public:
  explicit Segments(PlacedTape& result) : result_(result) {}

  void Look(const Allocator& allocator, uint32_t event, int64_t placed_in) {
    const Usage usage = allocator.usage();
    const bool known = placed_in < 0 || sizes_.contains(placed_in);
    if (known && usage.reserved == usage_.reserved && usage.segments == usage_.segments) return;
    usage_ = usage;
    std::map<int64_t, Bytes> now;
    for (const SegmentView& segment : allocator.Segments()) now[segment.ordinal] = segment.size;
    for (const auto& [ordinal, bytes] : sizes_) {
      if (!now.contains(ordinal)) Change(event, ordinal, Bytes());
    }
    for (const auto& [ordinal, bytes] : now) {
      const auto before = sizes_.find(ordinal);
      if (before == sizes_.end() || before->second != bytes) Change(event, ordinal, bytes);
    }
    sizes_ = std::move(now);
  }

 private:
  void Change(uint32_t event, int64_t segment, Bytes bytes) {
    result_.segment_changes.push_back({event, segment, bytes});
    const auto index = static_cast<size_t>(segment);
    if (result_.largest.size() <= index) result_.largest.resize(index + 1);
    result_.largest[index] = std::max(result_.largest[index], bytes);
  }

  PlacedTape& result_;
  std::map<int64_t, Bytes> sizes_;
  Usage usage_;
};

}  // namespace

Result<PlacedTape> Place(const Tape& tape, const AllocatorOptions& options) {
  PlacedTape result;
  ASSIGN_OR_RETURN(result.replay, RunReplay(tape, {.allocator = options, .stop_at_out_of_memory = true}));
  ASSIGN_OR_RETURN(const std::unique_ptr<Allocator> allocator, MakeAllocator(options));
  RETURN_IF_ERROR(allocator->Plan(tape));
  result.placements.resize(tape.allocations.size());
  std::vector<BlockHandle> blocks(tape.allocations.size(), kNoBlock);
  Segments segments(result);
  for (uint32_t i = 0; i < result.replay.events; ++i) {
    const Event& event = tape.events[i];
    int64_t placed_in = -1;
    switch (event.kind) {
      case EventKind::kAlloc: {
        const Allocated allocated = allocator->Allocate(event.allocation, event.bytes, event.stream);
        if (allocated.outcome != AllocateOutcome::kPlaced) break;
        blocks[event.allocation.index()] = allocated.block;
        const Placement placement = allocator->Where(allocated.block);
        result.placements[event.allocation] = placement;
        placed_in = placement.segment;
        // An expandable segment's free end isn't part of its size.
        const Bytes end = placement.offset + placement.block_bytes;
        if (static_cast<size_t>(placed_in) >= result.largest.size()) result.largest.resize(placed_in + size_t{1});
        result.largest[static_cast<size_t>(placed_in)] = std::max(result.largest[static_cast<size_t>(placed_in)], end);
        break;
      }
      case EventKind::kFree:
        if (blocks[event.allocation.index()] != kNoBlock) allocator->Free(blocks[event.allocation.index()]);
        break;
      case EventKind::kRecordStream:
        if (blocks[event.allocation.index()] != kNoBlock) {
          allocator->RecordStream(blocks[event.allocation.index()], event.stream);
        }
        break;
      case EventKind::kSynchronize:
        allocator->Synchronize();
        break;
      case EventKind::kEmptyCache:
        allocator->EmptyCache();
        break;
      case EventKind::kResetPeak:
        allocator->ResetPeak();
        break;
      default:
        allocator->PoolEvent(event);
        break;
    }
    segments.Look(*allocator, i, placed_in);
  }
  return result;
}

}  // namespace tidemark
