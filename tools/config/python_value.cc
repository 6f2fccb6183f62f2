#include "tools/config/python_value.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace tidemark {
namespace {

constexpr int kMaxDepth = 50;

bool IsWordChar(char c) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// Recursive descent: sum := product (+|- product)*; product := factor (*|/|//|% factor)*;
// factor := (+|-) factor | power; power := atom (** factor)?
class Evaluator {
 public:
  Evaluator(std::string_view text, const PythonNames& names) : text_(text), names_(names) {}

  Result<PythonValue> Run() {
    ASSIGN_OR_RETURN(PythonValue value, Sum(0));
    Skip();
    if (!text_.empty() && text_.front() != '#') return NotUnderstood();
    const std::optional<double> number = value.number();
    if (number && !std::isfinite(*number)) return InvalidInput("the value isn't a finite number");
    return value;
  }

 private:
  Error NotUnderstood() const {
    return InvalidInput(
        fmt::format("\"{}\" is not a literal or arithmetic on numbers; the file isn't executed", text_.substr(0, 40)));
  }

  void Skip() {
    while (!text_.empty() && (text_.front() == ' ' || text_.front() == '\t')) text_.remove_prefix(1);
  }

  bool Accept(std::string_view token) {
    Skip();
    if (!text_.starts_with(token)) return false;
    text_.remove_prefix(token.size());
    return true;
  }

  template <typename Combine>
  Result<PythonValue> Apply(const PythonValue& left, const PythonValue& right, Combine combine) const {
    if (!left.number() || !right.number()) return NotUnderstood();
    return PythonValue(combine(*left.number(), *right.number()));
  }

  Result<PythonValue> Sum(int depth) {
    ASSIGN_OR_RETURN(PythonValue left, Product(depth));
    while (true) {
      const bool plus = Accept("+");
      if (!plus && !Accept("-")) return left;
      ASSIGN_OR_RETURN(const PythonValue right, Product(depth));
      ASSIGN_OR_RETURN(left, Apply(left, right, [&](double a, double b) { return plus ? a + b : a - b; }));
    }
  }

  Result<PythonValue> Product(int depth) {
    ASSIGN_OR_RETURN(PythonValue left, Factor(depth));
    while (true) {
      Skip();
      if (text_.starts_with("**")) return NotUnderstood();
      const char kind = Accept("//") ? 'f' : Accept("*") ? '*' : Accept("/") ? '/' : Accept("%") ? '%' : ' ';
      if (kind == ' ') return left;
      ASSIGN_OR_RETURN(const PythonValue right, Factor(depth));
      ASSIGN_OR_RETURN(left, Apply(left, right, [&](double a, double b) {
                         if (kind == '*') return a * b;
                         if (kind == '/') return a / b;
                         return kind == 'f' ? std::floor(a / b) : a - std::floor(a / b) * b;
                       }));
    }
  }

  Result<PythonValue> Factor(int depth) {
    if (depth > kMaxDepth) return InvalidInput("the expression is nested too deeply");
    const bool minus = Accept("-");
    if (!minus && !Accept("+")) return Power(depth);
    ASSIGN_OR_RETURN(const PythonValue value, Factor(depth + 1));
    if (!value.number()) return NotUnderstood();
    return PythonValue(minus ? -*value.number() : *value.number());
  }

  Result<PythonValue> Power(int depth) {
    ASSIGN_OR_RETURN(PythonValue base, Atom(depth));
    if (!Accept("**")) return base;
    ASSIGN_OR_RETURN(const PythonValue exponent, Factor(depth + 1));
    return Apply(base, exponent, [](double a, double b) { return std::pow(a, b); });
  }

  Result<PythonValue> Atom(int depth) {
    if (Accept("(")) {
      ASSIGN_OR_RETURN(PythonValue inner, Sum(depth + 1));
      if (!Accept(")")) return NotUnderstood();
      return inner;
    }
    if (text_.empty()) return InvalidInput("a value is missing");
    if (text_.front() == '\'' || text_.front() == '"') return String();
    if ((text_.front() >= '0' && text_.front() <= '9') || text_.front() == '.') return Number();
    return Name();
  }

  Result<PythonValue> String() {
    const char quote = text_.front();
    const size_t end = text_.find(quote, 1);
    if (end == std::string_view::npos) return NotUnderstood();
    const std::string value(text_.substr(1, end - 1));
    if (value.find('\\') != std::string::npos) return NotUnderstood();
    text_.remove_prefix(end + 1);
    return PythonValue(value);
  }

  Result<PythonValue> Number() {
    std::string digits;
    size_t size = 0;
    for (; size < text_.size(); ++size) {
      const char c = text_[size];
      const bool sign = (c == '+' || c == '-') && size > 0 && (text_[size - 1] == 'e' || text_[size - 1] == 'E');
      if (!IsWordChar(c) && c != '.' && !sign) break;
      if (c != '_') digits += c;
    }
    double value = 0;
    const auto [rest, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || rest != digits.data() + digits.size()) return NotUnderstood();
    text_.remove_prefix(size);
    return PythonValue(value);
  }

  Result<PythonValue> Name() {
    size_t size = 0;
    while (size < text_.size() && IsWordChar(text_[size])) ++size;
    const std::string_view word = text_.substr(0, size);
    if (size == 0 || (size < text_.size() && (text_[size] == '(' || text_[size] == '.'))) return NotUnderstood();
    PythonValue value;
    if (word == "True" || word == "False") {
      value = PythonValue(word == "True");
    } else if (word != "None") {
      const auto known = names_.find(word);
      if (known == names_.end()) return NotUnderstood();
      value = known->second;
    }
    text_.remove_prefix(size);
    return value;
  }

  std::string_view text_;  // what isn't read yet
  const PythonNames& names_;
};

}  // namespace

std::string PythonValue::Text() const {
  if (const bool* truth = std::get_if<bool>(&value_)) return *truth ? "true" : "false";
  if (const std::string* text = std::get_if<std::string>(&value_)) return *text;
  const std::optional<double> value = number();
  if (!value) return "null";
  constexpr double kExact = 0x1p53;  // whole numbers up to here are exact
  if (*value == std::floor(*value) && std::abs(*value) < kExact) return fmt::format("{:.0f}", *value);
  return fmt::format("{}", *value);
}

Result<PythonValue> EvaluatePython(std::string_view expression, const PythonNames& names) {
  return Evaluator(expression, names).Run();
}

}  // namespace tidemark
