#include "passes/integer_program.h"

#include <CbcModel.hpp>
#include <CglKnapsackCover.hpp>
#include <CglMixedIntegerRounding2.hpp>
#include <CglProbing.hpp>
#include <CoinMessageHandler.hpp>
#include <CoinPackedMatrix.hpp>
#include <OsiClpSolverInterface.hpp>
#include <algorithm>

namespace tidemark {
namespace {

// Drops what the solver has to say, whatever the level.
class Silence : public CoinMessageHandler {
 public:
  Silence() { setLogLevel(0); }
  int print() override { return 0; }
  CoinMessageHandler* clone() const override { return new Silence(*this); }
};

double InSolverTerms(double bound, double infinity) { return std::clamp(bound, -infinity, infinity); }

}  // namespace

int IntegerProgram::AddVariable(double cost, bool integral) {
  variables_.push_back({cost, integral});
  return variables() - 1;
}

void IntegerProgram::AddRow(std::vector<LinearTerm> terms, double lower, double upper) {
  rows_.push_back({std::move(terms), lower, upper});
}

IntegerProgram::Solution IntegerProgram::Solve(int max_nodes, double cutoff) const {
  Silence silence;
  OsiClpSolverInterface linear;
  linear.passInMessageHandler(&silence);
  linear.getModelPtr()->setLogLevel(0);
  const double infinity = linear.getInfinity();

  CoinPackedMatrix matrix(false, 0, 0);
  matrix.setDimensions(0, variables());
  std::vector<double> lower, upper;
  for (const Row& row : rows_) {
    std::vector<int> columns;
    std::vector<double> coefficients;
    for (const auto& [column, coefficient] : row.terms) {
      columns.push_back(column);
      coefficients.push_back(coefficient);
    }
    matrix.appendRow(static_cast<int>(columns.size()), columns.data(), coefficients.data());
    lower.push_back(InSolverTerms(row.lower, infinity));
    upper.push_back(InSolverTerms(row.upper, infinity));
  }
  const std::vector<double> zeros(variables_.size(), 0.0);
  const std::vector<double> ones(variables_.size(), 1.0);
  std::vector<double> costs;
  for (const Variable& variable : variables_) costs.push_back(variable.cost);
  linear.loadProblem(matrix, zeros.data(), ones.data(), costs.data(), lower.data(), upper.data());
  for (int i = 0; i < variables(); ++i) {
    if (variables_[static_cast<size_t>(i)].integral) linear.setInteger(i);
  }

  CbcModel model(linear);
  model.passInMessageHandler(&silence);
  model.setLogLevel(0);
  model.solver()->passInMessageHandler(&silence);
  CglProbing probing;
  CglKnapsackCover covers;
  CglMixedIntegerRounding2 rounding;
  model.addCutGenerator(&probing, -1, "probing");
  model.addCutGenerator(&covers, -99, "covers");
  model.addCutGenerator(&rounding, -99, "rounding");
  model.setMaximumNodes(max_nodes);
  if (cutoff < kUnbounded) model.setCutoff(cutoff);
  model.setDblParam(CbcModel::CbcAllowableGap, 0);
  model.branchAndBound();

  Solution solution;
  solution.nodes = model.getNodeCount();
  if (model.isProvenInfeasible()) return solution;
  solution.outcome = model.isProvenOptimal() ? Outcome::kOptimal : Outcome::kNodeLimit;
  solution.bound = model.isProvenOptimal() ? model.getObjValue() : model.getBestPossibleObjValue();
  if (model.bestSolution() != nullptr) {
    solution.values.assign(model.bestSolution(), model.bestSolution() + model.getNumCols());
  }
  return solution;
}

}  // namespace tidemark
