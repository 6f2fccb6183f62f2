#include "tools/build_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "graph/cost.h"
#include "graph/training/loop.h"
#include "passes/compile/compiled_model.h"
#include "sim/replay.h"
#include "tools/config/words.h"

namespace tidemark {
namespace {

// What the run's allocator reserves for a graph: the other half of passes that work within a budget.
Result<Bytes> ReservedPeak(const Graph& graph, const RunConfig& run) {
  AllocatorOptions allocator = AllocatorOf(run);
  allocator.device_memory = kUnlimited;
  const Lowered lowered = Lower(graph, run.device);
  ASSIGN_OR_RETURN(const Replay replay, RunReplay(lowered.tape, {.allocator = allocator, .observers = {}}));
  return replay.reserved.bytes;
}

// The room for copies before each of the steps, as PyTorch's allocator has it.
class RoomObserver : public ReplayObserver {
 public:
  RoomObserver(const Lowered& lowered, const std::vector<compile::WantedCopies>& decided) {
    for (const compile::WantedCopies& wanted : decided) {
      const bool is_last = wanted.step >= lowered.first_event.size();
      before_.push_back(is_last ? lowered.tape.events.size() : lowered.first_event[wanted.step]);
    }
  }
  void OnEvent(const Observation& o) override {
    for (; rooms_.size() < before_.size() && before_[rooms_.size()] <= o.event;) rooms_.push_back(peak_ - now_);
    now_ = o.usage.allocated;
    peak_ = std::max(peak_, now_);
  }
  std::vector<Bytes> rooms() && { return std::move(rooms_); }

 private:
  std::vector<size_t> before_;  // by decision: the first event after it
  std::vector<Bytes> rooms_;
  Bytes now_;
  Bytes peak_;
};

// Whether the allocator would have decided as the tracer did; else `rooms` are the allocator's.
Result<bool> DecidedRight(const Lowered& lowered, const RunConfig& run, compile::Tuning& tuning) {
  AllocatorOptions allocator = AllocatorOf(run);
  if (tuning.decided.empty() || allocator.backend != "native") return true;
  allocator.device_memory = kUnlimited;
  RoomObserver observer(lowered, tuning.decided);
  ASSIGN_OR_RETURN(const Replay replay, RunReplay(lowered.tape, {.allocator = allocator, .observers = {&observer}}));
  tuning.rooms = std::move(observer).rooms();
  for (size_t i = 0; i < tuning.rooms.size(); ++i) {
    const compile::WantedCopies& wanted = tuning.decided[i];
    if (compile::CopiesThatFit(wanted.bytes, tuning.rooms[i]) != wanted.fit) {
      tuning.rooms.resize(i + 1);  // what comes after it may be another program's
      return false;
    }
  }
  return true;
}

// Traces the run. What a first run copies for tuning depends on the allocator, and that on what was copied before: from
// the first wrong decision on again.
Result<Graph> TraceWithRooms(const RunConfig& run, const compile::Observer& observer, const BuildOptions& options,
                             BuiltRun& built) {
  compile::Tuning tuning;
  for (;;) {
    tuning.decided.clear();
    tuning.cache = options.tuned == nullptr ? compile::TuningCache() : *options.tuned;
    built.stages.clear();
    built.compiled.clear();
    ASSIGN_OR_RETURN(Graph graph, TraceRun(run, compile::CompiledModels(observer, &tuning)));
    bool is_right = run.training.compile != CompileMode::kFirstRun;
    if (!is_right) {
      ASSIGN_OR_RETURN(is_right, DecidedRight(Lower(graph, run.device), run, tuning));
    }
    if (!is_right) continue;
    if (options.tuned != nullptr) *options.tuned = std::move(tuning.cache);
    return graph;
  }
}

}  // namespace

Result<BuiltRun> BuildRun(const RunConfig& run, const BuildOptions& options) {
  BuiltRun built;
  // Stages of the compiler among the names are printed while it runs; the rest are passes.
  std::vector<std::string> passes = options.print_after;
  std::vector<std::string> stages;
  if (run.training.compile != CompileMode::kOff) {
    const std::vector<std::string_view> known = compile::Stages();
    const auto is_stage = [&](const std::string& name) { return std::ranges::find(known, name) != known.end(); };
    std::ranges::copy_if(passes, std::back_inserter(stages), is_stage);
    std::erase_if(passes, is_stage);
  }
  compile::Observer observer;
  if (!stages.empty()) {
    observer.on_stage = [&](std::string_view stage, const std::string& text) {
      if (std::ranges::find(stages, stage) != stages.end()) built.stages += text;
    };
  }
  if (options.summarize_compiled) {
    observer.on_graph = [&](const compile::GraphSummary& summary) { built.compiled.push_back(summary); };
  }
  ASSIGN_OR_RETURN(Graph graph, TraceWithRooms(run, observer, options, built));
  if (run.passes.empty() && passes.empty()) {
    built.graph = std::move(graph);
  } else {
    const PipelineOptions pipeline = {
        .context = {.device = run.device, .physical_peak = [&run](const Graph& g) { return ReservedPeak(g, run); }},
        .print_after = passes};
    ASSIGN_OR_RETURN(Rewritten rewritten, RunPasses(std::move(graph), run.passes, pipeline));
    built.graph = std::move(rewritten.graph);
    built.passes = std::move(rewritten.runs);
  }
  built.lowered = Lower(built.graph, run.device);
  return built;
}

AllocatorOptions AllocatorOf(const RunConfig& run) {
  AllocatorOptions options;
  options.backend = run.allocator.backend;
  options.framework = run.framework;
  options.conf = run.allocator.conf;
  options.device_memory = run.device.memory;
  options.process_overhead = run.device.overhead.value;
  return options;
}

std::string TitleOf(const RunConfig& run) {
  const ModelConfig& m = run.model;
  const TrainingConfig& t = run.training;
  const std::string length = t.sequence.size() == 1 ? fmt::format("{}", t.sequence[0]) : "varying";
  const std::string_view compiled = t.compile == CompileMode::kOff  ? ""
                                    : t.compile == CompileMode::kOn ? ", compiled"
                                                                    : ", compiled in a first run";
  return fmt::format("{} ({}), {} layers, hidden {}, batch {} x {}, accumulation {}, {}, {} {}{}",
                     WordOf(kFamilyWords, m.family), WordOf(kImplementationWords, m.implementation), m.layers, m.hidden,
                     t.micro_batch, length, t.gradient_accumulation, WordOf(kPrecisionWords, t.precision),
                     WordOf(kOptimizerWords, t.optimizer.kind),
                     WordOf(kOptimizerImplementationWords, t.optimizer.implementation), compiled);
}

std::string DescribePass(const PassRun& pass) {
  if (!pass.changed) return fmt::format("{}: nothing to change", pass.name);
  const auto added = static_cast<int64_t>(pass.ops_after) - static_cast<int64_t>(pass.ops_before);
  return fmt::format(
      "{}: {} ops ({:+}), highest live bytes {:.1f} MiB ({:+.1f}), traffic {:.1f} GiB ({:+.1f}), done in {:.1f} ms",
      pass.name, pass.ops_after, added, pass.live_after / kMiB, (pass.live_after - pass.live_before) / kMiB,
      pass.traffic_after / kGiB, (pass.traffic_after - pass.traffic_before) / kGiB, pass.milliseconds);
}

std::vector<int64_t> EventTimes(const BuiltRun& built, const DeviceSpec& device) {
  std::vector<int64_t> times;
  if (!HasRates(device)) return times;
  const Graph& graph = built.graph;
  const std::vector<uint32_t>& first_event = built.lowered.first_event;
  const size_t events = built.lowered.tape.events.size();
  times.reserve(events);
  Nanos now;
  for (size_t step = 0; step < graph.program.size(); ++step) {
    const Step what = graph.program[step];
    const bool op = what.kind() == Step::Kind::kOp;
    const Nanos duration = op ? TimeOf(OpView(graph, graph.ops[what.op()]), device) : Nanos();
    const size_t end = step + 1 < first_event.size() ? first_event[step + 1] : events;
    const auto count = static_cast<double>(end - times.size());
    for (double event = 0; times.size() < end; ++event) {
      // A nanosecond between events, so that no slice of a trace is empty.
      const int64_t at = std::llround(now.count() + duration.count() * event / count);
      times.push_back(times.empty() ? at : std::max(at, times.back() + 1));
    }
    now += duration;
  }
  return times;
}

std::optional<TimeReport> TimeReportOf(const Graph& graph, const DeviceSpec& device) {
  if (!HasRates(device)) return std::nullopt;
  const RunTime time = TimeOf(graph, device);
  const double steps = static_cast<double>(std::max<int64_t>(1, time.steps));
  return TimeReport{.step_us = time.step().microseconds() / steps,
                    .forward_us = time.forward.microseconds() / steps,
                    .backward_us = time.backward.microseconds() / steps,
                    .optimizer_us = time.optimizer.microseconds() / steps};
}

}  // namespace tidemark
