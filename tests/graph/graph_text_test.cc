#include "graph/graph_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/training/loop.h"
#include "graph/verify.h"
#include "tests/support/runs.h"

namespace tidemark {
namespace {

using testing::HasSubstr;

constexpr const char* kSmall = R"(phase model
s0:float32[4,8] parameter name=w = FromHost()
hold h0 s0 parameter
phase forward step=0 micro=0
s1:float32[2,8] activation = Full() number=1.5 @h.0
hold h1 s1 local @h.0
s2:float32[2,4] activation = Mm(s1, s0:float32[8,4]{1,8}) @h.0.c_fc
hold h2 s2 local @h.0.c_fc
hold h3 s2 saved node=ReluBackward0 @h.0
release h1
s2 = Add(s2, s2) number=1 integer=0,0,7 @h.0 node=AddBackward0 autograd
release h2
)";

TEST(GraphText, PrintsWhatItParsed) {
  const Result<Graph> graph = ParseGraph(kSmall);
  ASSERT_TRUE(graph.ok()) << graph.error().message;
  EXPECT_EQ(PrintGraph(*graph), kSmall);
}

TEST(GraphText, NumbersAnewInOrderOfAppearance) {
  const Result<Graph> graph = ParseGraph("s7:int64[3] input = Arange()  # a comment\nhold h9 s7 caller\nrelease h9\n");
  ASSERT_TRUE(graph.ok()) << graph.error().message;
  EXPECT_EQ(PrintGraph(*graph), "s0:int64[3] input = Arange()\nhold h0 s0 caller\nrelease h0\n");
}

TEST(GraphText, SaysWhichLineIsWrongAndWhatWasExpected) {
  const auto error = [](const char* text) {
    const Result<Graph> graph = ParseGraph(text);
    return graph.ok() ? "" : graph.error().message;
  };
  EXPECT_EQ(error("phase forward\ns0:float31[2] input = Full()\n"),
            "line 2: expected a number format, not \"[2] input = Full()\"");
  EXPECT_THAT(error("s0:float32[2] input = Fill()\n"), HasSubstr("a kind of op, not Fill"));
  EXPECT_THAT(error("hold h0 s0 local\n"), HasSubstr("a known storage"));
  EXPECT_THAT(error("release h3\n"), HasSubstr("a known holder"));
  EXPECT_THAT(error("s0:float32[2]{1,1} input = Full()\n"), HasSubstr("as many strides as sizes"));
  EXPECT_THAT(error("s0:float32[2] input = Full() and more\n"), HasSubstr("the end of the line"));
}

TEST(GraphText, KeepsWholeRuns) {
  for (const NamedRun& named : TinyRuns()) {
    SCOPED_TRACE(named.name);
    const Result<Graph> traced = TraceRun(named.run);
    ASSERT_TRUE(traced.ok()) << traced.error().message;
    ASSERT_TRUE(VerifyGraph(*traced).ok()) << VerifyGraph(*traced).error().message;
    const std::string text = PrintGraph(*traced);
    const Result<Graph> parsed = ParseGraph(text);
    ASSERT_TRUE(parsed.ok()) << parsed.error().message;
    EXPECT_TRUE(PrintGraph(*parsed) == text);
  }
}

}  // namespace
}  // namespace tidemark
