#include "passes/optimizer_lists.h"

#include "graph/lifetimes.h"
#include "passes/edit.h"

namespace tidemark {
namespace {

bool IsUpdate(OpKind kind) {
  return kind == OpKind::kFusedAdam || kind == OpKind::kFusedAdagrad || kind == OpKind::kSgdStep;
}

// Scalars that all parameters share, behind the lists.
size_t ScalarsOf(const Graph& graph, const Op& op) {
  return op.attributes.valid() ? static_cast<size_t>(graph.attributes[op.attributes].integer[1]) : 0;
}

}  // namespace

Result<Graph> SplitUpdates(Graph graph) {
  const Lifetimes lives = LifetimesOf(graph);
  GraphEditor editor(graph);
  bool found = false;
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    const OpId id(i);
    const Op op = graph.ops[id];
    if (op.kind == OpKind::kForeachAdam || op.kind == OpKind::kAdamUpdate || op.kind == OpKind::kAdafactorUpdate ||
        op.kind == OpKind::kRootUpdate) {
      return InvalidInput(
          "passes: this pass needs an optimizer that updates parameters by themselves: "
          "training.optimizer.implementation "
          "fused (adamw, adam, sgd or adagrad)");
    }
    if (!IsUpdate(op.kind)) continue;
    found = true;
    // Of the lists all but the gradients are changed, and so are results.
    const size_t scalars = ScalarsOf(graph, op);
    const size_t listed = op.inputs - scalars;
    const size_t n = listed - op.results;
    if (n < 2) continue;
    editor.Erase(lives.op_at[id]);
    for (size_t k = 0; k < n; ++k) {
      std::vector<TensorId> inputs, results;
      for (size_t j = k; j < listed; j += n) inputs.push_back(graph.Inputs(op)[j]);
      for (size_t j = listed; j < op.inputs; ++j) inputs.push_back(graph.Inputs(op)[j]);
      for (size_t j = k; j < op.results; j += n) results.push_back(graph.Results(op)[j]);
      editor.InsertBefore(lives.op_at[id], Step(editor.AddOp(op, inputs, results)));
    }
  }
  if (!found) return InvalidInput("passes: this run has no optimizer step");
  return std::move(editor).Finish();
}

std::vector<ParameterUpdate> UpdatesOf(const Graph& graph) {
  std::vector<ParameterUpdate> updates;
  for (const Step step : graph.program) {
    if (step.kind() != Step::Kind::kOp || !IsUpdate(graph.ops[step.op()].kind)) continue;
    const Op& op = graph.ops[step.op()];
    ParameterUpdate update = {.op = step.op()};
    for (size_t i = 0; i < op.inputs - ScalarsOf(graph, op); ++i) {
      const StorageId storage = graph.tensors[graph.Inputs(op)[i]].storage;
      if (i == 0) {
        update.parameter = storage;
      } else if (i == 1) {
        update.gradient = storage;
      } else {
        update.states.push_back(storage);
      }
    }
    updates.push_back(std::move(update));
  }
  return updates;
}

}  // namespace tidemark
