#include "tools/formats/pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/formats/json_tree.h"
#include "tools/formats/json_writer.h"

namespace tidemark {
namespace {

using testing::HasSubstr;

// A tree as JSON text, for comparing whole values.
std::string Show(const ObjectTree& tree, Value value) {
  switch (tree.kind(value)) {
    case ValueKind::kNone:
      return "null";
    case ValueKind::kBool:
      return *tree.Bool(value) ? "true" : "false";
    case ValueKind::kInt:
      return std::to_string(*tree.Int(value));
    case ValueKind::kFloat:
      return std::to_string(*tree.Number(value));
    case ValueKind::kString:
      return "\"" + std::string(*tree.String(value)) + "\"";
    case ValueKind::kReduced:
      return "#" + std::to_string(*tree.Reduced(value));
    case ValueKind::kList:
    case ValueKind::kDict:
      break;
  }
  const bool dict = tree.kind(value) == ValueKind::kDict;
  std::string text(1, dict ? '{' : '[');
  const std::span<const Value> items = tree.Items(value);
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += dict && i % 2 == 1 ? ":" : ",";
    text += Show(tree, items[i]);
  }
  return text + (dict ? '}' : ']');
}

std::string Read(std::string_view bytes, DictReducer* reducer = nullptr) {
  ByteSource source = ByteSource::FromBuffer(bytes);
  const Result<Unpickled> data = ReadPickle(source, "p", reducer);
  return data.ok() ? Show(data->tree, data->root) : data.error().message;
}

std::string Bytes8(std::initializer_list<int> values) {
  std::string text;
  for (const int value : values) text += static_cast<char>(value);
  return text;
}

TEST(Pickle, ReadsEveryKindOfNumber) {
  EXPECT_EQ(Read(Bytes8({0x80, 4, 'K', 255, '.'})), "255");
  EXPECT_EQ(Read(Bytes8({0x80, 4, 'M', 1, 2, '.'})), "513");
  EXPECT_EQ(Read(Bytes8({0x80, 4, 'J', 255, 255, 255, 255, '.'})), "-1");
  EXPECT_EQ(Read(Bytes8({0x80, 4, 0x8a, 0, '.'})), "0");
  EXPECT_EQ(Read(Bytes8({0x80, 4, 0x8a, 2, 0, 0x80, '.'})), "-32768");
  EXPECT_EQ(Read(Bytes8({0x80, 4, 0x8a, 6, 0, 0, 0, 0, 0, 1, '.'})), "1099511627776");
  EXPECT_EQ(Read(Bytes8({0x80, 4, 0x8a, 8, 255, 255, 255, 255, 255, 255, 255, 127, '.'})), "9223372036854775807");
  EXPECT_EQ(Read(Bytes8({0x80, 4, 0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, '.'})),
            "p: byte 2: a number of more than 64 bits");
  EXPECT_EQ(Read(Bytes8({0x80, 4, 'G', 0x40, 0, 0, 0, 0, 0, 0, 0, '.'})), "2.000000");
  EXPECT_EQ(Read("I17\n."), "17");
  EXPECT_EQ(Read("I01\n."), "true");
  EXPECT_EQ(Read("L-5L\n."), "-5");
  EXPECT_EQ(Read("F1.5\n."), "1.500000");
}

TEST(Pickle, ReadsContainersAndTheMemo) {
  EXPECT_EQ(Read("(lp0\nI1\naI2\na."), "[1,2]");
  EXPECT_EQ(Read("(dp0\nS'a'\np1\nI1\nsS'b'\ng1\ns."), "{\"a\":1,\"b\":\"a\"}");
}

TEST(Pickle, AListThatHoldsItselfIsNoReasonToRecurse) {
  const std::string bytes = Bytes8({0x80, 4, ']', 0x94, '(', 'K', 1, 'h', 0, 'e', '.'});
  ByteSource source = ByteSource::FromBuffer(bytes);
  const Result<Unpickled> data = ReadPickle(source, "p", nullptr);
  ASSERT_TRUE(data.ok()) << data.error().message;
  const std::span<const Value> items = data->tree.Items(data->root);
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(items[1], data->root);
}

TEST(Pickle, ReadsBackWhatItWrites) {
  PickleWriter out;
  out.BeginDict();
  out.Key("segments");
  out.BeginList();
  out.Int(-1);
  out.Int(int64_t{1} << 40);
  out.Pair(0, 7);
  out.Bool(true);
  out.Float(0.5);
  out.String(std::string(300, 'x'));
  out.EndList();
  out.Key("empty");
  out.BeginDict();
  out.EndDict();
  out.EndDict();
  EXPECT_EQ(Read(out.Finish()),
            "{\"segments\":[-1,1099511627776,[0,7],true,0.500000,\"" + std::string(300, 'x') + "\"],\"empty\":{}}");
}

TEST(Pickle, RefusesWhatCouldRunCode) {
  const std::pair<const char*, const char*> opcodes[] = {
      {"cos\nsystem\n.", "GLOBAL"}, {"R.", "REDUCE"},      {"b.", "BUILD"},
      {"ios\nsystem\n.", "INST"},   {"o.", "OBJ"},         {"P1\n.", "PERSID"},
      {"Q.", "BINPERSID"},          {"\x81.", "NEWOBJ"},   {"\x93.", "STACK_GLOBAL"},
      {"\x92.", "NEWOBJ_EX"},       {"\x82\x01.", "EXT1"}, {"\x97.", "NEXT_BUFFER"}};
  for (const auto& [bytes, name] : opcodes) {
    EXPECT_THAT(Read(bytes), HasSubstr(std::string("opcode ") + name + " could run code")) << name;
  }
  EXPECT_THAT(Read("\x8f."), HasSubstr("unknown opcode 0x8f")) << "sets: data, but no snapshot has them";
}

TEST(Pickle, DamageIsAnErrorWithItsPlace) {
  EXPECT_EQ(Read(""), "p: byte 0: the pickle is truncated");
  EXPECT_EQ(Read(Bytes8({0x80, 9, '.'})), "p: byte 0: unknown pickle protocol 9; known: 0 to 5");
  for (const char* bytes :
       {".", "e.", "u.", "a.", "s.", "N(.", "NN.", "}(Nu.", "t.", "\x86.", "h\x05.", "q\x05.", "Iabc\n.", "gx\n."}) {
    EXPECT_THAT(Read(bytes), HasSubstr("p: byte ")) << bytes;
  }
}

TEST(Pickle, AReducerTakesDictsOver) {
  class Sum : public DictReducer {
   public:
    std::optional<int64_t> Reduce(ObjectTree& tree, std::span<const Value> items) override {
      if (tree.String(items[0]) != "x") return std::nullopt;
      return *tree.Int(items[1]) + 1;
    }
  };
  Sum sum;
  // [{"x": 1}, {"y": 2}, the first again]
  const std::string bytes = Bytes8(
      {']', '(', '}', 'q', 2, '(', 0x8c, 1, 'x', 'K', 1, 'u', '}', '(', 0x8c, 1, 'y', 'K', 2, 'u', 'h', 2, 'e', '.'});
  EXPECT_EQ(Read(bytes, &sum), "[#2,{\"y\":2},#2]");
}

TEST(Json, BecomesTheSameTree) {
  const std::string text = R"({"a": [1, -2, 3.5, true, null, "x"], "b": {}, "c": 9223372036854775807})";
  ByteSource source = ByteSource::FromBuffer(text);
  const Result<Unpickled> data = ReadJsonTree(source, "j", nullptr);
  ASSERT_TRUE(data.ok()) << data.error().message;
  EXPECT_EQ(Show(data->tree, data->root), R"({"a":[1,-2,3.500000,true,null,"x"],"b":{},"c":9223372036854775807})");
}

TEST(Json, TheWriterSeparatesAndEscapes) {
  JsonWriter out;
  out.BeginDict();
  out.Key("a\"");
  out.BeginList();
  out.Int(1);
  out.Pair(2, 3);
  out.BeginDict();
  out.EndDict();
  out.String("\n\xff");
  out.EndList();
  out.Key("b");
  out.Bool(false);
  out.EndDict();
  EXPECT_EQ(out.Finish(), "{\"a\\\"\":[1,[2,3],{},\"\\n\xef\xbf\xbd\"],\"b\":false}\n");
}

}  // namespace
}  // namespace tidemark
