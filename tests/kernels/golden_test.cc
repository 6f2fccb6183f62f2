// Whole runs on the host against real PyTorch on the CPU (tests/golden), and against themselves under passes that must
// not change a bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/host_data.h"
#include "tests/kernels/execution.h"
#include "tools/formats/files.h"

namespace tidemark {
namespace {

struct Golden {
  const char* name;
  double loss_tolerance;
  double gradient_tolerance;  // of the gradient's largest magnitude
};

void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.name; }

class GoldenTest : public testing::TestWithParam<Golden> {};

nlohmann::json ReadGolden(const std::string& name) {
  std::ifstream file(std::string(TIDEMARK_TEST_DATA) + "/golden/" + name + ".json");
  return nlohmann::json::parse(file);
}

void ExpectGradient(const nlohmann::json& golden, const Observed& gradient, double tolerance) {
  const std::vector<double>& values = gradient.values;
  double norm = 0;
  double projection = 0;
  double largest = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    norm += values[i] * values[i];
    projection += values[i] * UnitOf("projection." + gradient.name, i);
    largest = std::max(largest, std::abs(values[i]));
  }
  const double unit = golden["largest"];
  const double root = std::sqrt(static_cast<double>(values.size()));
  EXPECT_NEAR(std::sqrt(norm), golden["norm"], tolerance * unit * root) << gradient.name;
  EXPECT_NEAR(projection, golden["projection"], tolerance * unit * root) << gradient.name;
  EXPECT_NEAR(largest, golden["largest"], tolerance * unit) << gradient.name;
  for (size_t k = 0; k < golden["samples"].size(); ++k) {
    const size_t at = HashOf("samples." + gradient.name, k) % values.size();
    EXPECT_NEAR(values[at], golden["samples"][k], tolerance * unit) << gradient.name << " element " << at;
  }
}

TEST_P(GoldenTest, LossAndGradientsArePyTorchs) {
  const Golden& p = GetParam();
  const nlohmann::json golden = ReadGolden(p.name);
  const Execution execution = ExecuteOnHost(PrepareRun(std::string("tests/golden/") + p.name + ".yaml"));
  EXPECT_TRUE(execution.findings.empty());
  const std::vector<double> losses = LossesOf(execution);
  ASSERT_EQ(losses.size(), golden["losses"].size());
  for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], golden["losses"][i], p.loss_tolerance);
  size_t at = 0;
  const std::vector<const Observed*> gradients = GradientsOf(execution);
  for (const nlohmann::json& step : golden["gradients"]) {
    for (size_t i = 0; i < step.size(); ++i) {
      ASSERT_LT(at, gradients.size());
      const Observed& gradient = *gradients[at++];
      ASSERT_TRUE(step.contains(gradient.name)) << gradient.name;
      ExpectGradient(step[gradient.name], gradient, p.gradient_tolerance);
    }
  }
  EXPECT_EQ(at, gradients.size());
}

constexpr double kExact = 1e-5;
constexpr double kHalfLoss = 1e-2;
constexpr double kHalfGradient = 0.05;  // CPU autocast casts in other places than CUDA's

INSTANTIATE_TEST_SUITE_P(
    Runs, GoldenTest,
    testing::Values(Golden{"nanogpt-fp32", kExact, kExact}, Golden{"nanogpt-bias-sgd", kExact, kExact},
                    Golden{"nanogpt-eager-for-loop", kExact, kExact}, Golden{"nanogpt-math-adafactor", kExact, kExact},
                    Golden{"nanogpt-amp-fp16", kHalfLoss, kHalfGradient},
                    Golden{"nanogpt-amp-bf16", kHalfLoss, kHalfGradient}, Golden{"llama-fp32", kExact, kExact},
                    Golden{"llama-eager-foreach", kExact, kExact}, Golden{"llama-amp-fp16", kHalfLoss, kHalfGradient},
                    Golden{"llama-amp-bf16", kHalfLoss, kHalfGradient}),
    [](const auto& golden) {
      std::string name = golden.param.name;
      std::ranges::replace(name, '-', '_');
      return name;
    });

TEST(GoldenTest, EveryElementOfTheLastGradientsIsPyTorchs) {
  const auto bytes = ReadFile(std::string(TIDEMARK_TEST_DATA) + "/golden/nanogpt-fp32.gradients.gz");
  ASSERT_TRUE(bytes.ok()) << bytes.error().message;
  std::vector<float> whole(bytes->size() / sizeof(float));
  std::memcpy(whole.data(), bytes->data(), whole.size() * sizeof(float));
  const Execution execution = ExecuteOnHost(PrepareRun("tests/golden/nanogpt-fp32.yaml"));
  const std::vector<const Observed*> gradients = GradientsOf(execution);
  const size_t last = gradients.size() - gradients.size() / 5;
  size_t at = 0;
  for (size_t i = last; i < gradients.size(); ++i) {
    for (const double value : gradients[i]->values) {
      ASSERT_LT(at, whole.size());
      ASSERT_NEAR(value, whole[at], 1e-6) << gradients[i]->name;
      ++at;
    }
  }
  EXPECT_EQ(at, whole.size());
}

}  // namespace
}  // namespace tidemark
