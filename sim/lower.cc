#include "sim/lower.h"

#include <array>
#include <string_view>
#include <unordered_map>

#include "graph/base/check.h"
#include "graph/op.h"

namespace tidemark {
namespace {

std::string_view CategoryOf(Role role) {
  switch (role) {
    case Role::kParameter:
      return "parameter";
    case Role::kBuffer:
      return "buffer";
    case Role::kInput:
      return "input";
    case Role::kWeightCast:
      return "weight_cast";
    case Role::kGradient:
    case Role::kActivationGradient:
      return "gradient";
    case Role::kOptimizerState:
      return "optimizer_state";
    case Role::kLogitsAndLoss:
      return "output";
    case Role::kActivation:
    case Role::kScalar:
      return "tensor";
  }
  return "tensor";
}

class Lowering {
 public:
  Lowering(const Graph& graph, const DeviceSpec& device) : graph_(graph), device_(device) {
    holders_.resize(graph.storages.size());
    for (const Holder& holder : graph.holders) ++holders_[holder.storage];
    result_.allocations.resize(graph.storages.size());
    result_.first_event.reserve(graph.program.size());
    result_.tape.events.reserve(graph.program.size());
    result_.origins.reserve(graph.program.size());
    result_.tape.allocations.reserve(graph.program.size());
  }

  Lowered Run() {
    for (const Step step : graph_.program) {
      result_.first_event.push_back(static_cast<uint32_t>(result_.tape.events.size()));
      switch (step.kind()) {
        case Step::Kind::kOp:
          LowerOp(step.op());
          break;
        case Step::Kind::kRelease:
          Release(graph_.holders[step.holder()].storage);
          break;
        case Step::Kind::kPhase:
          MarkPhase(graph_.phases[step.phase()]);
          break;
      }
    }
    return std::move(result_);
  }

 private:
  void LowerOp(OpId id) {
    const Op& op = graph_.ops[id];
    const OpInfo& info = InfoOf(op.kind);
    if (info.memory == nullptr) {
      for (const TensorId result : graph_.Results(op)) AllocateResult(id, result);
      return;
    }
    plan_.Clear();
    info.memory(OpView(graph_, op), device_, plan_);
    temporaries_.assign(static_cast<size_t>(plan_.temporaries()), AllocationId());
    for (const MemoryPlan::Item& item : plan_.items()) {
      const auto index = static_cast<size_t>(item.index);
      switch (item.kind) {
        case MemoryPlan::Kind::kResult:
          AllocateResult(id, graph_.Results(op)[index]);
          break;
        case MemoryPlan::Kind::kTemporary:
          temporaries_[index] = Allocate(id, item.bytes, StorageId(), item.what);
          break;
        case MemoryPlan::Kind::kFree:
          Free(temporaries_[index]);
          break;
        case MemoryPlan::Kind::kCublasWorkspace:
          if (std::exchange(has_workspace_[static_cast<size_t>(op.thread)], true)) break;
          Allocate(id, CublasWorkspaceBytes(device_), StorageId(), "cublas workspace");
          break;
      }
    }
  }

  void AllocateResult(OpId id, TensorId tensor) {
    const StorageId storage = graph_.tensors[tensor].storage;
    const Storage& s = graph_.storages[storage];
    if (s.producer != id || s.location != Location::kDevice) return;  // in place, or elsewhere
    const AllocationId allocation = Allocate(id, s.bytes, storage, nullptr);
    result_.allocations[storage] = allocation;
    if (allocation.valid() && s.name.valid()) Describe(allocation, s, graph_.tensors[tensor]);
  }

  AllocationId Allocate(OpId id, Bytes bytes, StorageId storage, const char* inside) {
    if (bytes == Bytes()) return {};
    Tape& tape = result_.tape;
    MarkOp(graph_.ops[id]);
    const AllocationId allocation = tape.allocations.Add({.id = tape.allocations.size()});
    tape.events.push_back({.kind = EventKind::kAlloc, .allocation = allocation, .bytes = bytes});
    result_.origins.Add({id, storage, inside});
    return allocation;
  }

  void Free(AllocationId allocation) {
    if (!allocation.valid()) return;
    result_.tape.events.push_back({.kind = EventKind::kFree, .allocation = allocation});
  }

  void Release(StorageId storage) {
    CHECK(holders_[storage] > 0);
    if (--holders_[storage] == 0) Free(result_.allocations[storage]);
  }

  void MarkPhase(const Phase& phase) {
    std::string text = phase.name;
    if (phase.step >= 0) text += " step=" + std::to_string(phase.step);
    if (phase.micro_step >= 0) text += " micro=" + std::to_string(phase.micro_step);
    if (phase.batch >= 0) text += " batch=" + std::to_string(phase.batch);
    Mark(MarkKind::kPhase, result_.tape.texts.Add(std::move(text)));
    marked_ = TextId();
  }

  void MarkOp(const Op& op) {
    const FusedKernelId fused = op.kind == OpKind::kFusedKernel ? FusedKernelOf(graph_, op) : FusedKernelId();
    const Label label = {op.node, op.kind, op.scope, fused};
    if (!(label == last_label_)) {
      last_label_ = label;
      const auto [known, is_new] = labels_.try_emplace(label);
      if (is_new) known->second = result_.tape.texts.Add(LabelOf(graph_, op));
      label_text_ = known->second;
    }
    if (marked_ == label_text_) return;
    marked_ = label_text_;
    Mark(MarkKind::kOp, label_text_);
  }

  void Mark(MarkKind kind, TextId text) {
    result_.tape.marks.push_back({static_cast<uint32_t>(result_.tape.events.size()), kind, text});
  }

  void Describe(AllocationId allocation, const Storage& storage, const TensorInfo& tensor) {
    std::string text(CategoryOf(storage.role));
    text += ' ';
    text += graph_.scopes[storage.name];
    text += ' ';
    text += Name(tensor.dtype);
    text += '[';
    for (int i = 0; i < tensor.sizes.size(); ++i) {
      if (i > 0) text += ',';
      text += std::to_string(tensor.sizes[i]);
    }
    text += ']';
    result_.tape.allocations[allocation].text = result_.tape.texts.Add(std::move(text));
  }

  struct Label {
    const char* node = nullptr;
    OpKind kind = OpKind::kFromHost;
    ScopeId scope;
    FusedKernelId fused;
    bool operator==(const Label&) const = default;
  };
  struct LabelHash {
    size_t operator()(const Label& l) const {
      const uint64_t key =
          (uint64_t{l.fused.index()} << 48) ^ ((uint64_t{l.scope.index()} << 16) + static_cast<uint64_t>(l.kind));
      return std::hash<uint64_t>()(key * 0x9e3779b97f4a7c15U ^ reinterpret_cast<uintptr_t>(l.node));
    }
  };

  const Graph& graph_;
  const DeviceSpec& device_;
  Lowered result_;
  Column<StorageId, uint32_t> holders_;  // that haven't let go
  std::array<bool, 2> has_workspace_{};  // by thread
  MemoryPlan plan_;
  std::vector<AllocationId> temporaries_;
  std::unordered_map<Label, TextId, LabelHash> labels_;
  Label last_label_{nullptr, OpKind::kFromHost, ScopeId(0), {}};
  TextId label_text_;
  TextId marked_;
};

}  // namespace

std::string LabelOf(const Graph& graph, const Op& op) {
  std::string label;
  if (op.node != nullptr) label = std::string(op.node) + " ";
  label += op.kind == OpKind::kFusedKernel ? graph.fused[FusedKernelOf(graph, op)].name : InfoOf(op.kind).name;
  if (op.scope.valid()) label += " @ " + graph.scopes[op.scope];
  return label;
}

Lowered Lower(const Graph& graph, const DeviceSpec& device) { return Lowering(graph, device).Run(); }

}  // namespace tidemark
