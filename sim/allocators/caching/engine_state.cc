// Tables of blocks and segments, what the outside may see of them, and the start from a given state.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "graph/base/check.h"
#include "sim/allocators/caching/engine.h"
#include "sim/allocators/caching/rounding.h"

namespace tidemark::caching {
namespace {

constexpr int64_t kAddressStep = int64_t{2} << 20;
constexpr int64_t kLowestAddress = int64_t{1} << 34;
constexpr int64_t kHighestAddress = int64_t{1} << 62;
constexpr int64_t kMostMemory = int64_t{1} << 50;

int64_t RoundUpTo(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// PyTorch's format_size.
std::string FormatSize(int64_t bytes) {
  const double size = static_cast<double>(bytes);
  if (bytes <= 1024) return fmt::format("{} bytes", bytes);
  if (bytes <= 1048576) return fmt::format("{:.2f} KiB", size / 1024);
  if (bytes <= 1073741824) return fmt::format("{:.2f} MiB", size / 1048576);
  return fmt::format("{:.2f} GiB", size / 1073741824);
}

}  // namespace

CachingAllocator::CachingAllocator(const AllocatorOptions& options, const Profile& profile, Settings settings)
    : profile_(profile),
      settings_(std::move(settings)),
      driver_(options.device_memory.count(), options.process_overhead.count()),
      clock_(options.events),
      address_order_(options.addresses) {
  private_pools_.push_back(PrivatePool{.number = 0, .small = 0, .large = 1});
  pools_.push_back(BlockPool{.small = true});
  pools_.push_back(BlockPool{.small = false});
  dense_streams_.emplace(0, 0);
  next_address_ = address_order_ == AddressOrder::kRising ? kLowestAddress : kHighestAddress;
  stats_.max_split_size = static_cast<int64_t>(settings_.max_split_size);
  // A fraction sets a limit: set_per_process_memory_fraction, or the conf string when the device allocator is made.
  const double total = options.device_memory / Bytes(1);
  const double configured = settings_.per_process_memory_fraction;
  rejection_limit_ = static_cast<int64_t>(configured * total);
  if (profile_.whole_fraction_is_no_limit) {
    const double fraction = options.fraction.value_or(configured);
    if (fraction < 1) limit_ = static_cast<int64_t>(std::round(fraction * total));
  } else if (options.fraction || configured < 1) {
    limit_ = static_cast<int64_t>(options.fraction.value_or(configured) * total);
  }
}

Result<std::unique_ptr<Allocator>> CachingAllocator::Create(const AllocatorOptions& options) {
  ASSIGN_OR_RETURN(const Profile* profile, FindProfile(options.framework));
  Result<Settings> settings = ParseSettings(options.conf, *profile);
  if (!settings.ok()) return InvalidInput(fmt::format("conf \"{}\": {}", options.conf, settings.error().message));
  std::unique_ptr<CachingAllocator> allocator(new CachingAllocator(options, *profile, *std::move(settings)));
  if (options.initial != nullptr) RETURN_IF_ERROR(allocator->Seed(*options.initial));
  return std::unique_ptr<Allocator>(std::move(allocator));
}

// A segment that is one block, neither free nor handed out yet.
SegmentId CachingAllocator::NewSegment(int64_t size, const Request& request, bool expandable) {
  SegmentId id = static_cast<SegmentId>(segments_.size());
  if (free_segments_.empty()) {
    segments_.emplace_back();
  } else {
    id = free_segments_.back();
    free_segments_.pop_back();
  }
  const BlockId block = NewBlock();
  Segment& segment = segments_[id];
  segment = Segment{.ordinal = expandable ? -1 : next_ordinal_++, .size = size, .first = block};
  segment.stream = request.stream;
  segment.pool = request.pool;
  segment.expandable = expandable;
  segment.live = true;
  const int64_t room = RoundUpTo(size, kAddressStep);
  if (later_address_ < later_addresses_.size()) {
    segment.address = later_addresses_[later_address_++];
  } else if (address_order_ == AddressOrder::kRising) {
    segment.address = next_address_;
    next_address_ += room;
  } else {
    segment.address = next_address_ -= room;
  }
  if (profile_.ties == TieOrder::kAddress) {
    segment.position = segment.address;
  } else {
    segment.position = next_position_;
    next_position_ += room;
  }
  Block& b = blocks_[block];
  b.position = segment.position;
  b.size = size;
  b.segment = id;
  b.index = request.index;
  b.expandable = expandable;
  b.small = pools_[request.pool].small;
  return id;
}

void CachingAllocator::ResetPeak() {
  highest_ = peak();
  stats_.ResetPeak();
}

Placement CachingAllocator::Where(BlockHandle block) const {
  const Block& b = blocks_[block];
  const Segment& segment = segments_[b.segment];
  const int64_t offset = b.position - segment.position;
  return {segment.ordinal, Bytes(offset), Bytes(b.size), segment.address + offset};
}

Usage CachingAllocator::usage() const {
  return {Bytes(stats_.Current(kRequestedBytes)),     Bytes(stats_.Current(kAllocatedBytes)),
          Bytes(stats_.Current(kActiveBytes)),        Bytes(stats_.Current(kReservedBytes)),
          Bytes(stats_.Current(kInactiveSplitBytes)), stats_.Current(kSegment)};
}

Usage CachingAllocator::peak() const {
  const auto highest = [&](Counter counter, Bytes before) {
    return std::max(before, Bytes(stats_.arrays[kAll][counter].peak));
  };
  return {highest(kRequestedBytes, highest_.requested),
          highest(kAllocatedBytes, highest_.allocated),
          highest(kActiveBytes, highest_.active),
          highest(kReservedBytes, highest_.reserved),
          highest(kInactiveSplitBytes, highest_.inactive_split),
          0};
}

std::vector<SegmentView> CachingAllocator::Segments() const {
  std::vector<SegmentView> views;
  for (const Segment& segment : segments_) {
    if (!segment.live || segment.ordinal < 0) continue;
    SegmentView view;
    view.ordinal = segment.ordinal;
    view.address = segment.address;
    view.stream = segment.stream;
    view.large = !pools_[segment.pool].small;
    view.expandable = segment.expandable;
    if (const uint32_t owner = pools_[segment.pool].owner; owner != 0) view.pool = private_pools_[owner].number;
    for (BlockId id = segment.first; id != kNone; id = blocks_[id].next) {
      const Block& b = blocks_[id];
      if (!b.mapped) continue;
      const bool pending = !b.allocated && b.uses != kNone;
      view.size += Bytes(b.size);
      view.blocks.push_back({Bytes(b.position - segment.position), Bytes(b.size),
                             Bytes(b.allocated || pending ? b.requested : 0),
                             b.allocated ? BlockState::kAllocated
                             : pending   ? BlockState::kPendingFree
                                         : BlockState::kFree,
                             b.allocated || pending ? id : kNoBlock});
    }
    views.push_back(std::move(view));
  }
  std::ranges::sort(views, {}, &SegmentView::ordinal);
  return views;
}

Allocated CachingAllocator::FailTooLarge(AllocationId allocation, const Request& request) {
  out_of_memory_ = OutOfMemory{.allocation = allocation, .requested = Bytes(request.bytes)};
  out_of_memory_.message = "CUDA out of memory. Tried to allocate more than 1EB memory.";
  return {AllocateOutcome::kOutOfMemory, kNoBlock};
}

Allocated CachingAllocator::Fail(AllocationId allocation, const Request& request) {
  out_of_memory_ =
      OutOfMemory{.allocation = allocation, .requested = Bytes(request.bytes), .segment_bytes = Bytes(request.segment)};
  if (request.rejected) {
    out_of_memory_.message = fmt::format(
        "CUDA out of memory. Allocation was preemptively rejected because it would exceed "
        "per_process_memory_fraction limit. Requested size: {}",
        FormatSize(request.bytes));
  } else {
    ++stats_.num_ooms;
    out_of_memory_.message = OutOfMemoryMessage(request);
  }
  return {AllocateOutcome::kOutOfMemory, kNoBlock};
}

// The exception's text. What is free in private pools counts as allocated there, since nobody else can have it.
std::string CachingAllocator::OutOfMemoryMessage(const Request& request) const {
  int64_t private_free = 0;
  for (const Segment& segment : segments_) {
    if (!segment.live || pools_[segment.pool].owner == 0) continue;
    for (BlockId id = segment.first; id != kNone; id = blocks_[id].next) {
      if (blocks_[id].mapped && IsIdle(blocks_[id])) private_free += blocks_[id].size;
    }
  }
  const int64_t allocated = stats_.Current(kAllocatedBytes) + private_free;
  std::string text = fmt::format(
      "CUDA out of memory. Tried to allocate {}. GPU 0 has a total capacity of {} of which {} is free. Including "
      "non-PyTorch "
      "memory, this process has {} memory in use. ",
      FormatSize(request.segment), FormatSize(driver_.total()), FormatSize(driver_.free()), FormatSize(driver_.used()));
  if (limit_) text += fmt::format("{} allowed; ", FormatSize(*limit_));
  text += fmt::format("Of the allocated memory {} is allocated by PyTorch, ", FormatSize(allocated));
  if (private_free > 0) {
    text += fmt::format("with {} allocated in private pools (e.g., CUDA Graphs), ", FormatSize(private_free));
  }
  text += fmt::format("and {} is reserved by PyTorch but unallocated.",
                      FormatSize(stats_.Current(kReservedBytes) - allocated));
  if (!settings_.expandable_segments || !profile_.advice_unless_expandable) {
    text += fmt::format(
        " If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to "
        "avoid "
        "fragmentation.  See documentation for Memory Management  ({})",
        profile_.documentation);
  } else if (settings_.expandable_segments_reserve && request.segment > AddressSpace()) {
    text += fmt::format(
        " This allocation exceeds the expandable-segment reserve of {} for this stream, and a single allocation cannot "
        "span expandable segments. Raise PYTORCH_CUDA_ALLOC_CONF expandable_segments_reserve or "
        "expandable_segments_reserve_by_class (or unset it) so that a segment is at least {}.",
        FormatSize(AddressSpace()), FormatSize(request.segment));
  } else {
    text += profile_.expandable_advice;
  }
  return text;
}

Status CachingAllocator::Seed(const InitialState& initial) {
  later_addresses_ = initial.later_addresses;
  std::vector<const InitialSegment*> by_address;
  for (const InitialSegment& segment : initial.segments) by_address.push_back(&segment);
  std::ranges::stable_sort(by_address, {}, [](const InitialSegment* segment) { return segment->address; });
  for (const InitialSegment* segment : by_address) RETURN_IF_ERROR(SeedSegment(*segment));
  if (address_order_ == AddressOrder::kFalling && !by_address.empty()) {
    next_address_ = by_address.front()->address / kAddressStep * kAddressStep;
  }
  stats_.StartHere();
  return {};
}

Status CachingAllocator::SeedSegment(const InitialSegment& initial) {
  const auto wrong = [&](std::string_view what) {
    return InvalidInput(fmt::format("initial segment at {:#x}: {}", initial.address, what));
  };
  if (initial.size <= Bytes(0) || initial.size > Bytes(kMostMemory) || initial.address < 0 ||
      initial.address > kHighestAddress) {
    return wrong("address or size out of range");
  }
  Bytes sum;
  Bytes mapped;
  for (const InitialBlock& block : initial.blocks) {
    if (block.size <= Bytes(0) || block.size > initial.size - sum || block.requested < Bytes(0)) {
      return wrong("blocks of no size, or more than there is room for");
    }
    sum += block.size;
    if (block.mapped) mapped += block.size;
  }
  if (sum != initial.size) return wrong("blocks don't add up to it");
  if (!driver_.Take(mapped.count())) return wrong("more than the device has");
  if (initial.expandable && settings_.expandable_segments && IsOfWholePages(initial)) {
    SeedExpandable(initial);
    return {};
  }
  // What has memory in a row becomes a segment that can't grow.
  InitialSegment run = initial;
  run.blocks.clear();
  int64_t address = initial.address;
  for (const InitialBlock& block : initial.blocks) {
    if (run.blocks.empty()) run.address = address;
    if (block.mapped) run.blocks.push_back(block);
    if (!block.mapped && !run.blocks.empty())
      SeedPlain(std::exchange(run, InitialSegment{run.address, {}, run.stream, run.large}));
    address += block.size.count();
  }
  if (!run.blocks.empty()) SeedPlain(run);
  return {};
}

SegmentId CachingAllocator::NewSegmentAt(int64_t address, int64_t size, const Request& request, bool expandable) {
  std::vector<int64_t> later = std::exchange(later_addresses_, {address});
  const size_t at = std::exchange(later_address_, 0);
  const SegmentId segment = NewSegment(size, request, expandable);
  later_addresses_ = std::move(later);
  later_address_ = at;
  if (address_order_ == AddressOrder::kRising) {
    next_address_ = std::max(next_address_, RoundUpTo(address + size, kAddressStep));
  }
  return segment;
}

void CachingAllocator::SeedPlain(const InitialSegment& initial) {
  int64_t size = 0;
  for (const InitialBlock& block : initial.blocks) size += block.size.count();
  Request request;
  request.stream = initial.stream;
  request.pool = initial.large ? 1 : 0;
  request.index = IndexFor(request.pool, initial.stream);
  const SegmentId segment = NewSegmentAt(initial.address, size, request, /*expandable=*/false);
  const PoolClass pool = initial.large ? kLargePool : kSmallPool;
  held_ += size;
  stats_.Increase(kSegment, pool, 1);
  stats_.Increase(kReservedBytes, pool, size);
  if (IsOversize(size)) stats_.oversize_segments.Increase(1);
  SeedBlocks(segment, initial.blocks);
}

// Whether memory comes and ends at pages counted from the segment's beginning.
bool CachingAllocator::IsOfWholePages(const InitialSegment& initial) const {
  const int64_t page = initial.large ? static_cast<int64_t>(settings_.large_segment_size) : kSmallBuffer;
  int64_t at = 0;
  bool mapped = true;
  for (const InitialBlock& block : initial.blocks) {
    if (std::exchange(mapped, block.mapped) != block.mapped && at % page != 0) return false;
    at += block.size.count();
  }
  return at % page == 0 && mapped && initial.blocks.front().mapped;
}

// The address space around it is that of a segment which begins where it does.
void CachingAllocator::SeedExpandable(const InitialSegment& initial) {
  const int64_t page = initial.large ? static_cast<int64_t>(settings_.large_segment_size) : kSmallBuffer;
  const int64_t wanted = RoundUpTo(std::max<int64_t>(AddressSpace(), 1), page);
  const int64_t size = std::max(wanted, initial.size.count());
  Request request;
  request.stream = initial.stream;
  request.pool = initial.large ? 1 : 0;
  request.index = IndexFor(request.pool, initial.stream);
  const SegmentId segment = NewSegmentAt(initial.address, size, request, /*expandable=*/true);
  segments_[segment].ordinal = next_ordinal_++;
  std::vector<InitialBlock> blocks = initial.blocks;
  if (size > initial.size.count()) blocks.push_back({Bytes(size) - initial.size, Bytes(0), AllocationId(), false});
  int64_t mapped = 0;
  for (const InitialBlock& block : blocks) mapped += block.mapped ? block.size.count() : 0;
  held_ += mapped;
  stats_.Increase(kReservedBytes, initial.large ? kLargePool : kSmallPool, mapped);
  SeedBlocks(segment, blocks);
}

// Cuts a new segment into the blocks given. REQUIRES: they add up to it.
void CachingAllocator::SeedBlocks(SegmentId segment, std::span<const InitialBlock> blocks) {
  BlockId block = segments_[segment].first;
  int64_t position = segments_[segment].position;
  for (size_t k = 0; k < blocks.size(); ++k) {
    if (k > 0) {
      const BlockId before = std::exchange(block, NewBlock());
      blocks_[block] = blocks_[before];
      blocks_[block].prev = before;
      blocks_[before].next = block;
    }
    Block& b = blocks_[block];
    b.position = position;
    b.size = blocks[k].size.count();
    b.requested = blocks[k].requested.count();
    b.allocated = blocks[k].allocation.valid();
    b.mapped = blocks[k].mapped;
    position += b.size;
  }
  size_t k = 0;
  for (block = segments_[segment].first; block != kNone; block = blocks_[block].next, ++k) {
    const Block& b = blocks_[block];
    const PoolClass pool = ClassOf(b);
    if (!b.mapped) {
      InsertUnmapped(block);
      continue;
    }
    if (!b.allocated) {
      InsertFree(block);
      if (!b.IsSplit() || b.expandable) continue;
      stats_.Increase(kInactiveSplit, pool, 1);
      stats_.Increase(kInactiveSplitBytes, pool, b.size);
      continue;
    }
    seeded_.push_back({blocks[k].allocation, block});
    stats_.Increase(kAllocation, pool, 1);
    stats_.Increase(kActive, pool, 1);
    stats_.Increase(kAllocatedBytes, pool, b.size);
    stats_.Increase(kActiveBytes, pool, b.size);
    stats_.Increase(kRequestedBytes, pool, b.requested);
    if (IsOversize(b.size)) stats_.oversize_allocations.Increase(1);
  }
}

}  // namespace tidemark::caching
