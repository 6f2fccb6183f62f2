#include "tools/formats/json_tree.h"

#include <fmt/format.h>

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>

namespace tidemark {
namespace {

// nlohmann's parser reads through iterators; these take from the source.
class SourceIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = char;

  SourceIterator() = default;
  explicit SourceIterator(ByteSource* source) : source_(source) { ++*this; }
  char operator*() const { return current_; }
  SourceIterator& operator++() {
    const std::optional<std::string_view> byte = source_->Take(1);
    if (byte) {
      current_ = byte->front();
    } else {
      source_ = nullptr;
    }
    return *this;
  }
  SourceIterator operator++(int) {
    SourceIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const SourceIterator& other) const { return source_ == other.source_; }

 private:
  ByteSource* source_ = nullptr;  // null: at the end
  char current_ = 0;
};

// The parser's events, onto the builder's stack.
class TreeHandler {
 public:
  using json = nlohmann::json;

  explicit TreeHandler(DictReducer* reducer) : builder_(reducer) {}
  TreeBuilder& builder() { return builder_; }
  const std::string& message() const { return message_; }

  bool null() { return Push(ObjectTree::None()); }
  bool boolean(bool value) { return Push(ObjectTree::FromBool(value)); }
  bool number_integer(json::number_integer_t value) { return Push(builder_.tree().FromInt(value)); }
  bool number_unsigned(json::number_unsigned_t value) {
    const bool fits = value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    return fits ? number_integer(static_cast<int64_t>(value)) : number_float(static_cast<double>(value), "");
  }
  bool number_float(json::number_float_t value, const json::string_t& /*text*/) {
    return Push(builder_.tree().FromFloat(value));
  }
  bool string(json::string_t& value) { return Push(builder_.tree().FromString(value)); }
  bool binary(json::binary_t& /*value*/) { return false; }
  bool start_object(size_t /*size*/) { return Push(builder_.tree().NewDict()) && builder_.Mark(); }
  bool key(json::string_t& value) { return string(value); }
  bool end_object() { return builder_.SetItemsFromMark(); }
  bool start_array(size_t /*size*/) { return Push(builder_.tree().NewList()) && builder_.Mark(); }
  bool end_array() { return builder_.AppendFromMark(); }
  bool parse_error(size_t position, const std::string& /*token*/, const json::exception& /*error*/) {
    message_ = fmt::format("byte {}: not JSON, or truncated", position);
    return false;
  }

 private:
  bool Push(Value value) {
    builder_.Push(value);
    return true;
  }

  TreeBuilder builder_;
  std::string message_ = "nested too deeply";
};

}  // namespace

Result<Unpickled> ReadJsonTree(ByteSource& source, const std::string& name, DictReducer* reducer) {
  TreeHandler handler(reducer);
  const bool good = nlohmann::json::sax_parse(SourceIterator(&source), SourceIterator(), &handler);
  RETURN_IF_ERROR(source.status());
  const std::optional<Value> root = handler.builder().Finish();
  if (!good || !root) return InvalidInput(fmt::format("{}: {}", name, handler.message()));
  return Unpickled{handler.builder().TakeTree(), *root};
}

}  // namespace tidemark
