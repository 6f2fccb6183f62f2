#include "tools/build_report.h"

#include <algorithm>
#include <utility>

#include "tools/run_observer.h"
#include "tools/tape_marks.h"

namespace tidemark {
namespace {

constexpr size_t kLargestShown = 20;

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

void DescribeFragmentation(const MemoryState& state, Report& report) {
  const Fragmentation measured = MeasureFragmentation(state);
  report.fragmentation = {.event = measured.event,
                          .rounding = measured.rounding,
                          .cached_free = measured.cached_free,
                          .largest_free = measured.largest_free,
                          .free_whole_segments = measured.free_whole,
                          .inactive_split = measured.inactive_split,
                          .free_blocks = measured.free_blocks,
                          .pinned_segments = static_cast<int64_t>(measured.pinned.size())};
}

// The highest sum of live bytes, each rounded to the allocator's step: what any plan of addresses needs at least.
Bytes RoundedLivePeak(const Tape& tape) {
  constexpr Bytes kStep{512};
  constexpr Bytes kMost{int64_t{1} << 61};
  std::vector<Bytes> sizes(tape.allocations.size());
  Bytes live;
  Bytes peak;
  for (const Event& event : tape.events) {
    if (event.kind == EventKind::kAlloc) {
      Bytes& size = sizes[event.allocation.index()];
      size = RoundUp(std::min(event.bytes, kMost - live), kStep);
      live += size;
      peak = std::max(peak, live);
    } else if (event.kind == EventKind::kFree) {
      live -= std::exchange(sizes[event.allocation.index()], Bytes());
    }
  }
  return peak;
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

Result<Report> BuildReport(const ReportInput& input) {
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
  report.live_lower_bound = LiveBytesPeak(input.tape).bytes;
  report.static_lower_bound = RoundedLivePeak(input.tape);
  report.counts.events = static_cast<int64_t>(replay.events);
  report.counts.tensors = static_cast<int64_t>(input.tape.allocations.size());
  ASSIGN_OR_RETURN(const MemoryState peak, StateAt(input.tape, options.allocator, replay.allocated.event));
  PeakDescription described = input.describer.DescribeState(peak, kLargestShown);
  report.breakdown = std::move(described.breakdown);
  report.largest = std::move(described.largest);
  ASSIGN_OR_RETURN(const MemoryState reserved, StateAt(input.tape, options.allocator, replay.reserved.event));
  DescribeFragmentation(reserved, report);
  DescribeFailure(replay, input, report);
  report.cublas_workspace = WorkspaceBytes(report);
  return report;
}

}  // namespace tidemark
