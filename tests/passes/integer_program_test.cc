#include "passes/integer_program.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <thread>
#include <vector>

#include "passes/logic_program.h"
#include "tests/support/tapes.h"

namespace tidemark {
namespace {

// Items of random value and weight: the highest value within a weight, by complete enumeration.
struct Knapsack {
  std::vector<double> values, weights;
  double capacity = 0;

  explicit Knapsack(uint64_t seed, size_t items) {
    Random random(seed);
    for (size_t i = 0; i < items; ++i) {
      values.push_back(static_cast<double>(1 + random.Below(100)));
      weights.push_back(static_cast<double>(1 + random.Below(50)));
      capacity += weights.back();
    }
    capacity = std::floor(capacity / 3) + 0.5;  // no sum of weights
  }
  IntegerProgram Program() const {
    IntegerProgram program;
    std::vector<LinearTerm> row;
    for (size_t i = 0; i < values.size(); ++i) row.emplace_back(program.AddVariable(-values[i], true), weights[i]);
    program.AddRow(row, -IntegerProgram::kUnbounded, capacity);
    return program;
  }
  double Best() const {
    double best = 0;
    for (uint32_t chosen = 0; chosen < uint32_t{1} << values.size(); ++chosen) {
      double value = 0;
      double weight = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        if ((chosen >> i & 1) == 0) continue;
        value += values[i];
        weight += weights[i];
      }
      if (weight <= capacity) best = std::max(best, value);
    }
    return best;
  }
};

TEST(IntegerProgram, FindsTheBestKnapsacksInSilence) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    const Knapsack knapsack(seed, 12);
    const IntegerProgram::Solution solution = knapsack.Program().Solve(1000);
    EXPECT_EQ(solution.outcome, IntegerProgram::Outcome::kOptimal) << "seed " << seed;
    EXPECT_NEAR(-solution.bound, knapsack.Best(), 1e-6) << "seed " << seed;
  }
  std::cout.flush();
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(IntegerProgram, SaysWhatIsImpossible) {
  IntegerProgram program;
  const int a = program.AddVariable(1, true);
  const int b = program.AddVariable(1, true);
  program.AddRow({{a, 1}, {b, 1}}, 0.5, 0.75);
  EXPECT_EQ(program.Solve(100).outcome, IntegerProgram::Outcome::kInfeasible);
}

TEST(IntegerProgram, BoundsFromBelowWhereItStopsEarly) {
  const Knapsack knapsack(3, 20);
  const IntegerProgram::Solution solution = knapsack.Program().Solve(0);
  EXPECT_LE(solution.bound, -knapsack.Best() + 1e-6);
}

TEST(IntegerProgram, AnswersAlikeOnSeveralThreads) {
  const IntegerProgram program = Knapsack(7, 30).Program();
  const IntegerProgram::Solution alone = program.Solve(5000);
  std::vector<IntegerProgram::Solution> solutions(4);
  std::vector<std::thread> threads;
  for (IntegerProgram::Solution& solution : solutions) {
    threads.emplace_back([&solution, &program] { solution = program.Solve(5000); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const IntegerProgram::Solution& solution : solutions) {
    EXPECT_EQ(solution.outcome, alone.outcome);
    EXPECT_EQ(solution.values, alone.values);
    EXPECT_EQ(solution.nodes, alone.nodes);
  }
}

// Whatever is chosen, what is defined is what the definition says, by solving and by ValuesOf.
TEST(LogicProgram, DefinesWhatFollowsFromChoices) {
  for (uint32_t chosen = 0; chosen < 8; ++chosen) {
    LogicProgram logic;
    std::vector<Bit> choices;
    std::vector<bool> values;
    for (int i = 0; i < 3; ++i) {
      choices.push_back(logic.Choice());
      values.push_back((chosen >> i & 1) != 0);
    }
    AnyOf any;
    AddAlternative({choices[0], Not(choices[1])}, any);
    AddAlternative({choices[2], Constant(1)}, any);
    AddAlternative({choices[1], Constant(0)}, any);
    ASSERT_EQ(any.size(), 2U);
    const Bit defined = logic.Define(any);
    EXPECT_EQ(logic.Define(any), defined);
    const bool expected = (values[0] && !values[1]) || values[2];
    EXPECT_EQ(defined.HoldsIn(logic.ValuesOf(values)), expected);
    for (const double cost : {1.0, -1.0}) {  // pulled up or down, it stays
      IntegerProgram program = logic.program();
      program.AddCost(defined.terms.front().first, cost);
      for (size_t i = 0; i < values.size(); ++i) {
        program.AddRow({{static_cast<int>(i), 1}}, values[i] ? 1 : 0, values[i] ? 1 : 0);
      }
      EXPECT_EQ(defined.HoldsIn(program.Solve(100).values), expected);
    }
  }
}

}  // namespace
}  // namespace tidemark
