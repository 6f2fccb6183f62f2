// How long a static plan takes: for a report, and as low as it gets. `ratio` is its height over what is alive at once.
#include <benchmark/benchmark.h>

#include "graph/base/check.h"
#include "sim/planners/tape_buffers.h"
#include "tests/support/tapes.h"

namespace tidemark {
namespace {

TapeBuffers Buffers(const benchmark::State& state) {
  Result<TapeBuffers> buffers =
      BuffersOf(TrainingTape({.events = static_cast<size_t>(2.1 * static_cast<double>(state.range(0))), .seed = 1}),
                EventTiming::kAtOnce, nullptr);
  CHECK(buffers.ok());
  return *std::move(buffers);
}

void Finish(benchmark::State& state, const TapeBuffers& input, int64_t height) {
  state.counters["buffers"] = static_cast<double>(input.buffers.size());
  state.counters["ratio"] = static_cast<double>(height) / static_cast<double>(LiveLowerBound(input.buffers));
}

void QuickPlanOfTraining(benchmark::State& state) {
  const TapeBuffers input = Buffers(state);
  int64_t height = 0;
  for (auto _ : state) height = PlanQuickly(input.buffers).plan.height;
  Finish(state, input, height);
}
BENCHMARK(QuickPlanOfTraining)->Arg(3000)->Arg(20000)->Arg(80000)->Arg(500000)->Unit(benchmark::kMillisecond);

void StrongPlanOfTraining(benchmark::State& state) {
  const TapeBuffers input = Buffers(state);
  int64_t height = 0;
  for (auto _ : state) height = PlanStrongly(input.buffers, {}).height;
  Finish(state, input, height);
}
BENCHMARK(StrongPlanOfTraining)->Arg(3000)->Arg(20000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tidemark
