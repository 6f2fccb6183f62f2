// validate --backend host and --backend cuda.
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "kernels/cuda_backend.h"
#include "kernels/executor.h"
#include "kernels/host_backend.h"
#include "tools/build_run.h"
#include "tools/config/size.h"
#include "tools/validate.h"

namespace tidemark {
namespace {

using nlohmann::ordered_json;

// What there is to compare, beside the findings.
struct Compared {
  std::string_view name;
  Bytes predicted;
  Bytes executed;
  bool must_agree = true;
};

struct StepLoss {
  int64_t step = 0;
  double loss = 0;  // mean over the step's micro-batches
};

struct Validation {
  std::string title;
  std::string where;  // "this processor", "NVIDIA GeForce RTX 4070, driver 13.0, runtime 13.0"
  std::vector<Compared> compared;
  std::string predicted_out_of_memory, predicted_op;  // PyTorch's message; empty: it fits
  std::string executed_op;                            // in which the driver said no; empty: it didn't
  std::string peak_op;
  std::vector<StepLoss> losses;
  std::vector<std::string> findings;
  int64_t kernels = 0;
  double seconds = 0;
  bool computes = true;

  bool agrees() const {
    for (const Compared& c : compared) {
      if (c.must_agree && c.predicted != c.executed) return false;
    }
    return findings.empty() && predicted_op == executed_op;
  }
};

// Each loss is a micro-batch's over the number of them.
std::vector<StepLoss> LossesByStep(const Graph& graph, const Execution& execution) {
  std::vector<StepLoss> losses;
  for (const Observed& o : execution.observed) {
    if (o.kind != ProbeKind::kLoss) continue;
    const int64_t step = graph.phases[o.phase].step;
    if (losses.empty() || losses.back().step != step) losses.push_back({step, 0});
    losses.back().loss += o.values.at(0);
  }
  return losses;
}

Result<Validation> Validate(const RunConfig& run, const AllocatorOptions& allocator, Backend& backend) {
  ASSIGN_OR_RETURN(const BuiltRun built, BuildRun(run, {}));
  ASSIGN_OR_RETURN(const PlacedTape placed, Place(built.lowered.tape, allocator));
  if (placed.has_gaps && !backend.maps_anywhere()) {
    return InvalidInput(
        "here expandable segments get memory back in their middle, which isn't executed on a device; --backend host "
        "does, and so does another allocator.conf");
  }
  const auto begin = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const Execution execution, Execute(built.graph, built.lowered, placed, backend, {}));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const auto label = [&](OpId op) { return op.valid() ? LabelOf(built.graph, built.graph.ops[op]) : std::string(); };
  Validation v;
  v.title = TitleOf(run);
  v.compared = {{"requested", placed.replay.requested.bytes, execution.requested_peak},
                {"allocated", placed.replay.allocated.bytes, execution.allocated_peak},
                {"reserved", placed.replay.reserved.bytes, execution.measured.reserved}};
  if (!placed.replay.out_of_memory.empty()) {
    const OutOfMemory& failure = placed.replay.out_of_memory.front();
    v.predicted_out_of_memory = failure.message;
    v.predicted_op = label(built.lowered.origins[failure.allocation].op);
  }
  if (execution.out_of_memory) v.executed_op = label(execution.out_of_memory->op);
  v.peak_op = label(execution.peak_op);
  v.losses = LossesByStep(built.graph, execution);
  for (const Finding& finding : execution.findings) v.findings.push_back(finding.message);
  v.kernels = execution.kernels;
  v.seconds = took.count();
  v.computes = backend.computes();
  return v;
}

std::string Text(const Validation& v) {
  std::string text = fmt::format("{}\n{} kernels on {} in {:.2f} s\n", v.title, v.kernels, v.where, v.seconds);
  text += fmt::format("{:<12}{:>18}{:>18}\n", "peak, bytes", "predicted", "executed");
  for (const Compared& c : v.compared) {
    text += fmt::format("{:<12}{:>18}{:>18}{}\n", c.name, c.predicted.count(), c.executed.count(),
                        c.predicted == c.executed ? ""
                        : c.must_agree            ? "   differs"
                                                  : "   (not compared)");
  }
  if (!v.peak_op.empty()) text += fmt::format("allocated was highest in {}\n", v.peak_op);
  for (const StepLoss& loss : v.losses) text += fmt::format("step {}: loss {:.6f}\n", loss.step, loss.loss);
  if (!v.computes) text += "kernels do nothing on this device: memory was executed, numbers were not\n";
  for (const std::string& finding : v.findings) text += fmt::format("found: {}\n", finding);
  if (v.predicted_op != v.executed_op) {
    text += fmt::format("predicted: {}\nexecuted: {}\n",
                        v.predicted_op.empty() ? "it fits" : "no memory left in " + v.predicted_op,
                        v.executed_op.empty() ? "it fits" : "no memory left in " + v.executed_op);
  } else if (!v.executed_op.empty()) {
    text += fmt::format("as predicted, it does not fit: {}\nin {}\n", v.predicted_out_of_memory, v.executed_op);
  }
  return text + (v.agrees() ? "executed as predicted\n" : "NOT as predicted\n");
}

ordered_json TextOrNull(const std::string& text) { return text.empty() ? ordered_json() : ordered_json(text); }

std::string Json(const Validation& v, const std::string& backend) {
  ordered_json predicted, executed;
  for (const Compared& c : v.compared) {
    const std::string key = fmt::format("{}_bytes", c.name);
    predicted[key] = c.predicted.count();
    executed[key] = c.executed.count();
  }
  ordered_json losses = ordered_json::array();
  for (const StepLoss& loss : v.losses) losses.push_back({{"step", loss.step}, {"loss", loss.loss}});
  const ordered_json json = {
      {"schema", "tidemark.validation/1"},
      {"backend", backend},
      {"agrees", v.agrees()},
      {"device", v.where},
      {"computes", v.computes},
      {"kernels", v.kernels},
      {"seconds", v.seconds},
      {"peak", {{"predicted", predicted}, {"measured", executed}, {"op", TextOrNull(v.peak_op)}}},
      {"losses", losses},
      {"findings", v.findings},
      {"out_of_memory",
       {{"predicted", TextOrNull(v.predicted_out_of_memory)},
        {"predicted_op", TextOrNull(v.predicted_op)},
        {"measured_op", TextOrNull(v.executed_op)}}}};
  return json.dump(1) + "\n";
}

Outcome OutcomeOf(const Validation& v, const LoadedRun& run, const ValidateOptions& options) {
  Outcome outcome;
  outcome.code = v.agrees() ? ExitCode::kGood : ExitCode::kDoesNotFit;
  outcome.output = options.json ? Json(v, options.backend) : Text(v);
  outcome.notes = run.notes;
  return outcome;
}

}  // namespace

Result<Outcome> ValidateOnHost(const LoadedRun& run, const ValidateOptions& options) {
  const AllocatorOptions allocator = AllocatorOf(run.config);
  const std::unique_ptr<Backend> backend =
      MakeHostBackend({.capacity = allocator.device_memory - allocator.process_overhead});
  ASSIGN_OR_RETURN(Validation v, Validate(run.config, allocator, *backend));
  v.where = "this processor";
  return OutcomeOf(v, run, options);
}

Result<Outcome> ValidateOnCuda(const LoadedRun& run, const ValidateOptions& options) {
  ASSIGN_OR_RETURN(const CudaDevice device, OpenCudaDevice());
  // What this device has left is the limit, whatever the run's device has.
  AllocatorOptions allocator = AllocatorOf(run.config);
  allocator.device_memory = device.memory;
  allocator.process_overhead = device.memory - device.free;
  ASSIGN_OR_RETURN(Validation v, Validate(run.config, allocator, *device.backend));
  ASSIGN_OR_RETURN(const MeasuredMemory measured, device.backend->Measure());
  const Bytes reserved = v.compared.back().predicted;
  v.compared.push_back({"device", reserved, measured.device, device.phantom});
  v.compared.push_back({"process", reserved + run.config.device.overhead.value, measured.process, false});
  v.where = fmt::format("{}, CUDA driver {}, runtime {}", device.name, device.driver, device.runtime);
  Outcome outcome = OutcomeOf(v, run, options);
  const DeviceSpec& simulated = run.config.device;
  if (simulated.compute_capability != device.compute_capability ||
      simulated.multiprocessors != device.multiprocessors) {
    outcome.notes.push_back(fmt::format(
        "simulated is {}: temporaries inside kernels are as large as PyTorch's would be there", simulated.name));
  }
  return outcome;
}

}  // namespace tidemark
