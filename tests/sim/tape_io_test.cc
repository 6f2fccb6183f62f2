#include "sim/tape_io.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/tapes.h"

namespace tidemark {
namespace {

using namespace literals;

std::string ErrorOf(std::string_view text) {
  const Result<Tape> tape = ParseTape("x.tape", text);
  return tape.ok() ? "no error" : tape.error().message;
}

std::string Gzip(std::string_view text) {
  std::string out(text.size() + 1000, '\0');
  z_stream z{};
  deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

TEST(ParseTape, ReadsEveryKindOfLine) {
  const Tape tape = TapeOf(
      "# tidemark tape 1\n"
      "p forward\n"
      "o linear\n"
      "a 7 100 3   # a comment\n"
      "t 7 activations h float32[25]\n"
      "\n"
      "  s 7 2\r\n"
      "y\ne\nr\nB 1\nE 1\nR 1\nX 1\nU 1\nN 1\nC 1 4\nD 1\n"
      "f 7");
  ASSERT_EQ(tape.events.size(), 14u);
  const Event& alloc = tape.events[0];
  EXPECT_EQ(alloc.kind, EventKind::kAlloc);
  EXPECT_EQ(alloc.bytes, 100_B);
  EXPECT_EQ(alloc.stream, 3);
  EXPECT_EQ(tape.events[1].kind, EventKind::kRecordStream);
  EXPECT_EQ(tape.events[1].stream, 2);
  EXPECT_EQ(tape.events[11].kind, EventKind::kCaptureBegin);
  EXPECT_EQ(tape.events[11].stream, 4);
  EXPECT_EQ(tape.events[13].kind, EventKind::kFree);
  EXPECT_EQ(tape.allocations[AllocationId(0)].id, 7u);
  EXPECT_EQ(tape.texts[tape.allocations[AllocationId(0)].text], "activations h float32[25]");
  ASSERT_EQ(tape.marks.size(), 2u);
  EXPECT_EQ(tape.marks[1].kind, MarkKind::kOp);
  EXPECT_EQ(tape.texts[tape.marks[1].text], "linear");
}

TEST(ParseTape, NamesLineWordAndWhatIsAllowed) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"a 1 2\nz 1\n", "x.tape:2: \"z\" is no event: known are a f s y e r o p t B E R X U N C D"},
      {"alloc 1 2\n", "x.tape:1: \"alloc\" is no event: known are a f s y e r o p t B E R X U N C D"},
      {"a 1\n", "x.tape:1: number of bytes is missing: wanted \"a ID BYTES [STREAM]\""},
      {"a 1 -5\n",
       "x.tape:1: \"-5\" is no number of bytes: wanted \"a ID BYTES [STREAM]\" with a whole number from 0 to "
       "9223372036854775807"},
      {"a 1 9223372036854775808\n",
       "x.tape:1: \"9223372036854775808\" is no number of bytes: wanted \"a ID BYTES [STREAM]\" with a whole number "
       "from 0 to "
       "9223372036854775807"},
      {"a 99999999999999999999 1\n",
       "x.tape:1: \"99999999999999999999\" is no ID: wanted \"a ID BYTES [STREAM]\" with a whole number from 0 to "
       "18446744073709551615"},
      {"a 1 2 2147483648\n",
       "x.tape:1: \"2147483648\" is no stream: wanted \"a ID BYTES [STREAM]\" with a whole number from 0 to "
       "2147483647"},
      {"a 1 2 3 4\n", "x.tape:1: \"4\" is too much: wanted \"a ID BYTES [STREAM]\""},
      {"y 1\n", "x.tape:1: \"1\" is too much: wanted \"y\""},
      {"a 1 2\na 1 3\n", "x.tape:2: ID 1 was allocated before: IDs are never used again"},
      {"a 1 2\nf 1\na 1 3\n", "x.tape:3: ID 1 was allocated before: IDs are never used again"},
      {"f 1\n", "x.tape:1: ID 1 wasn't allocated before"},
      {"a 1 2\nf 1\nf 1\n", "x.tape:3: ID 1 was freed before"},
      {"a 1 2\nf 1\ns 1 2\n", "x.tape:3: ID 1 was freed before"},
      {"t 1 x\n", "x.tape:1: ID 1 wasn't allocated before"},
      {"C 1\n", "x.tape:1: stream is missing: wanted \"C POOL STREAM\""},
      {"a 1 2x\n",
       "x.tape:1: \"2x\" is no number of bytes: wanted \"a ID BYTES [STREAM]\" with a whole number from 0 to "
       "9223372036854775807"},
  };
  for (const auto& [text, message] : cases) EXPECT_EQ(ErrorOf(text), message);
}

TEST(ParseTape, TextsKeepTheirHashes) { EXPECT_EQ(TapeOf("o a # b\n").texts[TextId(0)], "a # b"); }

TEST(ParseTape, TheLastTextOfAnIdCounts) {
  const Tape tape = TapeOf("a 7 1\nt 7 one\nf 7\nt 7 two\n");
  EXPECT_EQ(TapeText(tape), "# tidemark tape 1\na 7 1\nt 7 two\nf 7\n");
}

TEST(ParseTape, SparseAndHugeIdsAreKept) {
  const Tape tape =
      TapeOf("a 18446744073709551615 1\na 0 2\na 123456789012 3\nf 18446744073709551615\nf 123456789012\nf 0\n");
  EXPECT_EQ(tape.events[3].allocation, AllocationId(0));
  EXPECT_EQ(tape.events[4].allocation, AllocationId(2));
  EXPECT_EQ(tape.events[5].allocation, AllocationId(1));
}

TEST(ParseTape, ReadsWhatTapeTextWrites) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Tape tape =
        RandomTape({.events = 500, .seed = seed, .streams = 3, .empty = 0.1, .synchronize = 0.1, .pools = 0.1});
    EXPECT_EQ(TapeOf(TapeText(tape)), tape);
  }
}

// Longer than every buffer on the way.
TEST(ParseTape, LongTapesAreWhole) {
  const Tape tape = TrainingTape({.events = 300'000, .seed = 3});
  const std::string text = TapeText(tape);
  ASSERT_GT(text.size(), 3u << 20);
  EXPECT_TRUE(TapeOf(text) == tape);
  EXPECT_TRUE(TapeOf(Gzip(text)) == tape);
}

TEST(ParseTape, GzipMembersInARowAreOneTape) {
  EXPECT_EQ(TapeOf(Gzip("a 1 2\n") + Gzip("f 1\n")), TapeOf("a 1 2\nf 1\n"));
}

TEST(ParseTape, TruncatedAndDamagedGzipIsAnError) {
  const std::string whole = Gzip(TapeText(TrainingTape({.events = 1000})));
  EXPECT_NE(ErrorOf(whole.substr(0, whole.size() / 2)).find("the gzip stream is truncated"), std::string::npos);
  std::string damaged = whole;
  damaged[whole.size() / 2] = static_cast<char>(~damaged[whole.size() / 2]);
  EXPECT_NE(ErrorOf(damaged), "no error");
}

TEST(ParseTape, EveryCutOfATapeIsReadOrRefused) {
  const std::string text = TapeText(RandomTape({.events = 60, .streams = 2, .pools = 0.2}));
  for (size_t size = 0; size < text.size(); ++size) (void)ParseTape("cut", text.substr(0, size));
}

TEST(WriteTape, FilesAreReadBack) {
  const Tape tape = RandomTape({.events = 2000, .streams = 2});
  const std::string path = testing::TempDir() + "/written.tape";
  for (const Compression compression : {Compression::kNone, Compression::kGzip}) {
    ASSERT_TRUE(WriteTape(tape, path, compression).ok());
    const Result<Tape> read = ReadTape(path);
    ASSERT_TRUE(read.ok());
    EXPECT_TRUE(*read == tape);
  }
  std::remove(path.c_str());
}

TEST(WriteTape, APlaceThatCannotBeWrittenIsAnError) {
  const Status status = WriteTape(Tape{}, "/nowhere/x.tape", Compression::kNone);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().message, "/nowhere/x.tape: can't be written: No such file or directory");
}

TEST(WriteTape, AFullDiskIsAnErrorAndLeavesNothing) {
  if (!std::ifstream("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const Status status = WriteTape(TrainingTape({.events = 1000}), "/dev/full", Compression::kNone);
  EXPECT_FALSE(status.ok());
}

TEST(ReadTape, AMissingFileIsAnError) {
  const Result<Tape> tape = ReadTape("/nowhere/x.tape");
  ASSERT_FALSE(tape.ok());
  EXPECT_EQ(tape.error().message, "/nowhere/x.tape: can't be read: No such file or directory");
}

TEST(ReadTape, AFolderIsAnError) { EXPECT_FALSE(ReadTape("/").ok()); }

}  // namespace
}  // namespace tidemark
