#include "tests/kernels/execution.h"

#include <gtest/gtest.h>

#include <memory>

#include "graph/training/loop.h"
#include "kernels/host_backend.h"
#include "tools/config/run_file.h"

namespace tidemark {
namespace {

template <typename T>
T Expect(Result<T> result) {
  if (result.ok()) return *std::move(result);
  ADD_FAILURE() << result.error().message;
  return T{};
}

}  // namespace

Prepared PrepareRun(const std::string& path, const std::vector<std::string>& overrides) {
  const LoadedRun loaded = Expect(LoadRun(std::string(TIDEMARK_SOURCE_DIR) + "/" + path, overrides));
  Prepared run;
  run.graph = Expect(TraceRun(loaded.config));
  run.lowered = Lower(run.graph, loaded.config.device);
  AllocatorOptions options;
  options.conf = loaded.config.allocator.conf;
  options.device_memory = loaded.config.device.memory;
  run.placed = Expect(Place(run.lowered.tape, options));
  return run;
}

Execution ExecuteOnHost(const Prepared& run, const ExecuteOptions& options) {
  const std::unique_ptr<Backend> backend = MakeHostBackend();
  return Expect(Execute(run.graph, run.lowered, run.placed, *backend, options));
}

std::vector<double> LossesOf(const Execution& execution) {
  std::vector<double> losses;
  for (const Observed& o : execution.observed) {
    if (o.kind == ProbeKind::kLoss) losses.push_back(o.values.at(0));
  }
  return losses;
}

std::vector<const Observed*> GradientsOf(const Execution& execution) {
  std::vector<const Observed*> gradients;
  for (const Observed& o : execution.observed) {
    if (o.kind == ProbeKind::kGradient) gradients.push_back(&o);
  }
  return gradients;
}

}  // namespace tidemark
