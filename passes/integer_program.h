// Linear programs over variables in [0, 1], some of them 0 or 1: minimise a cost under rows of the form
// lower <= sum of coefficient x variable <= upper. Solved by branch and bound (COIN-OR Cbc, which stays inside the
// .cc).
//
// The same program gives the same answer everywhere: one thread, and a limit in nodes instead of seconds. Nothing is
// printed. Several may be solved at once, on several threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace tidemark {

// Of an integer program.
using LinearTerm = std::pair<int, double>;  // variable, coefficient

class IntegerProgram {
 public:
  static constexpr double kUnbounded = std::numeric_limits<double>::infinity();

  enum class Outcome : uint8_t {
    kOptimal,
    kInfeasible,
    kNodeLimit,  // `bound` holds all the same
  };
  struct Solution {
    Outcome outcome = Outcome::kInfeasible;
    double bound = 0;            // no solution costs less
    int nodes = 0;               // of the search
    std::vector<double> values;  // by variable; empty: none was found
  };

  // Returns the variable's number.
  int AddVariable(double cost, bool integral);
  void AddCost(int variable, double cost) { variables_[static_cast<size_t>(variable)].cost += cost; }
  // Each variable at most once a row.
  void AddRow(std::vector<LinearTerm> terms, double lower, double upper);

  int variables() const { return static_cast<int>(variables_.size()); }
  size_t rows() const { return rows_.size(); }

  // Among solutions that cost less than `cutoff`; kInfeasible: there is none. Exponential in the integral variables in
  // the worst case; at most `max_nodes` linear programs.
  Solution Solve(int max_nodes, double cutoff = kUnbounded) const;

 private:
  struct Variable {
    double cost;
    bool integral;
  };
  struct Row {
    std::vector<LinearTerm> terms;
    double lower, upper;
  };
  std::vector<Variable> variables_;
  std::vector<Row> rows_;
};

}  // namespace tidemark
