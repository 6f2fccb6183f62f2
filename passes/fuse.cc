#include "passes/fuse.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "graph/lifetimes.h"
#include "graph/op.h"
#include "graph/uses.h"
#include "passes/edit.h"

namespace tidemark {
namespace {

// Reductions that need no more than their row.
bool IsRowwise(OpKind kind) {
  switch (kind) {
    case OpKind::kSoftmax:
    case OpKind::kSoftmaxBackward:
    case OpKind::kLogSoftmax:
    case OpKind::kLogSoftmaxBackward:
    case OpKind::kLayerNorm:
    case OpKind::kNllLoss:
    case OpKind::kNllLossBackward:
      return true;
    default:
      return false;
  }
}

bool IsElementwise(OpKind kind) {
  return kind == OpKind::kToCopy || kind == OpKind::kClone || InfoOf(kind).cost == CostClass::kElementwise;
}

struct Kernel {
  std::vector<OpId> ops;  // as they run
  uint32_t position = 0;  // of the first: where all of them go
  int64_t elements = 0;   // of what each op computes
  int64_t row = 0;        // length of a row that is reduced; 0: none is
  size_t phase = 0;
};

class Fuser {
 public:
  Fuser(const Graph& graph, const FusePass& pass)
      : graph_(graph), pass_(pass), lives_(LifetimesOf(graph)), uses_(graph) {
    kernel_of_.resize(graph.ops.size());
    std::ranges::fill(kernel_of_, -1);
    holders_.resize(graph.storages.size());
    for (size_t i = 0; i < graph.holders.size(); ++i)
      holders_[graph.holders[HolderId(i)].storage].push_back(HolderId(i));
  }

  void FindKernels() {
    size_t phase = 0;
    for (const Step step : graph_.program) {
      if (step.kind() == Step::Kind::kPhase) ++phase;
      if (step.kind() == Step::Kind::kOp) Visit(step.op(), phase);
    }
    std::erase_if(kernels_, [](const Kernel& kernel) { return kernel.ops.size() < 2; });
  }

  size_t kernels() const { return kernels_.size(); }
  Bytes kept_inside() const { return kept_inside_; }

  Graph Rewrite() {
    GraphEditor editor(graph_);
    uint32_t next = 0;
    for (const Op& op : graph_.ops) {
      if (op.kernel.valid()) next = std::max(next, op.kernel.index() + 1);
    }
    for (const Kernel& kernel : kernels_) Place(kernel, KernelId(next++), editor);
    return std::move(editor).Finish();
  }

 private:
  void Visit(OpId id, size_t phase) {
    const Op& op = graph_.ops[id];
    const bool rowwise = pass_.reductions && IsRowwise(op.kind);
    const bool several = op.results > 1 && op.kind != OpKind::kNativeDropout && op.kind != OpKind::kLayerNorm &&
                         op.kind != OpKind::kNllLoss;
    if ((!rowwise && !IsElementwise(op.kind)) || op.kernel.valid() || op.results == 0 || several ||
        ChangesInPlace(id)) {
      return;
    }
    const TensorInfo& domain = graph_.tensors[DomainOf(op)];
    if (!IsDense(domain.sizes, domain.strides)) return;
    const int64_t elements = NumElements(domain.sizes);
    const int64_t row = rowwise ? RowOf(op) : 0;
    for (const TensorId input : graph_.Inputs(op)) {
      const int candidate = Producer(input);
      if (candidate < 0) continue;
      Kernel& kernel = kernels_[static_cast<size_t>(candidate)];
      if (kernel.phase != phase || kernel.elements != elements) continue;
      if (row != 0 && kernel.row != 0 && row != kernel.row) continue;
      if (!CanMoveTo(id, kernel)) continue;
      kernel.ops.push_back(id);
      if (row != 0) kernel.row = row;
      kernel_of_[id] = candidate;
      return;
    }
    kernel_of_[id] = static_cast<int>(kernels_.size());
    kernels_.push_back({{id}, lives_.op_at[id], elements, row, phase});
  }

  // What the op's work is spread over.
  TensorId DomainOf(const Op& op) const {
    if (op.kind == OpKind::kNllLoss) return graph_.Inputs(op)[0];
    return graph_.Results(op)[op.kind == OpKind::kNativeDropout ? 1 : 0];
  }

  int64_t RowOf(const Op& op) const {
    const TensorId tensor = op.kind == OpKind::kNllLossBackward ? graph_.Results(op)[0] : graph_.Inputs(op)[0];
    return graph_.tensors[tensor].sizes.back();
  }

  bool ChangesInPlace(OpId id) const {
    return std::ranges::any_of(graph_.Results(graph_.ops[id]), [&](TensorId result) {
      return graph_.storages[graph_.tensors[result].storage].producer != id;
    });
  }

  // The kernel that made what the operand reads, in the order in which it was made; -1: none.
  int Producer(TensorId operand) const {
    const TensorInfo& read = graph_.tensors[operand];
    const OpId producer = graph_.storages[read.storage].producer;
    const int kernel = kernel_of_[producer];
    if (kernel < 0) return -1;
    for (const TensorId result : graph_.Results(graph_.ops[producer])) {
      const TensorInfo& made = graph_.tensors[result];
      if (made.storage != read.storage) continue;
      const bool same = made.sizes == read.sizes && made.strides == read.strides && made.offset == read.offset;
      const bool reshaped = IsContiguous(made.sizes, made.strides) && IsContiguous(read.sizes, read.strides) &&
                            NumElements(made.sizes) == NumElements(read.sizes);
      return same || reshaped ? kernel : -1;
    }
    return -1;
  }

  // Whether all that the op reads is there where the kernel runs, and stays as it is until the op's own place.
  bool CanMoveTo(OpId id, const Kernel& kernel) const {
    const uint32_t own = lives_.op_at[id];
    return std::ranges::all_of(graph_.Inputs(graph_.ops[id]), [&](TensorId input) {
      const StorageId storage = graph_.tensors[input].storage;
      const OpId producer = graph_.storages[storage].producer;
      const bool inside = kernel_of_[producer] >= 0 && &kernels_[static_cast<size_t>(kernel_of_[producer])] == &kernel;
      if (!inside && lives_.op_at[producer] > kernel.position) return false;
      return std::ranges::none_of(uses_.Of(storage), [&](const Use& use) {
        const uint32_t at = lives_.op_at[use.op];
        return use.writes && use.op != producer && at >= kernel.position && at < own;
      });
    });
  }

  // Only ops of the kernel read it, and nobody keeps it for another reason.
  bool StaysInside(StorageId storage, const Kernel& kernel) const {
    const bool read = std::ranges::all_of(
        uses_.Of(storage), [&](const Use& use) { return std::ranges::find(kernel.ops, use.op) != kernel.ops.end(); });
    const bool used = uses_.Of(storage).size() > 1;
    return read && used && std::ranges::all_of(holders_[storage], [&](HolderId id) {
             switch (graph_.holders[id].kind) {
               case HolderKind::kLocal:
               case HolderKind::kBase:
               case HolderKind::kSaved:
               case HolderKind::kEngineBuffer:
               case HolderKind::kCheckpoint:
                 return lives_.released_at[id] != kNever;
               default:
                 return false;
             }
           });
  }

  void Place(const Kernel& kernel, KernelId number, GraphEditor& editor) {
    for (const OpId id : kernel.ops) {
      editor.graph().ops[id].kernel = number;
      const uint32_t own = lives_.op_at[id];
      if (id != kernel.ops.front()) {
        editor.Erase(own);
        editor.InsertAfter(kernel.position, Step(id));
      }
      for (const TensorId result : graph_.Results(graph_.ops[id])) {
        const StorageId storage = graph_.tensors[result].storage;
        if (StaysInside(storage, kernel)) {
          editor.graph().storages[storage].location = Location::kKernel;
          kept_inside_ += graph_.storages[storage].bytes;
        }
        // Until its old holders take hold, where the op was.
        if (id == kernel.ops.front()) continue;
        const HolderId holder = editor.AddHolder(storage, HolderKind::kLocal, id, graph_.ops[id].scope);
        editor.InsertAfter(own, Step(holder));
      }
    }
  }

  const Graph& graph_;
  const FusePass& pass_;
  Lifetimes lives_;
  Uses uses_;
  Column<StorageId, std::vector<HolderId>> holders_;
  Column<OpId, int> kernel_of_;  // -1: none
  std::vector<Kernel> kernels_;
  Bytes kept_inside_;
};

}  // namespace

Result<PassResult> Fuse(Graph graph, const PassConfig& config, const PassContext& /*context*/) {
  Fuser fuser(graph, std::get<FusePass>(config));
  fuser.FindKernels();
  Graph fused = fuser.Rewrite();
  std::string note = fmt::format("{} kernels; {:.1f} MiB of results in the run never leave them", fuser.kernels(),
                                 fuser.kept_inside() / kMiB);
  return PassResult{std::move(fused), {std::move(note)}};
}

}  // namespace tidemark
