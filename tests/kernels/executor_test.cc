#include "kernels/executor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/host_backend.h"
#include "tests/kernels/execution.h"

namespace tidemark {
namespace {

constexpr const char* kNanogpt = "configs/runs/nanogpt-tiny.yaml";
constexpr const char* kLlama = "configs/runs/llama-tiny.yaml";

void ExpectPredictedPeaks(const Prepared& run, const Execution& execution) {
  EXPECT_EQ(execution.requested_peak, run.placed.replay.requested.bytes);
  EXPECT_EQ(execution.allocated_peak, run.placed.replay.allocated.bytes);
  EXPECT_EQ(execution.reserved_peak, run.placed.replay.reserved.bytes);
  EXPECT_EQ(execution.measured.reserved, run.placed.replay.reserved.bytes);
}

TEST(Executor, PeaksAreThePredictedOnes) {
  for (const char* path : {kNanogpt, kLlama}) {
    const Prepared run = PrepareRun(path);
    const Execution execution = ExecuteOnHost(run);
    ExpectPredictedPeaks(run, execution);
    EXPECT_TRUE(execution.findings.empty());
    EXPECT_FALSE(execution.out_of_memory.has_value());
  }
}

TEST(Executor, SmallSegmentsAndGarbageCollectionChangeNoValue) {
  const Execution plain = ExecuteOnHost(PrepareRun(kNanogpt));
  for (const char* conf : {"max_split_size_mb:21", "expandable_segments:True", "roundup_power2_divisions:4"}) {
    const Prepared run = PrepareRun(kNanogpt, {std::string("allocator.conf=") + conf});
    const Execution execution = ExecuteOnHost(run);
    ExpectPredictedPeaks(run, execution);
    EXPECT_EQ(LossesOf(execution), LossesOf(plain)) << conf;
    EXPECT_EQ(execution.final_state, plain.final_state) << conf;
  }
}

// Every loss, gradient and final parameter, bit by bit.
void ExpectSameValues(const Execution& a, const Execution& b) {
  ASSERT_EQ(a.observed.size(), b.observed.size());
  for (size_t i = 0; i < a.observed.size(); ++i) {
    EXPECT_EQ(a.observed[i].values, b.observed[i].values) << a.observed[i].name;
  }
  EXPECT_EQ(a.final_state, b.final_state);
}

class CheckpointTest : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(CheckpointTest, ChangesNoBit) {
  const std::vector<std::string>& overrides = GetParam();
  for (const char* path : {kNanogpt, kLlama}) {
    const Execution plain = ExecuteOnHost(PrepareRun(path, overrides));
    for (const char* pass :
         {"[{recompute: {policy: full, reentrant: false}}]", "[{recompute: {policy: full, reentrant: true}}]"}) {
      std::vector<std::string> with_pass = overrides;
      with_pass.push_back(std::string("passes=") + pass);
      const Execution execution = ExecuteOnHost(PrepareRun(path, with_pass));
      EXPECT_TRUE(execution.findings.empty());
      EXPECT_GT(execution.kernels, plain.kernels);
      ExpectSameValues(plain, execution);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Runs, CheckpointTest,
                         testing::Values(std::vector<std::string>{"training.precision=fp32"},
                                         std::vector<std::string>{"training.precision=amp-fp16"},
                                         std::vector<std::string>{"training.precision=amp-bf16", "model.dropout=0.1"}));

TEST(Executor, EveryRunTwiceGivesTheSameBits) {
  const Prepared run = PrepareRun(kNanogpt, {"model.dropout=0.2"});
  ExpectSameValues(ExecuteOnHost(run), ExecuteOnHost(run));
}

TEST(Executor, DropoutRatesAreKept) {
  const Prepared with = PrepareRun(kNanogpt, {"model.dropout=0.5", "training.precision=fp32"});
  const Execution execution = ExecuteOnHost(with);
  EXPECT_TRUE(execution.findings.empty());
  for (const double loss : LossesOf(execution)) EXPECT_NEAR(loss, std::log(512) / 2, 0.2);
}

// The free that ends the life of allocation `a` comes before the op that it was kept for.
TEST(Executor, FindsAnOperandThatIsGone) {
  Prepared run = PrepareRun(kNanogpt);
  // The last op that reads a weight gradient: the optimizer's step.
  for (size_t i = 0; i < run.graph.program.size(); ++i) {
    const Step step = run.graph.program[i];
    if (step.kind() != Step::Kind::kOp || run.graph.ops[step.op()].kind != OpKind::kFusedAdam) continue;
    const TensorId gradient = run.graph.Inputs(run.graph.ops[step.op()])[run.graph.ops[step.op()].inputs / 5 + 1];
    const AllocationId allocation = run.lowered.allocations[run.graph.tensors[gradient].storage];
    const uint32_t at = run.lowered.first_event[i];
    auto& events = run.lowered.tape.events;
    events.insert(events.begin() + at, Event{.kind = EventKind::kFree, .allocation = allocation});
    for (size_t k = i; k < run.lowered.first_event.size(); ++k) ++run.lowered.first_event[k];
    for (SegmentChange& change : run.placed.segment_changes) change.event += change.event >= at ? 1 : 0;
    break;
  }
  const Execution execution = ExecuteOnHost(run);
  ASSERT_FALSE(execution.findings.empty());
  EXPECT_EQ(execution.findings[0].kind, FindingKind::kNotAlive);
}

TEST(Executor, ListsKindsWithoutAKernel) {
  const std::unique_ptr<Backend> backend = MakeHostBackend();
  std::vector<std::string> missing;
#define OP(kind, name, memory, cost, meaning) \
  if (OpKind::k##kind != OpKind::kFromHost && !backend->Has(OpKind::k##kind)) missing.emplace_back(#kind);
#include "graph/op_list.def"
#undef OP
  // Kinds that only the stages of compilation make (passes/compile); the host executor refuses them by name.
  const std::vector<std::string> of_compilation = {"View",
                                                   "Permute",
                                                   "Expand",
                                                   "Unsqueeze",
                                                   "Squeeze",
                                                   "Slice",
                                                   "Select",
                                                   "Split",
                                                   "GetItem",
                                                   "Exp",
                                                   "Erf",
                                                   "Sigmoid",
                                                   "VarMean",
                                                   "Amax",
                                                   "OnlineSoftmax",
                                                   "Index",
                                                   "IndexPutAccumulate",
                                                   "Scatter",
                                                   "SliceScatter",
                                                   "LookupSeed",
                                                   "Rand"};
  EXPECT_EQ(missing, of_compilation);
}

}  // namespace
}  // namespace tidemark
