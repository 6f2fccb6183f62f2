#include "passes/logic_program.h"

#include <algorithm>
#include <cmath>

#include "graph/base/check.h"

namespace tidemark {
namespace {

Bit Variable(int variable) { return {0, {{variable, 1.0}}}; }

}  // namespace

double Bit::ValueIn(const std::vector<double>& values) const {
  double value = constant;
  for (const auto& [variable, coefficient] : terms) value += coefficient * values[static_cast<size_t>(variable)];
  return value;
}

Bit Constant(double value) { return {value, {}}; }

Bit Not(const Bit& bit) { return But(Constant(1), bit); }

Bit But(const Bit& bit, const Bit& part) {
  if (bit == part) return Constant(0);
  Bit result = bit;
  result.constant -= part.constant;
  for (const auto& [variable, coefficient] : part.terms) result.terms.emplace_back(variable, -coefficient);
  return result;
}

bool Holds(const AnyOf& any, const std::vector<double>& values) {
  return std::ranges::any_of(any, [&](const All& all) {
    return std::ranges::all_of(all, [&](const Bit& bit) { return bit.HoldsIn(values); });
  });
}

void AddAlternative(All all, AnyOf& any) {
  if (std::ranges::any_of(all, [](const Bit& bit) { return bit.always(0); })) return;
  std::erase_if(all, [](const Bit& bit) { return bit.always(1); });
  any.push_back(std::move(all));
}

void Sum::Add(const Bit& bit, double times) {
  constant_ += bit.constant * times;
  for (const auto& [variable, coefficient] : bit.terms) terms_[variable] += coefficient * times;
}

void Sum::Emit(double lower, double upper, IntegerProgram& program) const {
  double largest = 0;
  for (const auto& [variable, coefficient] : terms_) largest = std::max(largest, std::abs(coefficient));
  if (largest == 0) largest = 1;
  std::vector<LinearTerm> terms;
  for (const auto& [variable, coefficient] : terms_) {
    if (coefficient != 0) terms.emplace_back(variable, coefficient / largest);
  }
  program.AddRow(std::move(terms), (lower - constant_) / largest, (upper - constant_) / largest);
}

void BoundBelow(int variable, const All& all, IntegerProgram& program) {
  Sum sum;
  sum.Add(variable, -1);
  for (const Bit& bit : all) sum.Add(bit);
  sum.Emit(-IntegerProgram::kUnbounded, static_cast<double>(all.size()) - 1, program);
}

Bit LogicProgram::Choice() {
  CHECK(defined_.empty());
  return Variable(program_.AddVariable(0, true));
}

Bit LogicProgram::Define(const AnyOf& any) {
  if (any.empty()) return Constant(0);
  if (std::ranges::any_of(any, &All::empty)) return Constant(1);
  if (any.size() == 1) return any.front().size() == 1 ? any.front().front() : DefineAll(any.front());
  const auto [known, added] = known_.try_emplace(any);
  if (added) known->second = DefineAny(any);
  return known->second;
}

Bit LogicProgram::DefineAny(const AnyOf& any) {
  const int variable = program_.AddVariable(0, false);
  Sum most;
  most.Add(variable, -1);
  for (const All& all : any) {
    const Bit bit = all.size() == 1 ? all.front() : DefineAll(all);
    BoundBelow(variable, {bit}, program_);
    most.Add(bit);
  }
  most.Emit(0, IntegerProgram::kUnbounded, program_);
  defined_.emplace_back(variable, any);
  return Variable(variable);
}

Bit LogicProgram::DefineAll(const All& all) {
  const auto [known, added] = known_.try_emplace(AnyOf{all});
  if (!added) return known->second;
  const int variable = program_.AddVariable(0, false);
  BoundBelow(variable, all, program_);
  for (const Bit& bit : all) {
    Sum most;
    most.Add(variable, -1);
    most.Add(bit);
    most.Emit(0, IntegerProgram::kUnbounded, program_);
  }
  defined_.push_back({variable, {all}});
  return known->second = Variable(variable);
}

std::vector<double> LogicProgram::ValuesOf(const std::vector<bool>& choices) const {
  std::vector<double> values(static_cast<size_t>(program_.variables()));
  for (size_t i = 0; i < choices.size(); ++i) values[i] = choices[i] ? 1 : 0;
  for (const auto& [variable, any] : defined_) values[static_cast<size_t>(variable)] = Holds(any, values) ? 1 : 0;
  return values;
}

}  // namespace tidemark
