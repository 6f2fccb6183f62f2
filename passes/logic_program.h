// Conditions as parts of an integer program: choices that are 0 or 1, what is true exactly where some of them are, and
// rows over both. Once the choices are made, everything else follows, and can be had without solving.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "passes/integer_program.h"

namespace tidemark {

// A sum of variables that is 0 or 1 in each solution.
struct Bit {
  double constant = 0;
  std::vector<LinearTerm> terms;

  bool always(double value) const { return terms.empty() && constant == value; }
  double ValueIn(const std::vector<double>& values) const;
  bool HoldsIn(const std::vector<double>& values) const { return ValueIn(values) > 0.5; }
  bool operator==(const Bit&) const = default;
  auto operator<=>(const Bit&) const = default;
};
Bit Constant(double value);
Bit Not(const Bit& bit);
// What holds where `bit` does and `part` doesn't; `part` holds nowhere else.
Bit But(const Bit& bit, const Bit& part);

using All = std::vector<Bit>;    // all of these hold
using AnyOf = std::vector<All>;  // any of those holds

bool Holds(const AnyOf& any, const std::vector<double>& values);
// Leaves out what can't hold, and of what remains the bits that always do.
void AddAlternative(All all, AnyOf& any);

// A row in the making.
class Sum {
 public:
  void Add(const Bit& bit, double times = 1);
  void Add(int variable, double times) { terms_[variable] += times; }
  // lower <= sum <= upper, scaled so that the largest coefficient is 1.
  void Emit(double lower, double upper, IntegerProgram& program) const;

 private:
  double constant_ = 0;
  std::map<int, double> terms_;
};

// Makes `variable` at least 1 where all of these hold.
void BoundBelow(int variable, const All& all, IntegerProgram& program);

class LogicProgram {
 public:
  // A new choice. They come before everything that is defined: choice i is variable i.
  Bit Choice();
  // What is 1 exactly where any of these holds; the same conditions give the same bit.
  Bit Define(const AnyOf& any);

  // All variables, from the choices.
  std::vector<double> ValuesOf(const std::vector<bool>& choices) const;
  const IntegerProgram& program() const { return program_; }

 private:
  Bit DefineAny(const AnyOf& any);
  Bit DefineAll(const All& all);

  IntegerProgram program_;
  std::vector<std::pair<int, AnyOf>> defined_;  // by rising variable
  std::map<AnyOf, Bit> known_;
};

}  // namespace tidemark
