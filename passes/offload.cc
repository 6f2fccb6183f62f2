#include "passes/offload.h"

#include <fmt/format.h>

#include <algorithm>

#include "graph/lifetimes.h"
#include "graph/uses.h"
#include "passes/edit.h"
#include "passes/optimizer_lists.h"
#include "passes/recompute_plan.h"

namespace tidemark {
namespace {

// Copies of storages between the device and the host.
class Transfers {
 public:
  Transfers(const Graph& graph, GraphEditor& editor) : graph_(graph), editor_(editor) {}

  struct Copied {
    OpId op;
    StorageId storage;
    TensorId tensor;  // the whole
  };
  // A copy of all of `tensor`'s storage, whose op the caller inserts. `like`: the storage and the tensor that its
  // producer made of it.
  Copied Copy(OpKind kind, TensorId from, StorageId like, ScopeId scope, const char* node, Thread thread) {
    Op op;
    op.kind = kind;
    op.scope = scope;
    op.node = node;
    op.thread = thread;
    const OpId id(editor_.graph().ops.size());
    Storage storage = graph_.storages[like];
    storage.producer = id;
    storage.result = 0;
    storage.location = kind == OpKind::kOffload ? Location::kHost : Location::kDevice;
    TensorInfo tensor = graph_.tensors[Whole(like)];
    tensor.storage = editor_.AddStorage(storage);
    const TensorId result = editor_.AddTensor(tensor);
    const TensorId inputs[] = {from};
    const TensorId results[] = {result};
    editor_.AddOp(op, inputs, results);
    bytes_ += storage.bytes;
    return {id, tensor.storage, result};
  }

  TensorId Whole(StorageId storage) const {
    const Storage& s = graph_.storages[storage];
    return graph_.Results(graph_.ops[s.producer])[s.result];
  }

  // The same view of another storage.
  TensorId On(TensorId like, StorageId storage) {
    TensorInfo tensor = graph_.tensors[like];
    tensor.storage = storage;
    return editor_.AddTensor(tensor);
  }

  Bytes bytes() const { return bytes_; }

 private:
  const Graph& graph_;
  GraphEditor& editor_;
  Bytes bytes_;
};

// What one micro-step saves: to the host behind its last reader of forward, back before its first of backward.
void OffloadSaved(const RecomputeAnalysis& analysis, const MicroStep& micro, StorageId storage, Transfers& transfers,
                  GraphEditor& editor) {
  const Graph& graph = analysis.graph;
  const Storage& saved = graph.storages[storage];
  const ScopeId scope = graph.ops[saved.producer].scope;
  uint32_t last_use = 0;
  std::vector<OpId> readers;
  for (const Use& use : analysis.uses.Of(storage)) {
    if (analysis.Within(use.op, micro.forward)) last_use = analysis.lives.op_at[use.op];
    if (analysis.Within(use.op, micro.backward)) readers.push_back(use.op);
  }
  const uint32_t first = analysis.lives.op_at[readers.front()];
  const uint32_t last = analysis.lives.op_at[readers.back()];
  const auto out = transfers.Copy(OpKind::kOffload, transfers.Whole(storage), storage, scope, nullptr, Thread::kMain);
  editor.InsertAfter(last_use, Step(out.op));
  editor.InsertAfter(last_use, Step(editor.AddHolder(storage, HolderKind::kLocal, saved.producer, scope)));
  const HolderId on_host = editor.AddHolder(out.storage, HolderKind::kSaved, out.op, scope);
  const auto back =
      transfers.Copy(OpKind::kFetch, out.tensor, storage, scope, graph.ops[readers.front()].node, Thread::kAutograd);
  editor.InsertBefore(first, Step(back.op));
  editor.InsertBefore(first, Step(on_host));
  for (const OpId reader : readers) {
    const Op op = graph.ops[reader];
    for (size_t i = 0; i < op.inputs; ++i) {
      const TensorId tensor = graph.operands[op.first_operand + i];
      if (graph.tensors[tensor].storage == storage) editor.SetOperand(reader, i, transfers.On(tensor, back.storage));
    }
  }
  if (MoveHolders(analysis, micro, storage, back.storage, back.op, first, editor) > last) return;
  editor.InsertAfter(last, Step(editor.AddHolder(back.storage, HolderKind::kSaved, back.op, scope)));
}

PassResult OffloadActivations(const Graph& graph, Bytes smallest) {
  const RecomputeAnalysis analysis(graph);
  GraphEditor editor(graph);
  Transfers transfers(graph, editor);
  size_t count = 0;
  for (const MicroStep& micro : analysis.micro_steps) {
    for (const StorageId storage : analysis.ForwardStorages(micro)) {
      const bool written_late = std::ranges::any_of(analysis.uses.Of(storage), [&](const Use& use) {
        return use.writes && !analysis.Within(use.op, micro.forward);
      });
      if (graph.storages[storage].bytes < smallest || graph.storages[storage].location != Location::kDevice) continue;
      if (written_late || !analysis.OnlySaved(storage, micro) || !analysis.ReadIn(storage, micro.backward)) continue;
      OffloadSaved(analysis, micro, storage, transfers, editor);
      ++count;
    }
  }
  std::string note =
      fmt::format("{} tensors in the run; {:.1f} GiB over the host's link", count, transfers.bytes() / kGiB);
  return {std::move(editor).Finish(), {std::move(note)}};
}

// One state of one parameter: after each update to the host, before the next one back.
void OffloadState(const Graph& graph, const Lifetimes& lives, const Uses& uses, StorageId state,
                  const std::vector<HolderId>& holders, Transfers& transfers, GraphEditor& editor) {
  const Storage& storage = graph.storages[state];
  for (const HolderId holder : holders) {
    if (lives.released_at[holder] == kNever) editor.Drop(holder);
  }
  StorageId current = state;
  TensorId whole = transfers.Whole(state);
  OpId held_since = storage.producer;
  HolderId on_host;
  for (const Use& use : uses.Of(state)) {
    if (use.op == storage.producer) continue;
    const uint32_t at = lives.op_at[use.op];
    if (on_host.valid()) {
      const auto back = transfers.Copy(OpKind::kFetch, whole, state, ScopeId(), nullptr, Thread::kMain);
      editor.InsertBefore(at, Step(back.op));
      editor.InsertBefore(at, Step(on_host));
      current = back.storage;
      whole = back.tensor;
      held_since = back.op;
      const Op op = graph.ops[use.op];
      for (size_t i = 0; i < size_t{op.inputs} + op.results; ++i) {
        const TensorId tensor = graph.operands[op.first_operand + i];
        if (graph.tensors[tensor].storage == state) editor.SetOperand(use.op, i, transfers.On(tensor, current));
      }
    }
    const auto out = transfers.Copy(OpKind::kOffload, whole, state, ScopeId(), nullptr, Thread::kMain);
    editor.InsertAfter(at, Step(out.op));
    editor.InsertAfter(at, Step(editor.AddHolder(current, HolderKind::kOptimizer, held_since, ScopeId())));
    on_host = editor.AddHolder(out.storage, HolderKind::kOptimizer, out.op, ScopeId());
    whole = out.tensor;
  }
}

Result<PassResult> OffloadStates(Graph graph, Bytes smallest) {
  ASSIGN_OR_RETURN(const Graph split, SplitUpdates(std::move(graph)));
  const Lifetimes lives = LifetimesOf(split);
  const Uses uses(split);
  Column<StorageId, std::vector<HolderId>> holders;
  holders.resize(split.storages.size());
  for (size_t i = 0; i < split.holders.size(); ++i) holders[split.holders[HolderId(i)].storage].push_back(HolderId(i));
  GraphEditor editor(split);
  Transfers transfers(split, editor);
  size_t count = 0;
  for (size_t i = 0; i < split.storages.size(); ++i) {
    const StorageId state(i);
    const Storage& storage = split.storages[state];
    if (storage.role != Role::kOptimizerState || storage.bytes < smallest || storage.location != Location::kDevice)
      continue;
    OffloadState(split, lives, uses, state, holders[state], transfers, editor);
    ++count;
  }
  std::string note =
      fmt::format("{} states; {:.1f} GiB over the host's link in the run", count, transfers.bytes() / kGiB);
  return PassResult{std::move(editor).Finish(), {std::move(note)}};
}

}  // namespace

Result<PassResult> Offload(Graph graph, const PassConfig& config, const PassContext& /*context*/) {
  const auto& pass = std::get<OffloadPass>(config);
  if (pass.what == OffloadWhat::kActivations) return OffloadActivations(graph, pass.smallest);
  return OffloadStates(std::move(graph), pass.smallest);
}

}  // namespace tidemark
