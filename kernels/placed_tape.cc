#include "kernels/placed_tape.h"

#include <map>
#include <memory>

namespace tidemark {
namespace {

// Follows an allocator's segments.
class Segments {
 public:
  explicit Segments(PlacedTape& result) : result_(result) {}

  // `placed`: in this event; null: nothing was.
  void Look(const Allocator& allocator, uint32_t event, const Placement* placed) {
    LookAtSizes(allocator, event, placed);
    if (placed == nullptr) return;
    // With gaps, what a segment has is less than where its last block ends.
    const Bytes end = placed->offset + placed->block_bytes;
    Segment(placed->segment).most = std::max(Segment(placed->segment).most, end);
    const auto size = sizes_.find(placed->segment);
    if (size != sizes_.end() && end > size->second) result_.has_gaps = true;
  }

 private:
  void LookAtSizes(const Allocator& allocator, uint32_t event, const Placement* placed) {
    const Usage usage = allocator.usage();
    const bool known = placed == nullptr || sizes_.contains(placed->segment);
    if (known && usage.reserved == usage_.reserved && usage.segments == usage_.segments) return;
    usage_ = usage;
    std::map<int64_t, Bytes> now;
    for (const SegmentView& segment : allocator.Segments()) {
      now[segment.ordinal] = segment.size;
      Segment(segment.ordinal).expandable = segment.expandable;
    }
    for (const auto& [ordinal, bytes] : sizes_) {
      if (!now.contains(ordinal)) Change(event, ordinal, Bytes());
    }
    for (const auto& [ordinal, bytes] : now) {
      const auto before = sizes_.find(ordinal);
      if (before == sizes_.end() || before->second != bytes) Change(event, ordinal, bytes);
    }
    sizes_ = std::move(now);
  }
  void Change(uint32_t event, int64_t segment, Bytes bytes) {
    result_.segment_changes.push_back({event, segment, bytes});
    Segment(segment).most = std::max(Segment(segment).most, bytes);
  }
  PlacedSegment& Segment(int64_t ordinal) {
    const auto index = static_cast<size_t>(ordinal);
    if (result_.segments.size() <= index) result_.segments.resize(index + 1);
    return result_.segments[index];
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
    const Placement* placed = nullptr;
    switch (event.kind) {
      case EventKind::kAlloc: {
        const Allocated allocated = allocator->Allocate(event.allocation, event.bytes, event.stream);
        if (allocated.outcome != AllocateOutcome::kPlaced) break;
        blocks[event.allocation.index()] = allocated.block;
        result.placements[event.allocation] = allocator->Where(allocated.block);
        placed = &result.placements[event.allocation];
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
    segments.Look(*allocator, i, placed);
  }
  return result;
}

}  // namespace tidemark
