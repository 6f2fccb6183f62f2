#include "sim/allocators/static_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "sim/allocators/policy.h"
#include "sim/planners/plan.h"
#include "sim/replay.h"

namespace tidemark {
namespace {

constexpr int64_t kStep = 512;
constexpr int64_t kMostBytes = int64_t{1} << 60;

// Lifetimes and sizes (in steps of 512 bytes) of a tape's allocations that have a size.
struct TapeBuffers {
  std::vector<PlanBuffer> buffers;
  std::vector<AllocationId> allocations;
};

Result<TapeBuffers> BuffersOf(const Tape& tape, EventTiming events) {
  constexpr int64_t kAlive = -1;
  std::vector<Interval> lives(tape.allocations.size(), Interval{kAlive, kAlive});
  std::vector<Bytes> sizes(tape.allocations.size());
  std::vector<bool> shared(tape.allocations.size());
  std::vector<AllocationId> waiting;
  const int64_t end = static_cast<int64_t>(tape.events.size());
  for (int64_t k = 0; k < end; ++k) {
    const Event& event = tape.events[static_cast<size_t>(k)];
    const size_t id = event.allocation.valid() ? event.allocation.index() : 0;
    if (event.kind == EventKind::kAlloc) {
      if (event.bytes.count() >= kMostBytes) {
        return InvalidInput(fmt::format("allocation {} of {} bytes can't be planned",
                                        tape.allocations[event.allocation].id, event.bytes.count()));
      }
      lives[id] = {k, end};
      sizes[id] = event.bytes;
    } else if (event.kind == EventKind::kRecordStream) {
      shared[id] = events == EventTiming::kLazy;
    } else if (event.kind == EventKind::kFree) {
      if (shared[id]) waiting.push_back(event.allocation);
      if (!shared[id]) lives[id].end = k;
    } else if (event.kind == EventKind::kSynchronize || event.kind == EventKind::kEmptyCache) {
      for (const AllocationId allocation : std::exchange(waiting, {})) lives[allocation.index()].end = k;
    }
  }
  TapeBuffers out;
  for (size_t k = 0; k < lives.size(); ++k) {
    if (lives[k].begin == kAlive || sizes[k] == Bytes(0)) continue;
    out.buffers.push_back({lives[k], (sizes[k].count() + kStep - 1) / kStep});
    out.allocations.push_back(AllocationId(k));
  }
  return out;
}

using Planner = StaticPlan (*)(std::span<const PlanBuffer>, int64_t capacity);

class Static final : public Policy {
 public:
  Static(const AllocatorOptions& options, Planner planner)
      : Policy(options), planner_(planner), events_(options.events) {}

  Status Plan(const Tape& tape) override {
    ASSIGN_OR_RETURN(const TapeBuffers input, BuffersOf(tape, events_));
    const StaticPlan plan = planner_(input.buffers, limit() / kStep);
    offsets_.assign(tape.allocations.size(), 0);
    for (size_t k = 0; k < input.buffers.size(); ++k) offsets_[input.allocations[k].index()] = plan.offsets[k] * kStep;
    height_ = plan.height * kStep;
    return {};
  }
  bool needs_whole_tape() const override { return true; }

  Allocated Allocate(AllocationId allocation, Bytes bytes, int32_t stream) override {
    if (bytes == Bytes(0)) return {AllocateOutcome::kZeroBytes, kNoBlock};
    const int64_t size = RoundUp(bytes, Bytes(kStep)).count();
    const int64_t offset = offsets_[allocation.index()];
    if (offset > limit() - size) {
      return Fail(allocation, bytes.count(), offset + size,
                  fmt::format("the plan needs {}, {} are there: {} bytes at {} lie above", SizeText(height_),
                              SizeText(limit()), bytes.count(), offset));
    }
    if (held() == 0) Hold(std::min(height_, limit()), 1);
    return HandOut({.segment = 0, .offset = offset, .size = size, .requested = bytes.count(), .stream = stream});
  }
  void Free(BlockHandle block) override { TakeBack(block); }

 private:
  std::vector<Extent> Extents() const override { return {{0, held()}}; }

  Planner planner_;
  EventTiming events_;
  std::vector<int64_t> offsets_;
  int64_t height_ = 0;
};

StaticPlan Strong(std::span<const PlanBuffer> buffers, int64_t capacity) {
  // A capacity that is below what is alive can't be had; one far above gives no reason to stop early.
  const int64_t bound = LiveLowerBound(buffers);
  const bool tight = capacity >= bound && capacity < bound + bound / 8;
  return PlanStrongly(buffers, {.capacity = tight ? capacity : 0});
}

Result<std::unique_ptr<Allocator>> Make(const AllocatorOptions& options, Planner planner) {
  return std::unique_ptr<Allocator>(std::make_unique<Static>(options, planner));
}

}  // namespace

Result<std::unique_ptr<Allocator>> MakeStaticPlan(const AllocatorOptions& options) { return Make(options, &Strong); }

Result<std::unique_ptr<Allocator>> MakeStaticBySize(const AllocatorOptions& options) {
  return Make(options,
              [](std::span<const PlanBuffer> buffers, int64_t) { return PlanInOrder(buffers, PlanOrder::kSize); });
}

Result<std::unique_ptr<Allocator>> MakeStaticByLifetime(const AllocatorOptions& options) {
  return Make(options,
              [](std::span<const PlanBuffer> buffers, int64_t) { return PlanInOrder(buffers, PlanOrder::kLifetime); });
}

Bytes BestStaticBytes(const Tape& tape) {
  const Result<TapeBuffers> input = BuffersOf(tape, EventTiming::kAtOnce);
  if (!input.ok()) return LiveBytesPeak(tape).bytes;
  return Bytes(PlanStrongly(input->buffers, {}).height * kStep);
}

}  // namespace tidemark
