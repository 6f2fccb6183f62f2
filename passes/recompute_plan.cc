#include "passes/recompute_plan.h"

#include <algorithm>
#include <numeric>

#include "passes/edit.h"

namespace tidemark {
namespace {

constexpr uint32_t kNone = kNever;

// Maps that all micro-steps share: no storage or op is copied in two of them.
struct Copies {
  Column<StorageId, uint32_t> stay_of;      // by old storage: index of its copy's stay
  Column<StorageId, uint32_t> extended_of;  // by old storage: index of its own stay, where it has to live on
  Column<OpId, uint32_t> of;                // by original: index of its copy
};

// A stretch of time for which backward needs a storage: of a copy's result, or an old one that has to live on.
struct Stay {
  StorageId old;
  StorageId storage;           // the new one, or the old one
  OpId since;                  // the op after which it is held
  uint32_t begins = 0;         // the position before which a copy made it
  uint32_t last_copy = kNone;  // the last copy that reads it, or made it
  uint32_t last_at = 0;        // the last step of the old program that reads it; 0: none
  uint32_t held_to = 0;        // until when holders that moved to it hold it anyway
};

struct Copy {
  OpId op;
  uint32_t position;  // it runs right before this step; of those there, in forward's order
  uint32_t original;  // where the original runs
  bool operator<(const Copy& other) const {
    return position != other.position ? position < other.position : original < other.original;
  }
};

// Rewrites the backward of one micro-step.
class Rewriter {
 public:
  Rewriter(const RecomputeAnalysis& analysis, const RecomputePlan& plan, const MicroStep& micro, Copies& copies,
           GraphEditor& editor)
      : analysis_(analysis), graph_(analysis.graph), plan_(plan), micro_(micro), copies_(copies), editor_(editor) {}

  void Run() {
    std::vector<StorageId> dropped;
    for (const StorageId storage : analysis_.ForwardStorages(micro_)) {
      if (plan_[storage] == Keep::kDrop) dropped.push_back(storage);
    }
    if (dropped.empty()) return;
    for (const StorageId storage : dropped) LetGo(storage);
    for (int64_t i = micro_.backward.begin; i < micro_.backward.end; ++i) {
      const Step step = graph_.program[static_cast<size_t>(i)];
      if (step.kind() == Step::Kind::kOp) Redirect(step.op(), static_cast<uint32_t>(i));
    }
    for (const StorageId storage : dropped) MoveHoldersOf(storage);
    Place();
    for (const Stay& stay : stays_) copies_.stay_of[stay.old] = copies_.extended_of[stay.old] = kNone;
  }

 private:
  // Forward: the storage dies where its last name lets go, but not before its last reader there.
  void LetGo(StorageId storage) {
    uint32_t last_use = 0;
    for (const Use& use : analysis_.uses.Of(storage)) {
      if (analysis_.Within(use.op, micro_.forward)) last_use = analysis_.lives.op_at[use.op];
    }
    const bool covered = std::ranges::any_of(analysis_.holders[storage], [&](HolderId holder) {
      const uint32_t released = analysis_.lives.released_at[holder];
      return released > last_use && released < micro_.backward.begin;
    });
    if (covered) return;
    const OpId producer = graph_.storages[storage].producer;
    const HolderId holder = editor_.AddHolder(storage, HolderKind::kLocal, producer, graph_.ops[producer].scope);
    editor_.InsertAfter(last_use, Step(holder));
  }

  // An op of backward, at `position`, reads copies of what was dropped.
  void Redirect(OpId id, uint32_t position) {
    const Op op = graph_.ops[id];
    for (size_t i = 0; i < op.inputs; ++i) {
      const TensorId tensor = graph_.operands[op.first_operand + i];
      const StorageId storage = graph_.tensors[tensor].storage;
      if (plan_[storage] != Keep::kDrop || !BornHere(storage)) continue;
      Stay& stay = stays_[Available(storage, position, op.node)];
      stay.last_at = position;
      editor_.SetOperand(id, i, TensorOn(tensor, stay.storage));
    }
  }

  bool BornHere(StorageId storage) const { return micro_.forward.Contains(analysis_.lives.born[storage]); }

  bool ComputedAgain(StorageId storage) const {
    if (!BornHere(storage) || plan_[storage] == Keep::kExtend) return false;
    if (plan_[storage] == Keep::kDrop) return true;
    const bool kept = analysis_.lives.dies[storage] >= micro_.backward.begin;
    return !kept && analysis_.Repeatable(storage, micro_);
  }

  // The stay in which a storage's value can be read right before `position`; it is computed again if need be.
  uint32_t Available(StorageId storage, uint32_t position, const char* node) {
    const uint32_t& stay = copies_.stay_of[storage];
    if (stay != kNone) return stay;
    for (const Use& use : analysis_.uses.Of(storage)) {
      if (use.writes) Repeat(use.op, position, node);
    }
    return stay;
  }

  // An old storage that has to live on, from the op of forward that reads it.
  uint32_t Extended(StorageId storage, OpId reader) {
    uint32_t& stay = copies_.extended_of[storage];
    if (stay == kNone) {
      stay = static_cast<uint32_t>(stays_.size());
      stays_.push_back({.old = storage, .storage = storage, .since = reader});
    }
    return stay;
  }

  // A copy of an op of forward, right before `position`, after copies of what it reads.
  void Repeat(OpId original, uint32_t position, const char* node) {
    std::vector<TensorId> inputs;
    std::vector<uint32_t> read;  // stays
    for (const TensorId tensor : graph_.Inputs(graph_.ops[original])) {
      const StorageId storage = graph_.tensors[tensor].storage;
      if (ComputedAgain(storage)) {
        read.push_back(Available(storage, position, node));
        inputs.push_back(TensorOn(tensor, stays_[read.back()].storage));
      } else {
        if (analysis_.lives.dies[storage] <= position) read.push_back(Extended(storage, original));
        inputs.push_back(tensor);
      }
    }
    if (copies_.of[original] != kNone) return;  // done before, or by way of what it reads
    const auto index = static_cast<uint32_t>(order_.size());
    copies_.of[original] = index;
    Op op = graph_.ops[original];
    op.thread = Thread::kAutograd;
    op.node = node;
    const std::span<const TensorId> old_results = graph_.Results(op);
    const OpId copy(editor_.graph().ops.size());
    std::vector<TensorId> results;
    for (const TensorId old : old_results)
      results.push_back(TensorOn(old, ResultOf(old, original, copy, position, index)));
    editor_.AddOp(op, inputs, results);
    order_.push_back({copy, position, analysis_.lives.op_at[original]});
    for (const uint32_t stay : read) {
      uint32_t& last = stays_[stay].last_copy;
      if (last == kNone || order_[last] < order_[index]) last = index;
    }
  }

  // The storage behind a result of a copy.
  StorageId ResultOf(TensorId result, OpId original, OpId copy, uint32_t position, uint32_t index) {
    const StorageId old = graph_.tensors[result].storage;
    Storage storage = graph_.storages[old];
    if (storage.producer != original) return stays_[copies_.stay_of[old]].storage;  // in place
    storage.producer = copy;
    copies_.stay_of[old] = static_cast<uint32_t>(stays_.size());
    stays_.push_back(
        {.old = old, .storage = editor_.AddStorage(storage), .since = copy, .begins = position, .last_copy = index});
    return stays_.back().storage;
  }

  TensorId TensorOn(TensorId like, StorageId storage) {
    TensorInfo tensor = graph_.tensors[like];
    if (tensor.storage == storage) return like;
    tensor.storage = storage;
    return editor_.AddTensor(tensor);
  }

  // Those who held a dropped storage through backward hold its copy; without one, they go.
  void MoveHoldersOf(StorageId storage) {
    const uint32_t index = copies_.stay_of[storage];
    if (index == kNone) {
      MoveHolders(analysis_, micro_, storage, storage, OpId(), kNone, editor_);
      return;
    }
    Stay& stay = stays_[index];
    stay.held_to = MoveHolders(analysis_, micro_, storage, stay.storage, stay.since, stay.begins, editor_);
  }

  // Puts copies where they belong, and behind the last reader of each stay the release of who holds it.
  void Place() {
    std::vector<std::vector<HolderId>> behind(order_.size());  // by copy
    for (const Stay& stay : stays_) {
      const uint32_t copied_at = order_[stay.last_copy].position;
      const uint32_t needed_to = std::max(stay.last_at, copied_at);
      if (stay.held_to > needed_to) continue;
      const ScopeId scope = graph_.ops[graph_.storages[stay.old].producer].scope;
      const HolderId holder = editor_.AddHolder(stay.storage, HolderKind::kCheckpoint, stay.since, scope);
      if (stay.last_at >= copied_at) {
        editor_.InsertAfter(stay.last_at, Step(holder));
      } else {
        behind[stay.last_copy].push_back(holder);
      }
    }
    std::vector<size_t> sorted(order_.size());
    std::iota(sorted.begin(), sorted.end(), size_t{0});
    std::ranges::sort(sorted, [&](size_t a, size_t b) { return order_[a] < order_[b]; });
    for (const size_t i : sorted) {
      editor_.InsertBefore(order_[i].position, Step(order_[i].op));
      for (const HolderId holder : behind[i]) editor_.InsertBefore(order_[i].position, Step(holder));
    }
  }

  const RecomputeAnalysis& analysis_;
  const Graph& graph_;
  const RecomputePlan& plan_;
  const MicroStep& micro_;
  Copies& copies_;
  GraphEditor& editor_;
  std::vector<Stay> stays_;
  std::vector<Copy> order_;  // copies as they were asked for
};

}  // namespace

RecomputeAnalysis::RecomputeAnalysis(const Graph& g)
    : graph(g), lives(LifetimesOf(g)), uses(g), micro_steps(MicroStepsOf(g)) {
  holders.resize(g.storages.size());
  for (size_t i = 0; i < g.holders.size(); ++i) holders[g.holders[HolderId(i)].storage].push_back(HolderId(i));
}

bool RecomputeAnalysis::WrittenBetween(StorageId storage, uint32_t after, int64_t before) const {
  const std::span<const Use> all = uses.Of(storage);
  auto use = std::ranges::upper_bound(all, after, {}, [&](const Use& u) { return lives.op_at[u.op]; });
  for (; use != all.end() && lives.op_at[use->op] < before; ++use) {
    if (use->writes) return true;
  }
  return false;
}

bool RecomputeAnalysis::Repeatable(StorageId storage, const MicroStep& micro) const {
  bool read = false;
  for (const Use& use : uses.Of(storage)) {
    if (!use.writes) {
      read = true;
      continue;
    }
    if (read || !Within(use.op, micro.forward) || graph.ops[use.op].kind == OpKind::kFromHost) return false;
    if (ChangesAnother(use.op, storage)) return false;
    for (const TensorId input : graph.Inputs(graph.ops[use.op])) {
      const StorageId from = graph.tensors[input].storage;
      if (from != storage && WrittenBetween(from, lives.op_at[use.op], micro.backward.end)) return false;
    }
  }
  return true;
}

bool RecomputeAnalysis::ChangesAnother(OpId op, StorageId storage) const {
  return std::ranges::any_of(graph.Results(graph.ops[op]), [&](TensorId result) {
    const StorageId changed = graph.tensors[result].storage;
    return changed != storage && graph.storages[changed].producer != op;
  });
}

bool RecomputeAnalysis::Droppable(StorageId storage, const MicroStep& micro) const {
  return OnlySaved(storage, micro) && Repeatable(storage, micro);
}

bool RecomputeAnalysis::OnlySaved(StorageId storage, const MicroStep& micro) const {
  if (!micro.forward.Contains(lives.born[storage])) return false;
  bool kept = false;
  for (const HolderId id : holders[storage]) {
    const uint32_t released = lives.released_at[id];
    if (released < micro.backward.begin) continue;
    const HolderKind kind = graph.holders[id].kind;
    // Locals: what backward's nodes unpack.
    if (kind != HolderKind::kSaved && kind != HolderKind::kBase && kind != HolderKind::kLocal) return false;
    if (released >= micro.backward.end) return false;
    kept = true;
  }
  return kept;
}

std::vector<StorageId> RecomputeAnalysis::ForwardStorages(const MicroStep& micro) const {
  std::vector<StorageId> storages;
  for (int64_t i = micro.forward.begin; i < micro.forward.end; ++i) {
    const Step step = graph.program[static_cast<size_t>(i)];
    if (step.kind() != Step::Kind::kOp) continue;
    for (const TensorId result : graph.Results(graph.ops[step.op()])) {
      const StorageId storage = graph.tensors[result].storage;
      if (graph.storages[storage].producer == step.op()) storages.push_back(storage);
    }
  }
  return storages;
}

bool RecomputeAnalysis::ReadIn(StorageId storage, const Interval& interval) const {
  return std::ranges::any_of(uses.Of(storage), [&](const Use& use) { return Within(use.op, interval); });
}

uint32_t MoveHolders(const RecomputeAnalysis& analysis, const MicroStep& micro, StorageId old, StorageId copy,
                     OpId since, uint32_t begins, GraphEditor& editor) {
  uint32_t held_to = 0;
  for (const HolderId holder : analysis.holders[old]) {
    const uint32_t released = analysis.lives.released_at[holder];
    if (released < micro.backward.begin) continue;
    if (released < begins) {
      editor.Drop(holder);
      continue;
    }
    const OpId took = analysis.graph.holders[holder].since;
    const bool later = took.index() > 0 && analysis.lives.op_at[OpId(took.index() - size_t{1})] >= begins;
    editor.MoveHolder(holder, copy, later ? OpId() : since);
    held_to = std::max(held_to, released);
  }
  return held_to;
}

Graph ApplyRecompute(const RecomputeAnalysis& analysis, const RecomputePlan& plan) {
  GraphEditor editor(analysis.graph);
  Copies copies;
  copies.stay_of.resize(analysis.graph.storages.size());
  std::ranges::fill(copies.stay_of, kNone);
  copies.extended_of.resize(analysis.graph.storages.size());
  std::ranges::fill(copies.extended_of, kNone);
  copies.of.resize(analysis.graph.ops.size());
  std::ranges::fill(copies.of, kNone);
  for (const MicroStep& micro : analysis.micro_steps) Rewriter(analysis, plan, micro, copies, editor).Run();
  return std::move(editor).Finish();
}

}  // namespace tidemark
