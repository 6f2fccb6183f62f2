// Reads the fields of one map of a configuration. Getters name every key that may stand there, with its type and range;
// Finish() says what was wrong: an unknown key before anything else (a misspelt key also makes its right name missing),
// then the first field that is missing or malformed.
//
//   MapReader reader(node, "evaluation");
//   reader.Integer("every", &evaluation.every, {.min = 1});
//   RETURN_IF_ERROR(reader.Finish());
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/base/result.h"
#include "graph/base/units.h"
#include "tools/config/document.h"

namespace tidemark {

struct IntegerRange {
  int64_t min = 1;
  int64_t max = std::numeric_limits<int64_t>::max();
};

struct NumberRange {
  double min = 0;
  double max = std::numeric_limits<double>::max();
  bool max_included = true;
};

// The words of an enumeration, as a file spells them, in the order of its values.
template <typename Enum>
using Words = std::span<const std::pair<std::string_view, Enum>>;

// `node` as a whole number within `range`; `path` names it in the error ("training.steps").
Result<int64_t> ReadInteger(const DocumentNode& node, const std::string& path, IntegerRange range);
// `node` as an amount of memory; numbers without a unit count in `plain_unit`.
Result<Bytes> ReadSize(const DocumentNode& node, const std::string& path, Bytes plain_unit);

class MapReader {
 public:
  // `path` names the map in messages ("training"; empty for the whole file). A node of another kind than a map is the
  // first error; null counts as an empty map.
  MapReader(const DocumentNode& node, std::string path);

  // Each leaves *out alone where the key is missing, and remembers the error where the value is wrong.
  void Integer(std::string_view key, int64_t* out, IntegerRange range);
  void Number(std::string_view key, double* out, NumberRange range);
  void Bool(std::string_view key, bool* out);
  void Text(std::string_view key, std::string* out);
  void Size(std::string_view key, Bytes* out, Bytes plain_unit);
  template <typename Enum>
  void Word(std::string_view key, Enum* out, Words<Enum> words) {
    std::vector<std::string> known;
    for (const auto& [word, value] : words) known.emplace_back(word);
    if (const std::optional<size_t> found = WordIndex(key, known)) *out = words[*found].second;
  }

  // The value of a key that the caller reads by itself; null where it's missing.
  const DocumentNode* Take(std::string_view key);
  // The key has to be there.
  void Require(std::string_view key);
  // An error of a field that the caller read by itself.
  void Fail(Error error);

  std::string PathOf(std::string_view key) const;
  const std::string& place() const { return node_.place; }
  bool Has(std::string_view key) const { return FindField(node_, key) != nullptr; }

  Status Finish() const;

 private:
  std::optional<size_t> WordIndex(std::string_view key, std::span<const std::string> known);
  // The value of a key that has to be a scalar; remembers the error where it isn't.
  const DocumentNode* TakeScalar(std::string_view key, std::string_view expected);
  void FailValue(const DocumentNode& node, std::string_view key, std::string_view expected);

  const DocumentNode& node_;
  std::string path_;
  std::vector<std::string> known_;
  std::optional<Error> error_;
};

}  // namespace tidemark
