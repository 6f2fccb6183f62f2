#include "tools/compare_tapes.h"

#include <gtest/gtest.h>

#include "sim/tape_io.h"

namespace tidemark {
namespace {

Tape Parse(std::string_view text) {
  Result<Tape> tape = ParseTape("tape", text);
  EXPECT_TRUE(tape.ok());
  return *std::move(tape);
}

TapeDifference Compare(std::string_view predicted, std::string_view measured) {
  return CompareTapes(Parse(predicted), Parse(measured));
}

TEST(CompareTapes, NumbersOfAllocationsAndMarksDontCount) {
  const TapeDifference difference =
      Compare("p forward step=0\no aten::mm\na 0 512\nt 0 tensor x\na 1 64\nf 0\n", "a 70 512\nr\na 9 64\nf 70\n");
  EXPECT_TRUE(difference.identical());
  EXPECT_EQ(difference, (TapeDifference{.events = 3, .first = 3, .predicted = {}, .measured = {}}));
}

TEST(CompareTapes, TheOrderOfConsecutiveFreesDoesntCount) {
  EXPECT_TRUE(Compare("a 0 1\na 1 2\na 2 3\nf 2\nf 0\nf 1\n", "a 0 1\na 1 2\na 2 3\nf 0\nf 1\nf 2\n").identical());
  // An allocation between the two frees: now it does.
  EXPECT_FALSE(Compare("a 0 1\na 1 1\nf 1\na 2 1\nf 0\n", "a 0 1\na 1 1\nf 0\na 2 1\nf 1\n").identical());
}

TEST(CompareTapes, TellsTheFirstDifferenceWithItsOp) {
  const TapeDifference difference = Compare("p backward step=1 micro=0\na 0 512\no MmBackward0 aten::mm\na 1 4096\n",
                                            "a 0 512\no aten::mm\na 1 2048\n");
  EXPECT_EQ(difference.first, 1u);
  EXPECT_EQ(difference.predicted, "allocates 4096 bytes in MmBackward0 aten::mm (backward of step 1, micro-step 0)");
  EXPECT_EQ(difference.measured, "allocates 2048 bytes in aten::mm");
}

TEST(CompareTapes, ATapeThatGoesOnIsNotIdentical) {
  const TapeDifference longer = Compare("a 0 512\na 1 512\n", "a 0 512\n");
  EXPECT_FALSE(longer.identical());
  EXPECT_EQ(longer.predicted, "allocates 512 bytes");
  EXPECT_EQ(longer.measured, "the end");
  const TapeDifference shorter = Compare("a 0 512\n", "a 0 512\nf 0\n");
  EXPECT_FALSE(shorter.identical());
  EXPECT_EQ(shorter.predicted, "the end");
  EXPECT_EQ(shorter.measured, "frees allocation 0 of 512 bytes");
}

TEST(CompareTapes, StreamsAndSynchronisationsCount) {
  EXPECT_FALSE(Compare("a 0 512 1\n", "a 0 512\n").identical());
  EXPECT_FALSE(Compare("a 0 512\ny\n", "a 0 512\ne\n").identical());
  EXPECT_FALSE(Compare("a 0 512\ns 0 1\n", "a 0 512\ns 0 2\n").identical());
}

}  // namespace
}  // namespace tidemark
