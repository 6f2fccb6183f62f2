#include "sim/check_placement.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

namespace tidemark {

Status CheckPlacement(std::span<const Placed> placed, const PlacementRules& rules) {
  for (size_t k = 0; k < placed.size(); ++k) {
    const Placed& a = placed[k];
    const auto wrong = [&](std::string_view what) {
      return InvalidInput(fmt::format("allocation {} at {} of segment {}: {}", a.allocation.index(), a.offset.count(),
                                      a.segment, what));
    };
    if (a.offset < Bytes(0)) return wrong("below the segment");
    if (a.offset > rules.capacity - a.bytes) return wrong("above the capacity");
    if (a.offset % rules.alignment != Bytes(0)) return wrong("not aligned");
    const Interval range{a.offset.count(), (a.offset + a.bytes).count()};
    for (size_t j = 0; j < k; ++j) {
      const Placed& b = placed[j];
      const Interval other{b.offset.count(), (b.offset + b.bytes).count()};
      if (a.segment == b.segment && a.alive.Overlaps(b.alive) && range.Overlaps(other)) {
        return wrong(fmt::format("shares bytes with allocation {}", b.allocation.index()));
      }
    }
  }
  return {};
}

void PlacementRecorder::OnEvent(const Observation& o) {
  events_ = o.event + 1;
  if (o.outcome != AllocateOutcome::kPlaced || !o.allocation.valid()) return;
  constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  const size_t index = o.allocation.index();
  if (o.kind == EventKind::kAlloc) {
    if (index >= by_allocation_.size()) by_allocation_.resize(index + 1, kNone);
    by_allocation_[index] = static_cast<uint32_t>(placed_.size());
    placed_.push_back({o.allocation,
                       o.placement.segment,
                       o.placement.offset,
                       o.placement.block_bytes,
                       {static_cast<int64_t>(o.event), -1}});
  } else if (o.kind == EventKind::kFree && index < by_allocation_.size() && by_allocation_[index] != kNone) {
    placed_[by_allocation_[index]].alive.end = static_cast<int64_t>(o.event);
  }
}

std::vector<Placed> PlacementRecorder::Finish() && {
  for (Placed& placed : placed_) {
    if (placed.alive.end < 0) placed.alive.end = static_cast<int64_t>(events_);
  }
  return std::move(placed_);
}

}  // namespace tidemark
