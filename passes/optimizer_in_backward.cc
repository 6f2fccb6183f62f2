#include "passes/optimizer_in_backward.h"

#include <algorithm>
#include <set>

#include "graph/lifetimes.h"
#include "graph/micro_steps.h"
#include "graph/uses.h"
#include "passes/edit.h"
#include "passes/optimizer_lists.h"

namespace tidemark {
namespace {

class Mover {
 public:
  Mover(const Graph& graph, GraphEditor& editor)
      : graph_(graph), editor_(editor), lives_(LifetimesOf(graph)), uses_(graph), micro_steps_(MicroStepsOf(graph)) {
    holders_.resize(graph.storages.size());
    for (size_t i = 0; i < graph.holders.size(); ++i)
      holders_[graph.holders[HolderId(i)].storage].push_back(HolderId(i));
  }

  void Move(const ParameterUpdate& update) {
    const uint32_t own = lives_.op_at[update.op];
    const MicroStep* micro = LastBackwardBefore(own);
    if (micro == nullptr) return;
    uint32_t to = 0;
    for (const StorageId storage : {update.parameter, update.gradient}) {
      for (const Use& use : uses_.Of(storage)) {
        const uint32_t at = lives_.op_at[use.op];
        if (micro->backward.Contains(at)) to = std::max(to, at);
      }
    }
    if (to == 0) return;
    // Nor before .grad holds it.
    for (const HolderId holder : holders_[update.gradient]) {
      const OpId since = graph_.holders[holder].since;
      if (!since.valid() || since.index() == 0 || lives_.released_at[holder] < to) continue;
      const uint32_t held_at = lives_.op_at[OpId(since.index() - size_t{1})];
      if (micro->backward.Contains(held_at)) to = std::max(to, held_at);
    }
    for (const StorageId state : update.states) Create(state, to, own);
    Put(update.op, to);
    for (const HolderId holder : holders_[update.gradient]) {
      const uint32_t released = lives_.released_at[holder];
      if (released == kNever || released < to) continue;
      editor_.Erase(released);
      editor_.InsertAfter(to, Step(holder));
    }
    moved_.insert(update.gradient);
  }

  // Their gradients are gone when probes would look at them.
  void DropProbes() {
    std::erase_if(editor_.graph().probes,
                  [&](const Probe& probe) { return moved_.contains(graph_.tensors[probe.tensor].storage); });
  }

  size_t moved() const { return moved_.size(); }

 private:
  const MicroStep* LastBackwardBefore(uint32_t position) const {
    const MicroStep* last = nullptr;
    for (const MicroStep& micro : micro_steps_) {
      if (micro.backward.end <= position) last = &micro;
    }
    return last;
  }

  void Put(OpId op, uint32_t to) {
    editor_.Erase(lives_.op_at[op]);
    editor_.InsertAfter(to, Step(op));
  }

  // A state that the first step makes is made right before the update; until its holders take hold it has one.
  void Create(StorageId state, uint32_t to, uint32_t own) {
    const OpId producer = graph_.storages[state].producer;
    const uint32_t made = lives_.op_at[producer];
    if (made < to || made > own) return;
    Put(producer, to);
    const HolderId holder = editor_.AddHolder(state, HolderKind::kOptimizer, producer, ScopeId());
    editor_.InsertAfter(made, Step(holder));
  }

  const Graph& graph_;
  GraphEditor& editor_;
  Lifetimes lives_;
  Uses uses_;
  std::vector<MicroStep> micro_steps_;
  Column<StorageId, std::vector<HolderId>> holders_;
  std::set<StorageId> moved_;
};

}  // namespace

Result<PassResult> OptimizerInBackward(Graph graph, const PassConfig& /*config*/, const PassContext& /*context*/) {
  for (const Op& op : graph.ops) {
    if (op.kind != OpKind::kForeachNorm && op.kind != OpKind::kUnscaleGradients && op.kind != OpKind::kUpdateScale)
      continue;
    return InvalidInput(
        "passes.optimizer_in_backward: gradient clipping and fp16's scaler look at all gradients before the first "
        "update; "
        "set training.grad_clip to 0 and use another precision");
  }
  ASSIGN_OR_RETURN(const Graph split, SplitUpdates(std::move(graph)));
  const std::vector<ParameterUpdate> updates = UpdatesOf(split);
  const auto reads_gradient = [&](const ParameterUpdate& update) {
    return split.storages[update.gradient].role == Role::kGradient;
  };
  if (!std::ranges::all_of(updates, reads_gradient)) {
    return InvalidInput(
        "passes.optimizer_in_backward: weight decay that isn't part of the update; set "
        "training.optimizer.implementation "
        "to fused");
  }
  GraphEditor editor(split);
  Mover mover(split, editor);
  for (const ParameterUpdate& update : updates) mover.Move(update);
  mover.DropProbes();
  return PassResult{std::move(editor).Finish(), {std::to_string(mover.moved()) + " updates moved into backward"}};
}

}  // namespace tidemark
