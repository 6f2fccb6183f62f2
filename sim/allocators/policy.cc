#include "sim/allocators/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace tidemark {

using namespace caching;

std::string SizeText(int64_t bytes) {
  const double size = static_cast<double>(bytes);
  if (bytes < 1024) return fmt::format("{} B", bytes);
  if (bytes < 1 << 20) return fmt::format("{:.2f} KiB", size / 1024);
  if (bytes < 1 << 30) return fmt::format("{:.2f} MiB", size / (1 << 20));
  return fmt::format("{:.2f} GiB", size / (1 << 30));
}

Policy::Policy(const AllocatorOptions& options) {
  const int64_t total = options.device_memory.count();
  limit_ = total - options.process_overhead.count();
  if (options.fraction) limit_ = std::min(limit_, static_cast<int64_t>(*options.fraction * static_cast<double>(total)));
}

void Policy::Raise(Counter counter, int64_t by) {
  Stat& stat = stats_.arrays[kAll][counter];
  stat.current += by;
  if (stat.current <= stat.peak) return;
  stat.peak = stat.current;
  peak_rose_ = true;
}

void Policy::ResetPeak() {
  highest_ = peak();
  stats_.ResetPeak();
}

Placement Policy::Where(BlockHandle handle) const {
  const Block& b = blocks_[handle];
  return {b.segment, Bytes(b.offset), Bytes(b.size), b.offset};
}

Usage Policy::usage() const {
  return {Bytes(stats_.Current(kRequestedBytes)),
          Bytes(stats_.Current(kAllocatedBytes)),
          Bytes(stats_.Current(kActiveBytes)),
          Bytes(held()),
          Bytes(0),
          stats_.Current(kSegment)};
}

Usage Policy::peak() const {
  const auto highest = [&](Counter counter, Bytes before) {
    return std::max(before, Bytes(stats_.arrays[kAll][counter].peak));
  };
  return {highest(kRequestedBytes, highest_.requested),
          highest(kAllocatedBytes, highest_.allocated),
          highest(kActiveBytes, highest_.active),
          highest(kReservedBytes, highest_.reserved),
          Bytes(0),
          0};
}

Allocated Policy::HandOut(const Block& block) {
  BlockHandle handle = static_cast<BlockHandle>(blocks_.size());
  if (unused_.empty()) {
    blocks_.emplace_back();
  } else {
    handle = unused_.back();
    unused_.pop_back();
  }
  blocks_[handle] = block;
  blocks_[handle].live = true;
  Raise(kAllocation, 1);
  Raise(kActive, 1);
  Raise(kAllocatedBytes, block.size);
  Raise(kActiveBytes, block.size);
  Raise(kRequestedBytes, block.requested);
  return {AllocateOutcome::kPlaced, handle};
}

Policy::Block Policy::TakeBack(BlockHandle handle) {
  const Block block = blocks_[handle];
  blocks_[handle].live = false;
  unused_.push_back(handle);
  auto& all = stats_.arrays[kAll];
  all[kAllocation].Decrease(1);
  all[kActive].Decrease(1);
  all[kAllocatedBytes].Decrease(block.size);
  all[kActiveBytes].Decrease(block.size);
  all[kRequestedBytes].Decrease(block.requested);
  return block;
}

void Policy::Hold(int64_t bytes, int64_t segments) {
  Raise(kReservedBytes, bytes);
  Raise(kSegment, segments);
  stats_.num_device_alloc += segments;
}

void Policy::Release(int64_t bytes, int64_t segments) {
  stats_.arrays[kAll][kReservedBytes].Decrease(bytes);
  stats_.arrays[kAll][kSegment].Decrease(segments);
  stats_.num_device_free += segments;
}

Allocated Policy::Fail(AllocationId allocation, int64_t bytes, int64_t wanted, std::string message) {
  ++stats_.num_ooms;
  out_of_memory_ = OutOfMemory{.allocation = allocation, .requested = Bytes(bytes), .segment_bytes = Bytes(wanted)};
  out_of_memory_.message = std::move(message);
  return {AllocateOutcome::kOutOfMemory, kNoBlock};
}

std::vector<SegmentView> Policy::Segments() const {
  std::vector<SegmentView> views;
  for (const Extent& extent : Extents()) {
    SegmentView view;
    view.ordinal = extent.ordinal;
    view.size = Bytes(extent.size);
    view.large = true;
    views.push_back(std::move(view));
  }
  for (size_t k = 0; k < blocks_.size(); ++k) {
    if (!blocks_[k].live) continue;
    const auto view = std::ranges::lower_bound(views, blocks_[k].segment, {}, &SegmentView::ordinal);
    if (view == views.end() || view->ordinal != blocks_[k].segment) continue;
    view->blocks.push_back({Bytes(blocks_[k].offset), Bytes(blocks_[k].size), Bytes(blocks_[k].requested),
                            BlockState::kAllocated, static_cast<BlockHandle>(k)});
  }
  for (SegmentView& view : views) {
    std::ranges::sort(view.blocks, {}, &BlockView::offset);
    std::vector<BlockView> all;
    Bytes at;
    const auto gap = [&](Bytes until) {
      if (until > at) all.push_back({at, until - at, Bytes(0), BlockState::kFree, kNoBlock});
    };
    for (const BlockView& block : view.blocks) {
      gap(block.offset);
      all.push_back(block);
      at = block.offset + block.size;
    }
    gap(view.size);
    view.blocks = std::move(all);
  }
  return views;
}

}  // namespace tidemark
