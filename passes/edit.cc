#include "passes/edit.h"

#include <algorithm>
#include <numeric>

#include "graph/base/check.h"

namespace tidemark {

GraphEditor::GraphEditor(Graph graph) : graph_(std::move(graph)) {
  erased_.resize(graph_.program.size());
  dropped_.resize(graph_.holders.size());
  new_since_.resize(graph_.holders.size());
  ops_by_.resize(graph_.ops.size());
}

OpId GraphEditor::AddOp(Op op, std::span<const TensorId> inputs, std::span<const TensorId> results) {
  op.first_operand = static_cast<uint32_t>(graph_.operands.size());
  op.inputs = static_cast<uint16_t>(inputs.size());
  op.results = static_cast<uint16_t>(results.size());
  graph_.operands.insert(graph_.operands.end(), inputs.begin(), inputs.end());
  graph_.operands.insert(graph_.operands.end(), results.begin(), results.end());
  return graph_.ops.Add(op);
}

HolderId GraphEditor::AddHolder(StorageId storage, HolderKind kind, OpId since, ScopeId scope, const char* node) {
  dropped_.Add(0);
  new_since_.Add(since);
  return graph_.holders.Add({storage, kind, since, scope, node});
}

void GraphEditor::MoveHolder(HolderId holder, StorageId storage, OpId since) {
  graph_.holders[holder].storage = storage;
  new_since_[holder] = since;
}

void GraphEditor::SetOperand(OpId op, size_t i, TensorId tensor) {
  Op& changed = graph_.ops[op];
  const size_t count = size_t{changed.inputs} + changed.results;
  const auto first = static_cast<std::ptrdiff_t>(changed.first_operand);
  // Old ops may be compared with what they were: their operands stay.
  const std::vector<TensorId> operands(graph_.operands.begin() + first,
                                       graph_.operands.begin() + first + static_cast<std::ptrdiff_t>(count));
  changed.first_operand = static_cast<uint32_t>(graph_.operands.size());
  graph_.operands.insert(graph_.operands.end(), operands.begin(), operands.end());
  graph_.operands[changed.first_operand + i] = tensor;
}

void GraphEditor::Emit(Step step, std::vector<Step>& program) {
  if (step.kind() == Step::Kind::kOp) {
    CHECK(!op_number_[step.op()].valid());
    op_number_[step.op()] = numbered_;
    numbered_ = OpId(numbered_.index() + size_t{1});
  }
  program.push_back(step);
}

std::vector<Step> GraphEditor::Assemble() {
  op_number_.resize(graph_.ops.size());
  std::ranges::stable_sort(before_, {}, &Insertion::position);
  std::ranges::stable_sort(after_, {}, &Insertion::position);
  std::vector<Step> program;
  program.reserve(graph_.program.size() + before_.size() + after_.size());
  size_t before = 0;
  size_t after = 0;
  for (uint32_t position = 0; position <= graph_.program.size(); ++position) {
    for (; before < before_.size() && before_[before].position == position; ++before)
      Emit(before_[before].step, program);
    if (position == graph_.program.size()) break;
    const Step step = graph_.program[position];
    if (!erased_[position]) Emit(step, program);
    if (step.kind() == Step::Kind::kOp) ops_by_[step.op()] = numbered_.index();
    for (; after < after_.size() && after_[after].position == position; ++after) Emit(after_[after].step, program);
  }
  return program;
}

size_t GraphEditor::NewSince(HolderId holder) const {
  if (new_since_[holder].valid()) return op_number_[new_since_[holder]].index() + size_t{1};
  const OpId since = graph_.holders[holder].since;
  if (!since.valid() || since.index() == 0) return 0;
  return ops_by_[OpId(since.index() - size_t{1})];
}

// Tensors and storages are numbered as they come.
void GraphEditor::CopyOps(const std::vector<Step>& program, Graph& result) {
  tensor_number_.resize(graph_.tensors.size());
  storage_number_.resize(graph_.storages.size());
  result.ops.reserve(numbered_.index());
  result.operands.reserve(graph_.operands.size());
  const auto number = [&](TensorId old) {
    TensorId& known = tensor_number_[old];
    if (known.valid()) return known;
    TensorInfo tensor = graph_.tensors[old];
    StorageId& storage = storage_number_[tensor.storage];
    if (!storage.valid()) {
      storage = result.storages.Add(graph_.storages[tensor.storage]);
      OpId& producer = result.storages[storage].producer;
      producer = op_number_[producer];
    }
    tensor.storage = storage;
    return known = result.tensors.Add(tensor);
  };
  for (const Step step : program) {
    if (step.kind() != Step::Kind::kOp) continue;
    Op op = graph_.ops[step.op()];
    const std::span<const TensorId> operands =
        std::span(graph_.operands).subspan(op.first_operand, size_t{op.inputs} + op.results);
    op.first_operand = static_cast<uint32_t>(result.operands.size());
    for (const TensorId operand : operands) result.operands.push_back(number(operand));
    result.ops.Add(op);
  }
}

std::vector<HolderId> GraphEditor::CopyHolders(Graph& result) const {
  std::vector<size_t> order;
  std::vector<size_t> since(graph_.holders.size());
  for (size_t i = 0; i < graph_.holders.size(); ++i) {
    const HolderId id(i);
    if (dropped_[id] != 0 || !storage_number_[graph_.holders[id].storage].valid()) continue;
    since[i] = NewSince(id);
    order.push_back(i);
  }
  std::ranges::stable_sort(order, {}, [&](size_t i) { return since[i]; });
  std::vector<HolderId> numbers(graph_.holders.size());
  result.holders.reserve(order.size());
  for (const size_t i : order) {
    Holder holder = graph_.holders[HolderId(i)];
    holder.storage = storage_number_[holder.storage];
    holder.since = OpId(since[i]);
    numbers[i] = result.holders.Add(holder);
  }
  return numbers;
}

Graph GraphEditor::Finish() && {
  const std::vector<Step> program = Assemble();
  Graph result;
  CopyOps(program, result);
  const std::vector<HolderId> holders = CopyHolders(result);
  OpId op{size_t{0}};
  result.program.reserve(program.size());
  for (const Step step : program) {
    if (step.kind() == Step::Kind::kOp) {
      result.program.emplace_back(op);
      op = OpId(op.index() + size_t{1});
    } else if (step.kind() == Step::Kind::kPhase) {
      result.program.push_back(step);
    } else if (const HolderId holder = holders[step.holder().index()]; holder.valid()) {
      result.program.emplace_back(holder);
    }
  }
  result.attributes = std::move(graph_.attributes);
  result.scopes = std::move(graph_.scopes);
  result.phases = std::move(graph_.phases);
  result.parameters = graph_.parameters;
  for (Probe probe : graph_.probes) {
    probe.tensor = tensor_number_[probe.tensor];
    if (probe.tensor.valid()) result.probes.push_back(probe);
  }
  return result;
}

}  // namespace tidemark
