// Products of the host's kernels beside Eigen's own on all cores, and whole steps.
#include <benchmark/benchmark.h>
#include <omp.h>

// Not the name under which the library has it, compiled with other instructions.
#define Eigen EigenForBench
#include <Eigen/Core>
#include <memory>
#include <string>
#include <vector>

#include "graph/training/loop.h"
#include "kernels/executor.h"
#include "kernels/host/gemm.h"
#include "kernels/host_backend.h"
#include "tools/config/run_file.h"

namespace tidemark {
namespace {

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void SetFlops(benchmark::State& state, int64_t m, int64_t n, int64_t k) {
  state.counters["GFLOPS"] = benchmark::Counter(
      static_cast<double>(2 * m * n * k), benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

// x W^T: rows, results, inner.
void HostGemm(benchmark::State& state) {
  const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const RowMajor a = RowMajor::Random(m, k), b = RowMajor::Random(n, k);
  RowMajor c(m, n);
  for (auto _ : state) {
    host::Gemm({a.data(), m, k, k, 1}, host::ConstMatrix{b.data(), n, k, k, 1}.Transposed(), {c.data(), n});
    benchmark::ClobberMemory();
  }
  SetFlops(state, m, n, k);
}

void EigenGemm(benchmark::State& state) {
  const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  Eigen::setNbThreads(omp_get_num_procs());
  const RowMajor a = RowMajor::Random(m, k), b = RowMajor::Random(n, k);
  RowMajor c(m, n);
  for (auto _ : state) {
    c.noalias() = a * b.transpose();
    benchmark::ClobberMemory();
  }
  SetFlops(state, m, n, k);
}

void Shapes(benchmark::internal::Benchmark* b) {
  b->Args({8192, 1152, 384})->Args({8192, 384, 1536})->Args({1024, 50304, 384})->Args({1024, 1024, 1024});
  b->Args({256, 512, 64})->UseRealTime()->Unit(benchmark::kMillisecond);
}
BENCHMARK(HostGemm)->Apply(Shapes);
BENCHMARK(EigenGemm)->Apply(Shapes);

// One step of a run.
void HostStep(benchmark::State& state, const std::string& path) {
  const std::vector<std::string> one_step = {"training.steps=1"};
  const auto run = LoadRun(std::string(TIDEMARK_SOURCE_DIR) + "/" + path, one_step);
  const auto graph = TraceRun(run->config);
  const Lowered lowered = Lower(*graph, run->config.device);
  const auto placed = Place(lowered.tape, {});
  for (auto _ : state) {
    const std::unique_ptr<Backend> backend = MakeHostBackend();
    benchmark::DoNotOptimize(Execute(*graph, lowered, *placed, *backend, {}));
  }
}
BENCHMARK_CAPTURE(HostStep, nanogpt_tiny, "configs/runs/nanogpt-tiny.yaml")
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(HostStep, llama_tiny, "configs/runs/llama-tiny.yaml")->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tidemark
