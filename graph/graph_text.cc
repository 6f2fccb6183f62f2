#include "graph/graph_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "graph/op.h"

namespace tidemark {
namespace {

class Printer {
 public:
  explicit Printer(const Graph& graph) : graph_(graph) { own_.resize(graph.storages.size()); }

  std::string Run() {
    Holds();
    for (const Step step : graph_.program) {
      switch (step.kind()) {
        case Step::Kind::kOp:
          Print(graph_.ops[step.op()]);
          ++ops_;
          Holds();
          break;
        case Step::Kind::kRelease:
          text_ += fmt::format("release h{}\n", step.holder().index());
          break;
        case Step::Kind::kPhase:
          Print(graph_.phases[step.phase()]);
          Probes(step.phase());
          break;
      }
    }
    return std::move(text_);
  }

 private:
  // Those that take hold before the next op.
  void Holds() {
    for (; next_holder_ < graph_.holders.size(); ++next_holder_) {
      const Holder& holder = graph_.holders[HolderId(next_holder_)];
      if (holder.since.valid() && holder.since.index() > ops_) return;
      text_ += fmt::format("hold h{} s{} {}", next_holder_, holder.storage.index(), Name(holder.kind));
      if (holder.node != nullptr) text_ += fmt::format(" node={}", holder.node);
      if (holder.scope.valid()) text_ += fmt::format(" @{}", graph_.scopes[holder.scope]);
      text_ += '\n';
    }
  }

  void Print(const Phase& phase) {
    text_ += "phase " + phase.name;
    if (phase.step >= 0) text_ += fmt::format(" step={}", phase.step);
    if (phase.micro_step >= 0) text_ += fmt::format(" micro={}", phase.micro_step);
    if (phase.batch >= 0) text_ += fmt::format(" batch={}", phase.batch);
    text_ += '\n';
  }

  void Probes(PhaseId phase) {
    for (const Probe& probe : graph_.probes) {
      if (probe.phase != phase) continue;
      text_ += fmt::format("probe {} {}", Name(probe.kind), Reference(probe.tensor));
      if (probe.name.valid()) text_ += fmt::format(" name={}", graph_.scopes[probe.name]);
      text_ += '\n';
    }
  }

  void Print(const Op& op) {
    std::vector<std::string> inputs;
    for (const TensorId tensor : graph_.Inputs(op)) inputs.push_back(Reference(tensor));
    std::vector<std::string> results;
    for (const TensorId tensor : graph_.Results(op)) results.push_back(Result(tensor));
    text_ += fmt::format("{}{}{}({})", fmt::join(results, ", "), results.empty() ? "" : " = ", IdentifierOf(op.kind),
                         fmt::join(inputs, ", "));
    if (op.attributes.valid()) {
      const Attributes& a = graph_.attributes[op.attributes];
      if (a.number != 0) text_ += fmt::format(" number={}", a.number);
      if (a.second != 0) text_ += fmt::format(" second={}", a.second);
      if (a.integer != std::array<int64_t, 3>{}) text_ += fmt::format(" integer={}", fmt::join(a.integer, ","));
    }
    if (op.scope.valid()) text_ += " @" + graph_.scopes[op.scope];
    if (op.node != nullptr) text_ += fmt::format(" node={}", op.node);
    if (op.thread == Thread::kAutograd) text_ += " autograd";
    text_ += '\n';
  }

  std::string Result(TensorId id) {
    const TensorInfo& tensor = graph_.tensors[id];
    const Storage& storage = graph_.storages[tensor.storage];
    if (own_[tensor.storage].valid() || storage.producer.index() != ops_) return Reference(id);
    own_[tensor.storage] = id;
    std::string text = fmt::format("s{}:{} {}", tensor.storage.index(), Type(tensor), Name(storage.role));
    if (storage.name.valid()) text += fmt::format(" name={}", graph_.scopes[storage.name]);
    const Bytes dense = SizeOf(tensor.dtype) * NumElements(tensor.sizes);
    if (storage.bytes != dense) text += fmt::format(" bytes={}", storage.bytes.count());
    return text;
  }

  std::string Reference(TensorId id) const {
    const TensorInfo& tensor = graph_.tensors[id];
    const TensorId own = own_[tensor.storage];
    if (own.valid() && Type(graph_.tensors[own]) == Type(tensor)) return fmt::format("s{}", tensor.storage.index());
    return fmt::format("s{}:{}", tensor.storage.index(), Type(tensor));
  }

  static std::string Type(const TensorInfo& tensor) {
    std::string text = fmt::format("{}[{}]", Name(tensor.dtype), fmt::join(tensor.sizes, ","));
    if (!IsContiguous(tensor.sizes, tensor.strides)) text += fmt::format("{{{}}}", fmt::join(tensor.strides, ","));
    if (tensor.offset != 0) text += fmt::format("+{}", tensor.offset);
    return text;
  }

  const Graph& graph_;
  std::string text_;
  size_t ops_ = 0;  // printed
  size_t next_holder_ = 0;
  Column<StorageId, TensorId> own_;  // the tensor that the producer made
};

}  // namespace

std::string PrintGraph(const Graph& graph) { return Printer(graph).Run(); }

std::string_view Name(Role role) {
  static constexpr std::array<std::string_view, 10> kNames = {
      "activation", "parameter",           "buffer",          "input", "weight_cast", "logits_and_loss",
      "gradient",   "activation_gradient", "optimizer_state", "scalar"};
  return kNames[static_cast<size_t>(role)];
}

std::string_view Name(ProbeKind kind) { return kind == ProbeKind::kLoss ? "loss" : "gradient"; }

std::string_view Name(HolderKind kind) {
  static constexpr std::array<std::string_view, 10> kNames = {"local",      "caller",        "base",     "saved",
                                                              "checkpoint", "engine_buffer", "gradient", "parameter",
                                                              "cast_cache", "optimizer"};
  return kNames[static_cast<size_t>(kind)];
}

}  // namespace tidemark
