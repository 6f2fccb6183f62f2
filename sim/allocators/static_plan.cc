#include "sim/allocators/static_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "sim/allocators/policy.h"
#include "sim/planners/plan.h"
#include "sim/planners/tape_buffers.h"

namespace tidemark {
namespace {

constexpr int64_t kStep = kPlanStep.count();

using Planner = StaticPlan (*)(std::span<const PlanBuffer>, int64_t capacity);

class Static final : public Policy {
 public:
  Static(const AllocatorOptions& options, Planner planner)
      : Policy(options), planner_(planner), events_(options.events) {}

  Status Plan(const Tape& tape) override {
    ASSIGN_OR_RETURN(const TapeBuffers input, BuffersOf(tape, events_, nullptr));
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

}  // namespace tidemark
