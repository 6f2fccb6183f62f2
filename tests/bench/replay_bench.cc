// Events per second of a replay, on a training tape of 10^6 events: default options, and everything on.
#include <benchmark/benchmark.h>

#include <string>

#include "sim/replay.h"
#include "tests/support/tapes.h"

namespace tidemark {
namespace {

constexpr size_t kEvents = 1'000'000;

void ReplayTape(benchmark::State& state, const Tape& tape, const AllocatorOptions& allocator) {
  ReplayOptions options;
  options.allocator = allocator;
  for (auto _ : state) {
    const Result<Replay> replay = RunReplay(tape, options);
    if (!replay.ok()) state.SkipWithError(replay.error().message.c_str());
    benchmark::DoNotOptimize(replay);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(tape.events.size()));
  state.counters["events"] = static_cast<double>(tape.events.size());
}

void ReplayDefault(benchmark::State& state) {
  const Tape tape = TrainingTape({.events = kEvents, .seed = 1});
  ReplayTape(state, tape, {});
}
BENCHMARK(ReplayDefault)->Unit(benchmark::kMillisecond);

// Every option that decides placement, except expandable segments, which rule out the split limit's effect.
void ReplayEverything(benchmark::State& state) {
  const Tape tape = TrainingTape({.events = kEvents, .seed = 1, .streams = 4});
  AllocatorOptions options;
  options.conf =
      "max_split_size_mb:128,max_non_split_rounding_mb:24,roundup_power2_divisions:[1:4,2:8,16:2,>:4],"
      "garbage_collection_threshold:0.8,throw_on_cudamalloc_oom:True";
  options.fraction = 0.9;
  options.device_memory = kGiB * 12;
  options.events = EventTiming::kLazy;
  ReplayTape(state, tape, options);
}
BENCHMARK(ReplayEverything)->Unit(benchmark::kMillisecond);

void ReplayExpandable(benchmark::State& state) {
  const Tape tape = TrainingTape({.events = kEvents, .seed = 1, .streams = 4});
  AllocatorOptions options;
  options.conf = "expandable_segments:True,roundup_power2_divisions:8,garbage_collection_threshold:0.8";
  options.fraction = 0.9;
  options.device_memory = kGiB * 12;
  options.events = EventTiming::kLazy;
  ReplayTape(state, tape, options);
}
BENCHMARK(ReplayExpandable)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tidemark
