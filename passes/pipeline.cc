#include "passes/pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "graph/cost.h"
#include "graph/graph_text.h"
#include "graph/lifetimes.h"
#include "graph/run_program.h"
#include "graph/verify.h"

namespace tidemark {
namespace {

// A hash of everything that is fed to it, in order.
class Hash {
 public:
  void Add(uint64_t value) {
    state_ ^= value;
    state_ *= 0x9e3779b97f4a7c15U;
    state_ ^= state_ >> 29;
  }
  void Add(std::string_view text) {
    Add(text.size());
    for (const char c : text) Add(static_cast<uint64_t>(c));
  }
  void Add(const Dims& dims) {
    Add(static_cast<uint64_t>(dims.size()));
    for (const int64_t n : dims) Add(static_cast<uint64_t>(n));
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0x243f6a8885a308d3U;
};

void AddOp(const Graph& graph, const Op& op, Hash& hash) {
  hash.Add(static_cast<uint64_t>(op.kind) << 40 | uint64_t{op.inputs} << 20 | op.results);
  hash.Add(op.scope.index());
  hash.Add(static_cast<uint64_t>(op.thread));
  if (op.attributes.valid()) {
    const Attributes& a = graph.attributes[op.attributes];
    hash.Add(std::bit_cast<uint64_t>(a.number));
    hash.Add(std::bit_cast<uint64_t>(a.second));
    for (const int64_t n : a.integer) hash.Add(static_cast<uint64_t>(n));
  }
  for (const TensorId id : std::span(graph.operands).subspan(op.first_operand, size_t{op.inputs} + op.results)) {
    const TensorInfo& t = graph.tensors[id];
    hash.Add(t.storage.index());
    hash.Add(static_cast<uint64_t>(t.dtype));
    hash.Add(static_cast<uint64_t>(t.offset));
    hash.Add(t.sizes);
    hash.Add(t.strides);
  }
}

Status CheckNames(const std::vector<std::string>& names, const char* what) {
  for (const std::string& name : names) {
    const bool known = std::ranges::any_of(Passes(), [&](const PassInfo& pass) { return pass.name == name; });
    if (known) continue;
    std::string all;
    for (const PassInfo& pass : Passes()) all += (all.empty() ? "" : ", ") + std::string(pass.name);
    return InvalidInput(fmt::format("{}: unknown pass \"{}\"; known: {}", what, name, all));
  }
  return {};
}

// A fused kernel can't be taken apart.
Status CheckOrder(std::span<const PassConfig> passes) {
  bool fused = false;
  for (const PassConfig& pass : passes) {
    const bool fuses = std::holds_alternative<FusePass>(pass);
    if (fused && !fuses) {
      return InvalidInput(
          fmt::format("passes: {} has to stand before fuse, which makes kernels that can't be taken apart again",
                      InfoOf(pass).name));
    }
    fused = fused || fuses;
  }
  return {};
}

bool Contains(const std::vector<std::string>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

}  // namespace

uint64_t Fingerprint(const Graph& graph) {
  Hash hash;
  for (const Step step : graph.program) {
    hash.Add(static_cast<uint64_t>(step.kind()));
    if (step.kind() == Step::Kind::kOp) AddOp(graph, graph.ops[step.op()], hash);
    if (step.kind() == Step::Kind::kRelease) hash.Add(step.holder().index());
    if (step.kind() == Step::Kind::kPhase) hash.Add(graph.phases[step.phase()].name);
  }
  for (const Holder& holder : graph.holders) {
    hash.Add(holder.storage.index());
    hash.Add(holder.since.index());
  }
  for (const Storage& storage : graph.storages) {
    hash.Add(static_cast<uint64_t>(storage.bytes.count()));
    hash.Add(storage.producer.index());
  }
  return hash.value();
}

Result<Rewritten> RunPasses(Graph graph, std::span<const PassConfig> passes, const PipelineOptions& options) {
  RETURN_IF_ERROR(CheckNames(options.disabled, "disabled passes"));
  RETURN_IF_ERROR(CheckNames(options.print_after, "--print-after"));
  RETURN_IF_ERROR(CheckOrder(passes));
  Rewritten rewritten{std::move(graph), {}};
  const DeviceSpec& device = options.context.device;
  for (const PassConfig& config : passes) {
    const PassInfo& info = InfoOf(config);
    if (ChangesProgram(config) || info.rewrite == nullptr || Contains(options.disabled, info.name)) continue;
    PassRun run{.name = info.name, .ops_before = rewritten.graph.ops.size()};
    run.live_before = LivePeakOf(rewritten.graph, device).bytes;
    run.traffic_before = TrafficOf(rewritten.graph);
    const uint64_t before = Fingerprint(rewritten.graph);
    const auto began = std::chrono::steady_clock::now();
    ASSIGN_OR_RETURN(PassResult result, info.rewrite(std::move(rewritten.graph), config, options.context));
    run.milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
    rewritten.graph = std::move(result.graph);
    run.notes = std::move(result.notes);
    if (const Status status = VerifyGraph(rewritten.graph); !status.ok()) {
      return InvalidInput(
          fmt::format("internal error: pass {} made a graph that isn't one: {}", info.name, status.error().message));
    }
    run.changed = Fingerprint(rewritten.graph) != before;
    run.ops_after = rewritten.graph.ops.size();
    run.live_after = LivePeakOf(rewritten.graph, device).bytes;
    run.traffic_after = TrafficOf(rewritten.graph);
    if (Contains(options.print_after, info.name)) run.text = PrintGraph(rewritten.graph);
    rewritten.runs.push_back(std::move(run));
  }
  return rewritten;
}

}  // namespace tidemark
