#include "graph/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/graph_text.h"
#include "tests/support/runs.h"

namespace tidemark {
namespace {

using testing::HasSubstr;

// a = full; b = mul a: a dies once b is there.
Graph Valid() {
  return GraphOfText(R"(
s0:float32[4] activation = Full()
hold h0 s0 local
s1:float32[4] activation = Mul(s0) number=2
hold h1 s1 local
release h0
)");
}

std::string Complaint(const Graph& graph) {
  const Status status = VerifyGraph(graph);
  return status.ok() ? "" : status.error().message;
}

// One minimal corruption for each way to be wrong.
TEST(Verify, FindsEachCorruption) {
  EXPECT_EQ(Complaint(Valid()), "");
  const auto corrupted = [](const auto& corrupt) {
    Graph graph = Valid();
    corrupt(graph);
    return Complaint(graph);
  };
  const OpId mul{size_t{1}};
  EXPECT_THAT(corrupted([](Graph& g) { g.tensors[TensorId(0)].storage = StorageId(9); }), HasSubstr("has no storage"));
  EXPECT_THAT(corrupted([](Graph& g) { g.tensors[TensorId(1)].offset = 1; }), HasSubstr("reaches beyond its storage"));
  EXPECT_THAT(corrupted([](Graph& g) { g.holders[HolderId(0)].storage = StorageId(9); }), HasSubstr("holds nothing"));
  EXPECT_THAT(corrupted([](Graph& g) { g.holders[HolderId(1)].since = OpId(size_t{0}); }), HasSubstr("out of order"));
  EXPECT_THAT(corrupted([](Graph& g) { std::swap(g.program[0], g.program[1]); }), HasSubstr("ops are out of order"));
  EXPECT_THAT(corrupted([](Graph& g) { g.program.pop_back(), g.program.pop_back(); }),
              HasSubstr("isn't in the program"));
  EXPECT_THAT(corrupted([](Graph& g) { g.program.insert(g.program.begin() + 1, Step(HolderId(0))); }),
              HasSubstr("which nobody holds"));
  EXPECT_THAT(corrupted([](Graph& g) { g.program.push_back(g.program.back()); }), HasSubstr("doesn't hold"));
  EXPECT_THAT(corrupted([&](Graph& g) { g.ops[mul].results = 9; }), HasSubstr("operands are missing"));
  EXPECT_THAT(corrupted([&](Graph& g) { g.storages[StorageId(1)].producer = OpId(size_t{0}); }),
              HasSubstr("neither new nor an operand"));
  EXPECT_THAT(corrupted([&](Graph& g) { g.storages[StorageId(1)].result = 1; }), HasSubstr("another result"));
  EXPECT_THAT(corrupted([&](Graph& g) { g.operands[g.ops[mul].first_operand] = TensorId(1); }),
              HasSubstr("before it is there"));
}

TEST(Verify, WantsAHolderForEachResult) {
  Graph graph = Valid();
  graph.holders.resize(1);
  graph.program.pop_back();
  EXPECT_THAT(Complaint(graph), HasSubstr("nobody holds storage 1"));
}

TEST(Verify, RefusesHoldersOfTheDead) {
  const Result<Graph> graph = ParseGraph(R"(
s0:float32[4] activation = Full()
hold h0 s0 local
release h0
s1:float32[4] activation = Full()
hold h1 s1 local
hold h2 s0 local
)");
  ASSERT_FALSE(graph.ok());
  EXPECT_THAT(graph.error().message, HasSubstr("takes hold of what has died"));
}

TEST(Verify, AcceptsEveryTracedRun) {
  for (const NamedRun& named : TinyRuns()) EXPECT_EQ(Complaint(GraphOf(named.run)), "") << named.name;
}

}  // namespace
}  // namespace tidemark
