#include "tools/config/map_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "tools/config/size.h"
#include "tools/config/suggest.h"

namespace tidemark {
namespace {

std::string Describe(const DocumentNode& node) {
  switch (node.kind) {
    case DocumentNode::Kind::kNull:
      return "empty";
    case DocumentNode::Kind::kScalar:
      return fmt::format("\"{}\"", node.text);
    case DocumentNode::Kind::kList:
      return "a list";
    case DocumentNode::Kind::kMap:
      return "a map";
  }
  return "";
}

Error WrongValue(const DocumentNode& node, const std::string& path, std::string_view expected) {
  return InvalidInput(fmt::format("{}: {} is {}; it has to be {}", node.place, path, Describe(node), expected));
}

std::string DescribeRange(IntegerRange range) {
  const bool bounded = range.max != std::numeric_limits<int64_t>::max();
  return bounded ? fmt::format("a whole number from {} to {}", range.min, range.max)
                 : fmt::format("a whole number, at least {}", range.min);
}

template <typename T>
std::optional<T> ParseWhole(const std::string& text) {
  T value{};
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

}  // namespace

Result<int64_t> ReadInteger(const DocumentNode& node, const std::string& path, IntegerRange range) {
  std::string digits = node.text;
  std::erase(digits, '_');  // 50_304, as Python writes it
  const bool number = node.kind == DocumentNode::Kind::kScalar && !node.quoted;
  const std::optional<int64_t> value = number ? ParseWhole<int64_t>(digits) : std::nullopt;
  if (!value || *value < range.min || *value > range.max) return WrongValue(node, path, DescribeRange(range));
  return *value;
}

Result<Bytes> ReadSize(const DocumentNode& node, const std::string& path, Bytes plain_unit) {
  if (node.kind != DocumentNode::Kind::kScalar) return WrongValue(node, path, "a size, as in 12GiB");
  Result<Bytes> size = ParseSize(node.text, plain_unit);
  if (!size.ok()) return InvalidInput(fmt::format("{}: {}: {}", node.place, path, size.error().message));
  return size;
}

MapReader::MapReader(const DocumentNode& node, std::string path) : node_(node), path_(std::move(path)) {
  if (node.kind == DocumentNode::Kind::kMap || node.kind == DocumentNode::Kind::kNull) return;
  Fail(WrongValue(node, path_.empty() ? "the file" : path_, "a map of keys and values"));
}

void MapReader::Integer(std::string_view key, int64_t* out, IntegerRange range) {
  const DocumentNode* node = Take(key);
  if (node == nullptr) return;
  const Result<int64_t> value = ReadInteger(*node, PathOf(key), range);
  if (value.ok()) {
    *out = *value;
  } else {
    Fail(value.error());
  }
}

void MapReader::Number(std::string_view key, double* out, NumberRange range) {
  const std::string expected =
      range.max == std::numeric_limits<double>::max()
          ? fmt::format("a number, at least {}", range.min)
          : fmt::format("a number from {} to {}{}", range.min, range.max, range.max_included ? "" : " (not included)");
  const DocumentNode* node = TakeScalar(key, expected);
  if (node == nullptr) return;
  const std::optional<double> value = node->quoted ? std::nullopt : ParseWhole<double>(node->text);
  const bool inside = value && std::isfinite(*value) && *value >= range.min &&
                      (range.max_included ? *value <= range.max : *value < range.max);
  if (inside) {
    *out = *value;
  } else {
    FailValue(*node, key, expected);
  }
}

void MapReader::Bool(std::string_view key, bool* out) {
  const DocumentNode* node = TakeScalar(key, "true or false");
  if (node == nullptr) return;
  const std::string& text = node->text;
  const bool yes = text == "true" || text == "True";
  const bool no = text == "false" || text == "False";
  if (node->quoted || (!yes && !no)) return FailValue(*node, key, "true or false");
  *out = yes;
}

void MapReader::Text(std::string_view key, std::string* out) {
  if (const DocumentNode* node = Take(key)) {
    if (node->kind != DocumentNode::Kind::kScalar && node->kind != DocumentNode::Kind::kNull) {
      return FailValue(*node, key, "a text");
    }
    *out = node->text;
  }
}

void MapReader::Size(std::string_view key, Bytes* out, Bytes plain_unit) {
  const DocumentNode* node = Take(key);
  if (node == nullptr) return;
  const Result<Bytes> size = ReadSize(*node, PathOf(key), plain_unit);
  if (size.ok()) {
    *out = *size;
  } else {
    Fail(size.error());
  }
}

const DocumentNode* MapReader::Take(std::string_view key) {
  known_.emplace_back(key);
  return FindField(node_, key);
}

const DocumentNode* MapReader::TakeScalar(std::string_view key, std::string_view expected) {
  const DocumentNode* node = Take(key);
  if (node == nullptr || node->kind == DocumentNode::Kind::kScalar) return node;
  FailValue(*node, key, expected);
  return nullptr;
}

void MapReader::Require(std::string_view key) {
  if (!Has(key)) {
    Fail(InvalidInput(fmt::format("{}: {} is missing", node_.place, PathOf(key))));
  }
}

void MapReader::Fail(Error error) {
  if (!error_) error_ = std::move(error);
}

void MapReader::FailValue(const DocumentNode& node, std::string_view key, std::string_view expected) {
  Fail(WrongValue(node, PathOf(key), expected));
}

std::string MapReader::PathOf(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

Status MapReader::Finish() const {
  for (const DocumentField& field : node_.fields) {
    if (std::ranges::find(known_, field.key) != known_.end()) continue;
    return InvalidInput(fmt::format("{}: unknown key \"{}\"{}; {}", field.place, field.key,
                                    path_.empty() ? "" : " in " + path_, KnownWords(field.key, known_)));
  }
  if (error_) return *error_;
  return {};
}

std::optional<size_t> MapReader::WordIndex(std::string_view key, std::span<const std::string> known) {
  const DocumentNode* node = TakeScalar(key, "one word");
  if (node == nullptr) return std::nullopt;
  const auto found = std::ranges::find(known, node->text);
  if (found != known.end()) return static_cast<size_t>(found - known.begin());
  Fail(InvalidInput(
      fmt::format("{}: unknown {} \"{}\"; {}", node->place, PathOf(key), node->text, KnownWords(node->text, known))));
  return std::nullopt;
}

}  // namespace tidemark
