#include "graph/uses.h"

namespace tidemark {
namespace {

// Calls use(storage, op, writes) for each operand of each op, in the program's order.
template <typename Function>
void ForEachUse(const Graph& graph, const Function& use) {
  for (const Step step : graph.program) {
    if (step.kind() != Step::Kind::kOp) continue;
    const Op& op = graph.ops[step.op()];
    for (const TensorId t : graph.Inputs(op)) use(graph.tensors[t].storage, step.op(), false);
    for (const TensorId t : graph.Results(op)) use(graph.tensors[t].storage, step.op(), true);
  }
}

}  // namespace

Uses::Uses(const Graph& graph) : begin_(graph.storages.size() + 1) {
  Column<StorageId, OpId> last;
  last.resize(graph.storages.size());
  ForEachUse(graph, [&](StorageId storage, OpId op, bool) {
    if (last[storage] == op) return;
    last[storage] = op;
    ++begin_[storage.index() + 1];
  });
  for (size_t i = 1; i < begin_.size(); ++i) begin_[i] += begin_[i - 1];
  uses_.resize(begin_.back());
  std::vector<uint32_t> next(begin_.begin(), begin_.end() - 1);
  ForEachUse(graph, [&](StorageId storage, OpId op, bool writes) {
    uint32_t& at = next[storage.index()];
    const bool known = at > begin_[storage.index()] && uses_[at - 1].op == op;
    if (!known) uses_[at++].op = op;
    (writes ? uses_[at - 1].writes : uses_[at - 1].reads) = true;
  });
}

}  // namespace tidemark
