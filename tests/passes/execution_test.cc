// Every pass, alone and in combinations, on random programs and on models: executed before and after, in memory laid
// out as predicted, with freed bytes poisoned.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "passes/pipeline.h"
#include "tests/support/execute.h"
#include "tests/support/random_program.h"
#include "tests/support/runs.h"
#include "tests/support/tapes.h"

namespace tidemark {
namespace {

// Rewriting passes that keep every bit, one of each kind and option.
std::vector<PassConfig> ExactPasses() {
  return {RecomputePass{.policy = RecomputePolicy::kEveryN, .blocks = 1},
          RecomputePass{.policy = RecomputePolicy::kEveryN, .blocks = 2},
          RecomputePass{.policy = RecomputePolicy::kSelective, .ops = {"gelu", "native_layer_norm", "_to_copy", "add"}},
          RecomputePass{.policy = RecomputePolicy::kMinCut}};
}

std::string NamesOf(const std::vector<PassConfig>& passes) {
  std::string names;
  for (const PassConfig& pass : passes) names += std::string(InfoOf(pass).name) + " ";
  return names;
}

void ExpectSameValues(const Graph& graph, const std::vector<PassConfig>& passes, const DeviceSpec& device) {
  SCOPED_TRACE("passes " + NamesOf(passes));
  const Result<Rewritten> rewritten = RunPasses(graph, passes, {.context = {.device = device}});
  ASSERT_TRUE(rewritten.ok()) << rewritten.error().message;
  const Execution before = ExecuteGraph(graph, device);
  const Execution after = ExecuteGraph(rewritten->graph, device);
  EXPECT_EQ(DifferenceOf(before, after, 0), "");
}

TEST(PassExecution, KeepsEveryBitOfModels) {
  for (const NamedRun& named : TinyRuns()) {
    SCOPED_TRACE(named.name);
    const Graph graph = GraphOf(named.run);
    for (const PassConfig& pass : ExactPasses()) ExpectSameValues(graph, {pass}, named.run.device);
  }
}

TEST(PassExecution, KeepsEveryBitOfRandomProgramsUnderRandomPasses) {
  const DeviceSpec device = TinyRun().device;
  const std::vector<PassConfig> all = ExactPasses();
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    std::vector<PassConfig> passes;
    for (uint64_t i = 0; i <= random.Below(3); ++i) passes.push_back(all[random.Below(all.size())]);
    ExpectSameValues(RandomProgram(seed, device), passes, device);
  }
}

}  // namespace
}  // namespace tidemark
