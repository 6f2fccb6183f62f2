// Index expressions: which element of a tensor a loop nest touches, as a function of its loop variables.
//
//   index = offset + sum over terms: coefficient * (floor(variable / divisor) mod modulus)
//
// Views only split and merge dimensions, so this form is closed under them.
#pragma once

#include <vector>

#include "passes/compile/extent.h"

namespace tidemark::compile {

// Variables from here on stand for values: an index that is looked up (a row of an embedding).
constexpr int kIndirectVariable = 100;

struct Term {
  Extent coefficient = 1;
  int variable = 0;
  Extent divisor = 1;
  Extent modulus = 0;  // 0: none
  // Part of a slice of the loop that the divisor and modulus are for: they stay, needed or not. Operations are counted
  // (and merged) in indices that nobody has simplified for the shorter loop.
  bool pinned = false;
  bool operator==(const Term& other) const {
    return coefficient == other.coefficient && variable == other.variable && divisor == other.divisor &&
           modulus == other.modulus;
  }
};

class Index {
 public:
  Index() = default;
  Index(Extent offset) : offset_(offset) {}  // NOLINT(google-explicit-constructor): a constant
  static Index Variable(int v);
  // The same with all terms pinned, or none.
  Index Pinned(bool pinned) const;

  Extent offset() const { return offset_; }
  const std::vector<Term>& terms() const { return terms_; }  // by variable, then divisor
  bool is_constant() const { return terms_.empty(); }
  bool operator==(const Index&) const = default;
  bool Uses(int variable) const;
  // The change when a variable goes from 0 to 1.
  Extent StrideOf(int variable) const;
  // Whether every variable occurs whole.
  bool IsAffine() const;
  // False: which element it is can't be said in this form, only which variables it depends on, and StrideOf each.
  bool is_exact() const { return exact_; }

  Index operator+(const Index& other) const;
  Index operator*(Extent factor) const;
  // floor(this / divisor) mod modulus (0: none), where variable v runs below ranges[v]. Exact for what views of strided
  // tensors have.
  // `pinned`: whether or not what goes is within the ranges.
  Index FloorMod(const std::vector<Extent>& ranges, Extent divisor, Extent modulus, bool pinned = false) const;
  // Each variable v replaced by map[v], an index over new variables with ranges `ranges`; indirect ones stay.
  Index Substitute(const std::vector<Index>& map, const std::vector<Extent>& ranges) const;
  // Indirect variable i becomes `first` + i.
  Index RenumberIndirect(int first) const;
  bool IsIndirect(int from = kIndirectVariable) const;  // depends on indirect variables from `from` on
  // Parts of one variable that stand next to each other become one.
  void Normalize(const std::vector<Extent>& ranges);

 private:
  Index InexactFloorMod(Extent divisor, Extent modulus) const;

  Extent offset_ = 0;
  bool exact_ = true;
  std::vector<Term> terms_;
};

// For each old dimension an index over the variables of the new shape: what a reshape does.
std::vector<Index> ReshapeIndices(const Shape& old_sizes, const Shape& new_sizes);

}  // namespace tidemark::compile
