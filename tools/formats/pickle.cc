#include "tools/formats/pickle.h"

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <vector>

namespace tidemark {
namespace {

// Python's pickletools is the reference of the opcodes.
enum Opcode : unsigned char {
  kMark = '(',
  kStop = '.',
  kFloat = 'F',
  kInt = 'I',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kLong = 'L',
  kBinInt2 = 'M',
  kNone = 'N',
  kString = 'S',
  kBinString = 'T',
  kShortBinString = 'U',
  kUnicode = 'V',
  kBinUnicode = 'X',
  kAppend = 'a',
  kAppends = 'e',
  kDict = 'd',
  kEmptyDict = '}',
  kGet = 'g',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kList = 'l',
  kEmptyList = ']',
  kPut = 'p',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kSetItems = 'u',
  kTuple = 't',
  kEmptyTuple = ')',
  kBinFloat = 'G',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kMemoize = 0x94,
  kFrame = 0x95,
};

// Opcodes by which a pickle reaches beyond data.
constexpr std::pair<unsigned char, std::string_view> kRefused[] = {
    {'c', "GLOBAL"}, {'R', "REDUCE"},     {'b', "BUILD"},         {'i', "INST"},         {'o', "OBJ"},
    {'P', "PERSID"}, {'Q', "BINPERSID"},  {0x81, "NEWOBJ"},       {0x82, "EXT1"},        {0x83, "EXT2"},
    {0x84, "EXT4"},  {0x92, "NEWOBJ_EX"}, {0x93, "STACK_GLOBAL"}, {0x97, "NEXT_BUFFER"}, {0x98, "READONLY_BUFFER"},
};

constexpr uint64_t kMaxProtocol = 5;
// Writers number their memo without gaps; this bounds what a number out of nowhere can make us reserve.
constexpr size_t kMaxMemoGap = 1'000'000;

uint64_t LittleEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i > 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i - 1]);
  return value;
}

class PickleReader {
 public:
  PickleReader(ByteSource& source, const std::string& name, DictReducer* reducer)
      : source_(source), name_(name), builder_(reducer) {}

  Result<Unpickled> Run() {
    while (true) {
      at_ = source_.position();
      const std::optional<std::string_view> code = source_.Take(1);
      if (!code) return Truncated();
      const auto opcode = static_cast<unsigned char>(code->front());
      if (opcode == kStop) break;
      if (!Step(opcode))
        return error_ ? *error_ : Wrong("the data doesn't fit together; not a pickle, or a damaged one");
    }
    const std::optional<Value> root = builder_.Finish();
    if (!root) return Wrong("the pickle ends with values left over");
    return Unpickled{builder_.TakeTree(), *root};
  }

 private:
  Error Wrong(std::string_view what) const { return InvalidInput(fmt::format("{}: byte {}: {}", name_, at_, what)); }

  Error Truncated() const {
    if (!source_.status().ok()) return source_.status().error();
    return InvalidInput(fmt::format("{}: byte {}: the pickle is truncated", name_, source_.position()));
  }

  bool Fail(Error error) {
    error_ = std::move(error);
    return false;
  }

  // Carries out one opcode. False: error_ says why, or the stack wasn't as it has to be.
  bool Step(unsigned char opcode) {
    switch (opcode) {
      case kBinGet:
        return GetMemo(1);
      case kLongBinGet:
        return GetMemo(4);
      case kMemoize:
        return SetMemo(memo_.size());
      case kMark:
        return builder_.Mark();
      case kEmptyDict:
        return Push(builder_.tree().NewDict());
      case kEmptyList:
        return Push(builder_.tree().NewList());
      case kSetItems:
        return builder_.SetItemsFromMark();
      case kAppends:
        return builder_.AppendFromMark();
      case kBinInt1:
        return PushUnsigned(1);
      case kBinInt2:
        return PushUnsigned(2);
      case kBinInt:
        return PushSigned(4);
      case kLong1:
        return PushLong(1);
      case kShortBinUnicode:
        return PushText(1, false);
      case kBinUnicode:
        return PushText(4, false);
      default:
        return StepRare(opcode);
    }
  }

  bool StepRare(unsigned char opcode) {
    switch (opcode) {
      case kNone:
        return Push(ObjectTree::None());
      case kNewTrue:
        return Push(ObjectTree::FromBool(true));
      case kNewFalse:
        return Push(ObjectTree::FromBool(false));
      case kTuple2:
        return builder_.TupleFromTop(2);
      case kEmptyTuple:
        return builder_.TupleFromTop(0);
      case kTuple1:
        return builder_.TupleFromTop(1);
      case kTuple3:
        return builder_.TupleFromTop(3);
      case kTuple:
        return builder_.TupleFromMark();
      case kSetItem:
        return builder_.SetTop();
      case kAppend:
        return builder_.AppendTop();
      case kList:
        return builder_.ListFromMark();
      case kDict:
        return builder_.DictFromMark();
      case kLong4:
        return PushLong(4);
      case kBinFloat:
        return PushDouble();
      case kBinUnicode8:
        return PushText(8, false);
      case kShortBinString:
        return PushText(1, false);
      case kBinString:
        return PushText(4, false);
      case kShortBinBytes:
        return PushText(1, true);
      case kBinBytes:
        return PushText(4, true);
      case kBinBytes8:
        return PushText(8, true);
      case kBinPut:
        return SetMemoAt(1);
      case kLongBinPut:
        return SetMemoAt(4);
      case kFrame:
        return TakeNumber(8).has_value();
      case kProto:
        return CheckProtocol();
      default:
        return StepText(opcode);
    }
  }

  // Opcodes of protocol 0, whose arguments are lines of text.
  bool StepText(unsigned char opcode) {
    constexpr std::string_view kTextOpcodes = "FILSVgp";
    if (kTextOpcodes.find(static_cast<char>(opcode)) == std::string_view::npos) return Refuse(opcode);
    const std::optional<std::string_view> line = source_.TakeLine();
    if (!line) return Fail(Truncated());
    switch (opcode) {
      case kInt:
      case kLong:
        return PushDecimal(*line);
      case kFloat:
        return PushDecimalFraction(*line);
      case kString:
      case kUnicode:
        return Push(builder_.tree().FromString(Unquoted(*line)));
      default:
        break;
    }
    uint64_t index = 0;
    const auto [end, error] = std::from_chars(line->data(), line->data() + line->size(), index);
    if (error != std::errc() || end != line->data() + line->size()) return Fail(Wrong("a memo number is malformed"));
    return opcode == kGet ? PushMemo(index) : SetMemo(index);
  }

  bool Refuse(unsigned char opcode) {
    for (const auto& [code, title] : kRefused) {
      if (code == opcode) {
        return Fail(
            Wrong(fmt::format("opcode {} could run code and is never carried out; a snapshot is plain data", title)));
      }
    }
    return Fail(Wrong(fmt::format("unknown opcode 0x{:02x}; not a pickle of plain data", opcode)));
  }

  bool Push(Value value) {
    builder_.Push(value);
    return true;
  }

  // A little-endian number of that many bytes.
  std::optional<uint64_t> TakeNumber(size_t size) {
    const std::optional<std::string_view> bytes = source_.Take(size);
    if (!bytes) {
      Fail(Truncated());
      return std::nullopt;
    }
    return LittleEndian(*bytes);
  }

  bool PushUnsigned(size_t size) {
    const std::optional<uint64_t> value = TakeNumber(size);
    return value && Push(builder_.tree().FromInt(static_cast<int64_t>(*value)));
  }

  bool PushSigned(size_t size) {
    const std::optional<uint64_t> value = TakeNumber(size);
    return value && Push(builder_.tree().FromInt(static_cast<int32_t>(*value)));
  }

  // Two's complement of any length; more than 8 bytes must be sign extension.
  bool PushLong(size_t length_size) {
    const std::optional<uint64_t> length = TakeNumber(length_size);
    if (!length) return false;
    if (*length > 8) return Fail(Wrong("a number of more than 64 bits"));
    const std::optional<std::string_view> bytes = source_.Take(*length);
    if (!bytes) return Fail(Truncated());
    uint64_t value = LittleEndian(*bytes);
    const bool negative = !bytes->empty() && (bytes->back() & 0x80) != 0;
    if (negative && *length < 8) value |= ~uint64_t{0} << (8 * *length);
    return Push(builder_.tree().FromInt(static_cast<int64_t>(value)));
  }

  bool PushDouble() {
    const std::optional<std::string_view> bytes = source_.Take(8);
    if (!bytes) return Fail(Truncated());
    uint64_t bits = 0;  // big-endian
    for (const char byte : *bytes) bits = bits << 8 | static_cast<unsigned char>(byte);
    return Push(builder_.tree().FromFloat(std::bit_cast<double>(bits)));
  }

  // A text, or bytes, which nobody needs: None stands for them.
  bool PushText(size_t length_size, bool bytes) {
    const std::optional<uint64_t> length = TakeNumber(length_size);
    if (!length) return false;
    if (*length <= ByteSource::kMaxView) {
      const std::optional<std::string_view> text = source_.Take(*length);
      if (!text) return Fail(Truncated());
      return Push(bytes ? ObjectTree::None() : builder_.tree().FromString(*text));
    }
    std::string text;
    if (!source_.TakeText(*length, &text)) return Fail(Truncated());
    return Push(bytes ? ObjectTree::None() : builder_.tree().FromString(text));
  }

  // "17", "17L", "00", "01": protocol 0 writes truth values as numbers of two digits.
  bool PushDecimal(std::string_view line) {
    if (line == "00" || line == "01") return Push(ObjectTree::FromBool(line == "01"));
    if (line.ends_with('L')) line.remove_suffix(1);
    int64_t value = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
    if (error != std::errc() || end != line.data() + line.size())
      return Fail(Wrong("a number is malformed or has more than 64 bits"));
    return Push(builder_.tree().FromInt(value));
  }

  bool PushDecimalFraction(std::string_view line) {
    double value = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
    if (error != std::errc() || end != line.data() + line.size()) return Fail(Wrong("a number is malformed"));
    return Push(builder_.tree().FromFloat(value));
  }

  static std::string_view Unquoted(std::string_view line) {
    const bool quoted =
        line.size() >= 2 && line.front() == line.back() && (line.front() == '\'' || line.front() == '"');
    return quoted ? line.substr(1, line.size() - 2) : line;
  }

  bool SetMemoAt(size_t size) {
    const std::optional<uint64_t> index = TakeNumber(size);
    return index && SetMemo(*index);
  }

  bool SetMemo(uint64_t index) {
    const std::optional<Value> top = builder_.Top();
    if (!top) return false;
    if (index > memo_.size() + kMaxMemoGap) return Fail(Wrong("a memo number is out of range"));
    if (index >= memo_.size()) memo_.resize(index + 1);
    memo_[index] = *top;
    return true;
  }

  bool GetMemo(size_t size) {
    const std::optional<uint64_t> index = TakeNumber(size);
    return index && PushMemo(*index);
  }

  bool PushMemo(uint64_t index) {
    if (index >= memo_.size()) return Fail(Wrong(fmt::format("memo entry {} doesn't exist", index)));
    return Push(memo_[index]);
  }

  bool CheckProtocol() {
    const std::optional<uint64_t> version = TakeNumber(1);
    if (!version) return false;
    return *version <= kMaxProtocol || Fail(Wrong(fmt::format("unknown pickle protocol {}; known: 0 to 5", *version)));
  }

  ByteSource& source_;
  const std::string& name_;
  TreeBuilder builder_;
  std::vector<Value> memo_;
  std::optional<Error> error_;
  uint64_t at_ = 0;  // of the opcode
};

}  // namespace

Result<Unpickled> ReadPickle(ByteSource& source, const std::string& name, DictReducer* reducer) {
  return PickleReader(source, name, reducer).Run();
}

PickleWriter::PickleWriter() : bytes_("\x80\x04") {}

void PickleWriter::BeginDict() { bytes_ += "}("; }
void PickleWriter::EndDict() { bytes_ += 'u'; }
void PickleWriter::BeginList() { bytes_ += "]("; }
void PickleWriter::EndList() { bytes_ += 'e'; }

void PickleWriter::String(std::string_view text) {
  bytes_ += static_cast<char>(kBinUnicode);
  for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(text.size() >> shift);
  bytes_ += text;
}

void PickleWriter::Int(int64_t value) {
  const bool small = value >= INT32_MIN && value <= INT32_MAX;
  bytes_ += static_cast<char>(small ? kBinInt : kLong1);
  if (!small) bytes_ += char{8};
  for (int shift = 0; shift < (small ? 32 : 64); shift += 8) bytes_ += static_cast<char>(value >> shift);
}

void PickleWriter::Bool(bool value) { bytes_ += static_cast<char>(value ? kNewTrue : kNewFalse); }

void PickleWriter::Float(double value) {
  bytes_ += static_cast<char>(kBinFloat);
  const auto bits = std::bit_cast<uint64_t>(value);
  for (int shift = 56; shift >= 0; shift -= 8) bytes_ += static_cast<char>(bits >> shift);
}

void PickleWriter::Pair(int64_t first, int64_t second) {
  Int(first);
  Int(second);
  bytes_ += static_cast<char>(kTuple2);
}

std::string PickleWriter::Finish() {
  bytes_ += static_cast<char>(kStop);
  return std::move(bytes_);
}

}  // namespace tidemark
