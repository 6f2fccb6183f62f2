#include "tools/build_report.h"

#include <algorithm>
#include <future>
#include <span>
#include <utility>

#include "sim/planners/tape_buffers.h"
#include "tools/run_observer.h"
#include "tools/tape_marks.h"

namespace tidemark {
namespace {

constexpr size_t kLargestShown = 20;
constexpr size_t kSegmentsShown = 16;
constexpr size_t kPinsShown = 8;

void DescribeFailure(const Replay& replay, const ReportInput& input, Report& report) {
  if (replay.out_of_memory.empty()) return;
  const OutOfMemory& failure = replay.out_of_memory.front();
  const TensorReport tensor = input.describer.Describe(failure.allocation);
  report.out_of_memory = OutOfMemoryReport{.message = failure.message,
                                           .tensor = tensor.tensor,
                                           .op = tensor.op,
                                           .requested = failure.requested,
                                           .at = MomentOf(input.tape, failure.event),
                                           .event = failure.event};
}

PinnedSegmentReport DescribePinned(PinnedSegment pinned, const Describer& describer) {
  PinnedSegmentReport report{.segment = pinned.segment,
                             .size = pinned.size,
                             .free = pinned.size - pinned.live,
                             .blocks = static_cast<int64_t>(pinned.pinned_by.size()),
                             .pinned_by = {}};
  std::ranges::stable_sort(pinned.pinned_by, std::ranges::greater(), &LiveBlock::block);
  for (const LiveBlock& block : std::span(pinned.pinned_by).first(std::min(pinned.pinned_by.size(), kPinsShown))) {
    const std::string name = block.allocation.valid() ? describer.Describe(block.allocation).tensor : "";
    report.pinned_by.push_back({name, block.block});
  }
  return report;
}

void DescribeFragmentation(const MemoryState& state, const Describer& describer, Report& report) {
  Fragmentation measured = MeasureFragmentation(state);
  report.fragmentation = {.event = measured.event,
                          .rounding = measured.rounding,
                          .cached_free = measured.cached_free,
                          .largest_free = measured.largest_free,
                          .free_whole_segments = measured.free_whole,
                          .inactive_split = measured.inactive_split,
                          .free_blocks = measured.free_blocks,
                          .pinned_segments = static_cast<int64_t>(measured.pinned.size()),
                          .pinned = {}};
  for (PinnedSegment& pinned : measured.pinned) {
    if (report.fragmentation.pinned.size() == kSegmentsShown) break;
    report.fragmentation.pinned.push_back(DescribePinned(std::move(pinned), describer));
  }
}

// A run that failed ends there: what would have come after it isn't shown.
void CutAt(uint64_t events, uint64_t planned, Report& report) {
  if (events >= planned) return;
  std::erase_if(report.phases, [&](const PhasePeak& phase) { return phase.event >= events; });
  const size_t buckets = (events * report.timeline.allocated.size() + planned - 1) / planned;
  report.timeline.allocated.resize(buckets);
  report.timeline.reserved.resize(buckets);
  report.timeline.phase.resize(buckets);
}

Bytes WorkspaceBytes(const Report& report) {
  for (const CategoryBytes& entry : report.breakdown) {
    if (entry.category == "workspace") return entry.bytes;
  }
  return {};
}

}  // namespace

StaticPlanReport StaticPlanOf(const Tape& tape, const InitialState* initial) {
  constexpr int64_t kMostSteps = int64_t{1} << 52;  // beyond, bytes don't fit into 64 bits
  const Result<TapeBuffers> input = BuffersOf(tape, EventTiming::kAtOnce, initial);
  const Bytes live = LiveBytesPeak(tape, initial).bytes;
  if (!input.ok() || live.count() / kPlanStep.count() + static_cast<int64_t>(tape.allocations.size()) > kMostSteps) {
    return {.lower_bound = live, .bytes = live, .method = "none: requests of absurd size"};
  }
  const QuickPlan found = PlanQuickly(input->buffers);
  return {.lower_bound = kPlanStep * LiveLowerBound(input->buffers),
          .bytes = kPlanStep * found.plan.height,
          .method = std::string(Name(found.method))};
}

void KeepLowerPlan(const AllocatorOptions& allocator, bool fits, Bytes reserved, StaticPlanReport& plan) {
  if (allocator.backend == "static" && fits && reserved < plan.bytes) {
    plan.bytes = reserved;
    plan.method = "search";
  }
}

Result<AddressRange> OtherAddressOrder(const Tape& tape, ReplayOptions options, const Replay& replay) {
  options.observers.clear();
  const bool falling = options.allocator.addresses == AddressOrder::kFalling;
  options.allocator.addresses = falling ? AddressOrder::kRising : AddressOrder::kFalling;
  ASSIGN_OR_RETURN(const Replay other, RunReplay(tape, options));
  const Replay& rising = falling ? other : replay;
  const Replay& fallen = falling ? replay : other;
  return AddressRange{rising.reserved.bytes, fallen.reserved.bytes, rising.failures == 0, fallen.failures == 0};
}

Result<Report> BuildReport(const ReportInput& input) {
  const InitialState* initial = input.replay.allocator.initial;
  // A plan takes about as long as everything else.
  std::future<StaticPlanReport> plan =
      std::async(std::launch::async, [&input, initial] { return StaticPlanOf(input.tape, initial); });
  RunObserver observer(input.tape);
  ReplayOptions options = input.replay;
  options.observers.push_back(&observer);
  ASSIGN_OR_RETURN(const Replay replay, RunReplay(input.tape, options));

  Report report;
  report.title = input.title;
  report.device_name = input.device_name;
  if (input.limited) report.device_memory = options.allocator.device_memory;
  report.allocator = options.allocator;
  report.fits = replay.failures == 0;
  report.failures = replay.failures;
  report.requested_peak = replay.requested.bytes;
  report.allocated_peak = replay.allocated.bytes;
  report.active_peak = replay.active.bytes;
  report.reserved_peak = replay.reserved.bytes;
  report.context = input.context;
  report.process_peak = {report.reserved_peak + input.context.value, input.context.below, input.context.above};
  report.at = MomentOf(input.tape, replay.allocated.event);
  report.at_event = replay.allocated.event;
  report.statistics = replay.statistics;
  report.phases = observer.phases();
  report.timeline = observer.timeline();
  CutAt(replay.events, input.tape.events.size(), report);
  report.live_lower_bound = LiveBytesPeak(input.tape, initial).bytes;
  report.counts.events = static_cast<int64_t>(replay.events);
  report.counts.tensors = static_cast<int64_t>(input.tape.allocations.size());
  ASSIGN_OR_RETURN(const MemoryState peak, StateAt(input.tape, options.allocator, replay.allocated.event));
  PeakDescription described = input.describer.DescribeState(peak, kLargestShown);
  report.breakdown = std::move(described.breakdown);
  report.largest = std::move(described.largest);
  ASSIGN_OR_RETURN(const MemoryState reserved, StateAt(input.tape, options.allocator, replay.reserved.event));
  DescribeFragmentation(reserved, input.describer, report);
  DescribeFailure(replay, input, report);
  report.cublas_workspace = WorkspaceBytes(report);
  if (input.both_address_orders && AddressesMatter(options.allocator)) {
    ASSIGN_OR_RETURN(report.address_range, OtherAddressOrder(input.tape, input.replay, replay));
  }
  report.static_plan = plan.get();
  KeepLowerPlan(options.allocator, report.fits, report.reserved_peak, report.static_plan);
  return report;
}

}  // namespace tidemark
