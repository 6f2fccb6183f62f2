// How functions say that input is wrong. Bugs are CHECKs (check.h), a simulated out-of-memory is data; neither is an
// Error.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace tidemark {

enum class ErrorCode {
  kInvalidInput,  // a user's file, option or value is wrong: exit code 2
  kUnavailable,   // the machine lacks something that was asked for: exit code 3
};

struct Error {
  ErrorCode code = ErrorCode::kInvalidInput;
  std::string message;  // one line: place (file:line where there is one), what is wrong, what would be right
};

inline Error InvalidInput(std::string message) { return Error{ErrorCode::kInvalidInput, std::move(message)}; }

// A value or an error.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT(google-explicit-constructor): returns read naturally
  Result(Error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return std::holds_alternative<T>(state_); }
  const Error& error() const { return std::get<Error>(state_); }
  T& operator*() & { return std::get<T>(state_); }
  const T& operator*() const& { return std::get<T>(state_); }
  T&& operator*() && { return std::get<T>(std::move(state_)); }
  T* operator->() { return &std::get<T>(state_); }
  const T* operator->() const { return &std::get<T>(state_); }

 private:
  std::variant<T, Error> state_;
};

// Success, or an error.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return !error_.has_value(); }
  const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

}  // namespace tidemark

#define TIDEMARK_CONCAT_INNER(a, b) a##b
#define TIDEMARK_CONCAT(a, b) TIDEMARK_CONCAT_INNER(a, b)

// ASSIGN_OR_RETURN(const Tape tape, ReadTape(path)): declares `tape`, or returns the error from the enclosing function.
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_INNER(TIDEMARK_CONCAT(result_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_INNER(temporary, declaration, expression) \
  auto temporary = (expression);                                   \
  if (!temporary.ok()) return temporary.error();                   \
  declaration = *std::move(temporary)

// RETURN_IF_ERROR(status): returns the error from the enclosing function, if there is one.
#define RETURN_IF_ERROR(expression)                                                                 \
  do {                                                                                              \
    if (auto return_if_error = (expression); !return_if_error.ok()) return return_if_error.error(); \
  } while (false)
