#include "passes/compile/expression.h"

#include <functional>

namespace tidemark::compile {
namespace {

void Mix(size_t& hash, size_t value) { hash ^= value + 0x9e3779b97f4a7c15U + (hash << 6) + (hash >> 2); }

void Mix(size_t& hash, const Index& index) {
  Mix(hash, static_cast<size_t>(index.offset().hint()));
  for (const Term& t : index.terms()) {
    Mix(hash, static_cast<size_t>(t.coefficient.hint() * 31 + t.variable));
    Mix(hash, static_cast<size_t>(t.divisor.hint() * 31 + t.modulus.hint()));
  }
}

}  // namespace

size_t Expressions::Hash::operator()(const Expression& e) const {
  size_t hash = static_cast<size_t>(e.kind) * 64 + static_cast<size_t>(e.dtype);
  Mix(hash, std::hash<std::string_view>()(e.name));
  Mix(hash, std::hash<double>()(e.number));
  Mix(hash, e.buffer.index());
  for (const Index& index : e.indices) Mix(hash, index);
  for (const ExpressionId id : e.operands) Mix(hash, id.index());
  return hash;
}

ExpressionId Expressions::Add(Expression e) {
  const auto [at, is_new] = known_.try_emplace(std::move(e), ExpressionId(nodes_.size()));
  if (is_new) nodes_.Add(at->first);
  return at->second;
}

ExpressionId Expressions::Constant(double number, bool is_integer, DType dtype) {
  return Add({.kind = ExpressionKind::kConstant, .dtype = dtype, .number = number, .is_integer = is_integer});
}

ExpressionId Expressions::IndexValue(Index index, DType dtype) {
  return Add({.kind = ExpressionKind::kIndexValue, .dtype = dtype, .indices = {std::move(index)}});
}

ExpressionId Expressions::Call(std::string_view name, std::vector<ExpressionId> operands, DType dtype) {
  return Add({.kind = ExpressionKind::kCall, .dtype = dtype, .name = name, .operands = std::move(operands)});
}

std::vector<ExpressionId> Expressions::Nodes(ExpressionId root) const {
  std::vector<ExpressionId> order;
  std::unordered_map<uint32_t, bool> done;  // false: its operands are under way
  std::vector<ExpressionId> stack = {root};
  while (!stack.empty()) {
    const ExpressionId id = stack.back();
    const auto [at, is_new] = done.try_emplace(id.index(), false);
    if (!is_new) {
      stack.pop_back();
      if (!at->second) order.push_back(id);
      at->second = true;
      continue;
    }
    const auto& operands = nodes_[id].operands;
    for (size_t i = operands.size(); i-- > 0;) {
      if (!done.contains(operands[i].index())) stack.push_back(operands[i]);
    }
  }
  return order;
}

ExpressionId Expressions::Substitute(ExpressionId root, const std::vector<Index>& map,
                                     const std::vector<Extent>& ranges, const std::vector<ExpressionId>& indirect) {
  std::unordered_map<uint32_t, ExpressionId> now;
  for (const ExpressionId id : Nodes(root)) {
    Expression e = nodes_[id];
    for (ExpressionId& operand : e.operands) operand = now.at(operand.index());
    if (indirect.empty()) {
      for (Index& index : e.indices) index = index.Substitute(map, ranges);
    } else if (!e.indices.empty()) {
      // A load's own indirect variables keep their numbers, those of the map come behind.
      const int first = kIndirectVariable + static_cast<int>(e.operands.size());
      std::vector<Index> shifted = map;
      for (Index& index : shifted) index = index.RenumberIndirect(first);
      bool uses_map = false;
      for (Index& index : e.indices) {
        index = index.Substitute(shifted, ranges);
        uses_map = uses_map || index.IsIndirect(first);
      }
      if (uses_map) e.operands.insert(e.operands.end(), indirect.begin(), indirect.end());
    }
    now[id.index()] = Add(std::move(e));
  }
  return now.at(root.index());
}

Expressions::Counts Expressions::Count(ExpressionId root) const {
  Counts counts;
  for (const ExpressionId id : Nodes(root)) {
    const Expression& e = nodes_[id];
    ++counts.operations;
    if (e.kind != ExpressionKind::kLoad) continue;
    ++counts.loads;
    bool trivial = e.operands.empty();
    for (const Index& index : e.indices) trivial = trivial && index.is_constant();
    if (!trivial) ++counts.nontrivial_loads;
  }
  return counts;
}

}  // namespace tidemark::compile
