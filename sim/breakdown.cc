#include "sim/breakdown.h"

#include <algorithm>
#include <array>

#include "graph/op.h"

namespace tidemark {
namespace {

// The step of the program during which an event happened.
size_t StepOf(const Lowered& lowered, uint32_t event) {
  const auto after = std::ranges::upper_bound(lowered.first_event, event);
  return static_cast<size_t>(after - lowered.first_event.begin()) - 1;
}

std::string InModule(const Graph& graph, ScopeId scope) {
  return scope.valid() ? " in " + graph.scopes[scope] : std::string();
}

std::string WhyHeld(const Graph& graph, const Holder& holder) {
  const std::string module = InModule(graph, holder.scope);
  switch (holder.kind) {
    case HolderKind::kLocal:
      return "a name or temporary" + (module.empty() ? std::string(" of the training loop") : module);
    case HolderKind::kCaller:
      return "a name of the training loop, until it is bound again";
    case HolderKind::kBase:
      return "a view of it" + module;
    case HolderKind::kSaved:
      return "saved for " + std::string(holder.node) + module;
    case HolderKind::kCheckpoint:
      return "a checkpoint's argument or recomputed tensor" + module;
    case HolderKind::kEngineBuffer:
      return "a gradient that waits for its node";
    case HolderKind::kGradient:
      return ".grad of its parameter, until zero_grad";
    case HolderKind::kParameter:
      return "the model";
    case HolderKind::kCastCache:
      return "autocast's cache, until the region ends";
    case HolderKind::kOptimizer:
      return "the optimizer or the scaler";
  }
  return {};
}

// A reason's weight: the strongest is told first, and locals only where nobody else holds the tensor.
int Weight(HolderKind kind) {
  switch (kind) {
    case HolderKind::kParameter:
    case HolderKind::kOptimizer:
    case HolderKind::kGradient:
      return 4;
    case HolderKind::kSaved:
    case HolderKind::kCheckpoint:
      return 3;
    case HolderKind::kCaller:
    case HolderKind::kCastCache:
    case HolderKind::kEngineBuffer:
      return 2;
    case HolderKind::kLocal:
    case HolderKind::kBase:
      return 1;
  }
  return 0;
}

// The holders of each storage at a moment.
class Holders {
 public:
  Holders(const Graph& graph, size_t step) : graph_(graph) {
    std::vector<bool> gone(graph.holders.size());
    OpId last_op;
    for (size_t i = 0; i <= step && i < graph.program.size(); ++i) {
      const Step s = graph.program[i];
      if (s.kind() == Step::Kind::kRelease) gone[s.holder().index()] = true;
      if (s.kind() == Step::Kind::kOp) last_op = s.op();
    }
    of_.resize(graph.storages.size());
    for (size_t i = 0; i < graph.holders.size(); ++i) {
      const Holder& holder = graph.holders[HolderId(i)];
      if (gone[i] || !last_op.valid() || holder.since.index() > last_op.index()) continue;
      of_[holder.storage].push_back(HolderId(i));
    }
  }

  bool Any(StorageId storage, HolderKind kind) const {
    return std::ranges::any_of(of_[storage], [&](HolderId id) { return graph_.holders[id].kind == kind; });
  }

  std::string Why(StorageId storage) const {
    const std::vector<HolderId>& ids = of_[storage];
    if (ids.empty()) return "being computed";
    int strongest = 0;
    for (const HolderId id : ids) strongest = std::max(strongest, Weight(graph_.holders[id].kind));
    std::vector<std::string> reasons;
    for (const HolderId id : ids) {
      const Holder& holder = graph_.holders[id];
      if (Weight(holder.kind) == 1 && strongest > 1) continue;
      std::string reason = WhyHeld(graph_, holder);
      if (std::ranges::find(reasons, reason) == reasons.end()) reasons.push_back(std::move(reason));
    }
    std::string text = reasons[0];
    for (size_t i = 1; i < std::min<size_t>(reasons.size(), 3); ++i) text += "; " + reasons[i];
    if (reasons.size() > 3) text += "; and " + std::to_string(reasons.size() - 3) + " more";
    return text;
  }

 private:
  const Graph& graph_;
  Column<StorageId, std::vector<HolderId>> of_;
};

Category CategoryOf(const Storage& storage, bool saved, bool grad) {
  switch (storage.role) {
    case Role::kParameter:
    case Role::kBuffer:
      return Category::kParameters;
    case Role::kInput:
      return Category::kInputs;
    case Role::kWeightCast:
      return Category::kWeightCasts;
    case Role::kLogitsAndLoss:
      return Category::kLogitsAndLoss;
    case Role::kOptimizerState:
      return Category::kOptimizerState;
    case Role::kGradient:
      return Category::kGradients;
    case Role::kActivation:
      return saved ? Category::kActivations : Category::kTemporaries;
    case Role::kActivationGradient:
      return grad ? Category::kGradients : Category::kTemporaries;
    case Role::kScalar:
      return Category::kOther;
  }
  return Category::kOther;
}

constexpr std::string_view kWorkspaceName = "cublas workspace";

// Name, op and type: what doesn't depend on the moment.
LiveTensor Identify(const Graph& graph, const Origin& origin) {
  LiveTensor result;
  const Op& op = graph.ops[origin.op];
  result.op = LabelOf(graph, op);
  if (!origin.storage.valid()) {
    result.tensor = std::string(origin.inside) + " of " + std::string(InfoOf(op.kind).name) + InModule(graph, op.scope);
    result.category = origin.inside == kWorkspaceName ? Category::kWorkspace : Category::kTemporaries;
    result.why = result.category == Category::kWorkspace ? "the cuBLAS handle of a thread, until the process ends"
                                                         : "inside the op";
    return result;
  }
  const Storage& storage = graph.storages[origin.storage];
  const TensorInfo& tensor = graph.tensors[graph.Results(op)[storage.result]];
  result.dtype = Name(tensor.dtype);
  result.sizes = tensor.sizes;
  if (storage.name.valid()) {
    result.tensor = graph.scopes[storage.name];
    if (storage.role == Role::kGradient) result.tensor += ".grad";
    if (storage.role == Role::kWeightCast) result.tensor += " cast to " + result.dtype;
  } else {
    // In backward an activation is one that a checkpoint computes again.
    const bool is_activation = storage.role == Role::kActivation;
    const char* prefix = op.node == nullptr ? "" : is_activation ? "recomputed: " : "gradient: ";
    result.tensor = std::string(prefix) + "result of " + std::string(InfoOf(op.kind).name) + InModule(graph, op.scope);
  }
  return result;
}

}  // namespace

std::string_view Name(Category category) {
  constexpr std::array<std::string_view, kCategories> kNames = {
      "parameters",  "gradients", "optimizer_state", "weight_casts", "activations", "logits_and_loss",
      "temporaries", "workspace", "inputs",          "rounding",     "other"};
  return kNames[static_cast<size_t>(category)];
}

Moment MomentOf(const Graph& graph, const Lowered& lowered, uint32_t event) {
  Moment moment;
  const size_t step = StepOf(lowered, event);
  const Op* op = nullptr;
  for (size_t i = step + 1; i-- > 0;) {
    const Step s = graph.program[i];
    if (s.kind() == Step::Kind::kOp && op == nullptr) op = &graph.ops[s.op()];
    if (s.kind() != Step::Kind::kPhase) continue;
    const Phase& phase = graph.phases[s.phase()];
    moment.phase = phase.name;
    moment.step = phase.step;
    moment.micro_step = phase.micro_step;
    moment.batch = phase.batch;
    break;
  }
  if (op != nullptr) moment.op = LabelOf(graph, *op);
  return moment;
}

Breakdown BreakDown(const Graph& graph, const Lowered& lowered, const MemoryState& state) {
  Breakdown result;
  result.at = MomentOf(graph, lowered, state.event);
  result.categories.resize(kCategories);
  const Holders holders(graph, StepOf(lowered, state.event));
  for (const LiveBlock& block : state.live) {
    if (block.pending) continue;
    const Origin& origin = lowered.origins[block.allocation];
    LiveTensor tensor = Identify(graph, origin);
    tensor.allocation = block.allocation;
    tensor.bytes = block.requested;
    tensor.block = block.block;
    if (origin.storage.valid()) {
      const bool saved =
          holders.Any(origin.storage, HolderKind::kSaved) || holders.Any(origin.storage, HolderKind::kCheckpoint);
      tensor.category =
          CategoryOf(graph.storages[origin.storage], saved, holders.Any(origin.storage, HolderKind::kGradient));
      tensor.why = holders.Why(origin.storage);
    }
    result.categories[static_cast<size_t>(tensor.category)] += tensor.bytes;
    result.categories[static_cast<size_t>(Category::kRounding)] += tensor.block - tensor.bytes;
    result.tensors.push_back(std::move(tensor));
  }
  std::ranges::sort(result.tensors, [](const LiveTensor& a, const LiveTensor& b) {
    return a.bytes != b.bytes ? a.bytes > b.bytes : a.allocation < b.allocation;
  });
  return result;
}

LiveTensor Describe(const Graph& graph, const Lowered& lowered, AllocationId allocation) {
  const Origin& origin = lowered.origins[allocation];
  LiveTensor tensor = Identify(graph, origin);
  tensor.allocation = allocation;
  if (origin.storage.valid()) {
    tensor.bytes = graph.storages[origin.storage].bytes;
    tensor.category = CategoryOf(graph.storages[origin.storage], true, false);
  }
  return tensor;
}

}  // namespace tidemark
