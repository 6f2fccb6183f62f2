#include "tests/support/execute.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "kernels/host_backend.h"
#include "kernels/placed_tape.h"
#include "sim/lower.h"

namespace tidemark {

Execution ExecuteGraph(const Graph& graph, const DeviceSpec& device) {
  const Lowered lowered = Lower(graph, device);
  const Result<PlacedTape> placed = Place(lowered.tape, {.device_memory = device.memory});
  if (!placed.ok()) {
    ADD_FAILURE() << placed.error().message;
    return {};
  }
  const std::unique_ptr<Backend> backend = MakeHostBackend();
  Result<Execution> execution = Execute(graph, lowered, *placed, *backend);
  if (!execution.ok()) {
    ADD_FAILURE() << execution.error().message;
    return {};
  }
  EXPECT_EQ(execution->requested_peak.count(), placed->replay.requested.bytes.count());
  EXPECT_EQ(execution->allocated_peak.count(), placed->replay.allocated.bytes.count());
  EXPECT_EQ(execution->reserved_peak.count(), placed->replay.reserved.bytes.count());
  for (const Finding& finding : execution->findings) ADD_FAILURE() << finding.message;
  return *std::move(execution);
}

Graph WithoutHalf(Graph graph) {
  Column<StorageId, uint8_t> widened;
  widened.resize(graph.storages.size());
  for (size_t i = 0; i < graph.tensors.size(); ++i) {
    TensorInfo& tensor = graph.tensors[TensorId(i)];
    if (!IsHalf(tensor.dtype)) continue;
    tensor.dtype = DType::kFloat32;
    if (std::exchange(widened[tensor.storage], uint8_t{1}) != 0) continue;
    Bytes& bytes = graph.storages[tensor.storage].bytes;
    bytes = bytes * 2;
  }
  return graph;
}

std::string DifferenceOf(const Execution& expected, const Execution& actual, double tolerance) {
  if (expected.observed.size() != actual.observed.size()) {
    return "one has " + std::to_string(expected.observed.size()) + " values to look at, the other " +
           std::to_string(actual.observed.size());
  }
  // Gradients that are zero but for rounding (of a bias behind which softmax follows) are measured against the others.
  double overall = 0;
  for (const Observed& observed : expected.observed) {
    for (const double value : observed.values) overall = std::max(overall, std::abs(value));
  }
  for (size_t i = 0; i < expected.observed.size(); ++i) {
    const Observed& a = expected.observed[i];
    const Observed& b = actual.observed[i];
    const std::string name = a.kind == ProbeKind::kLoss ? "loss" : "gradient of " + a.name;
    if (a.kind != b.kind || a.name != b.name || a.values.size() != b.values.size()) return name + " isn't in both";
    double largest = 1e-3 * overall;
    for (const double value : a.values) largest = std::max(largest, std::abs(value));
    for (size_t k = 0; k < a.values.size(); ++k) {
      const double difference = std::abs(a.values[k] - b.values[k]);
      if (difference <= tolerance * largest) continue;
      return name + ", element " + std::to_string(k) + ": " + std::to_string(a.values[k]) + " and " +
             std::to_string(b.values[k]);
    }
  }
  if (tolerance == 0 && expected.final_state != actual.final_state) return "parameters or states differ at the end";
  return "";
}

}  // namespace tidemark
