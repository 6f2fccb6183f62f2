// Values of Python that a configuration may hold, and the arithmetic on them that people write there (5 * 8). Nothing
// is ever called or looked up but names that are handed in.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "graph/base/result.h"

namespace tidemark {

// None, a truth value, a number or a string.
class PythonValue {
 public:
  PythonValue() = default;
  explicit PythonValue(bool value) : value_(value) {}
  explicit PythonValue(double value) : value_(value) {}
  explicit PythonValue(std::string value) : value_(std::move(value)) {}
  explicit PythonValue(const char* value) : value_(std::string(value)) {}

  // The number; none where the value is something else.
  std::optional<double> number() const {
    const double* found = std::get_if<double>(&value_);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  // As YAML spells it: null, true, 40, 0.1, bfloat16. Whole numbers print without a point.
  std::string Text() const;

 private:
  std::variant<std::monostate, bool, double, std::string> value_;
};

using PythonNames = std::map<std::string, PythonValue, std::less<>>;

// True, False, None, numbers, plain strings, names, + - * / // % **, signs and brackets; a comment may follow.
// Errors (without a place): anything else, and what has no finite result.
Result<PythonValue> EvaluatePython(std::string_view expression, const PythonNames& names);

}  // namespace tidemark
