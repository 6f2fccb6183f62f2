// Plain data as pickles and JSON hold it (None, truth values, numbers, strings, lists, dicts), kept small: 8 bytes a
// value, 16 a container, each distinct string once. Snapshots have tens of millions of values.
//
// Whoever reads a file of many equal records needn't keep them as dicts: a reducer is shown each finished dict and may
// take it over, leaving a number in its place.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tidemark {

enum class ValueKind : uint8_t { kNone, kBool, kInt, kFloat, kString, kList, kDict, kReduced };

// A handle; its tree knows what it means. Equal bits are equal values (but equal containers may be several).
struct Value {
  uint64_t bits = 0;
  bool operator==(const Value&) const = default;
};

class ObjectTree {
 public:
  ObjectTree() = default;
  ObjectTree(ObjectTree&&) noexcept = default;
  ObjectTree& operator=(ObjectTree&&) noexcept = default;

  ValueKind kind(Value value) const;

  // Each: none where the value is of another kind.
  std::optional<int64_t> Int(Value value) const;  // also of a truth value
  std::optional<bool> Bool(Value value) const;
  std::optional<double> Number(Value value) const;  // of an int or a float
  std::optional<std::string_view> String(Value value) const;
  std::optional<int64_t> Reduced(Value value) const;  // the reducer's number
  // Items of a list or tuple; keys and values, alternating, of a dict; empty otherwise.
  std::span<const Value> Items(Value container) const;
  // The value of a key of a dict (the last one, if it was set twice); None where there is none.
  Value Find(Value dict, std::string_view key) const;

  // Making values. Lists and dicts start empty and grow.
  static Value None() { return {}; }
  static Value FromBool(bool value);
  Value FromInt(int64_t value);
  Value FromFloat(double value);
  Value FromString(std::string_view text);
  Value NewList();
  Value NewDict();
  Value NewTuple(std::span<const Value> items);  // equal pairs of small values are one
  // REQUIRES: a list or dict of this tree.
  void Append(Value container, std::span<const Value> items);
  // The list or dict is `number` from now on, wherever it is referred to; its items are forgotten.
  void Reduce(Value container, int64_t number);

 private:
  struct Container {
    Value* items = nullptr;
    uint32_t size = 0;
    ValueKind kind = ValueKind::kList;
  };

  Value NewContainer(ValueKind kind);
  // Room for bit_ceil(count) values, reused or new.
  Value* Room(size_t count);
  void GiveBack(Value* room, size_t count);

  std::vector<Container> containers_;
  std::vector<std::string_view> strings_;
  std::unordered_map<std::string_view, uint64_t> string_ids_;
  std::unordered_map<uint64_t, uint64_t> pair_ids_;  // of a hash of the two values; checked against the container
  std::deque<int64_t> big_ints_;
  std::deque<double> floats_;
  std::deque<std::string> texts_;  // what strings_ points into
  std::vector<std::unique_ptr<Value[]>> chunks_;
  size_t chunk_left_ = 0;
  std::array<std::vector<Value*>, 40> free_rooms_;  // by log2 of their size
};

// Shown every dict when its items arrive.
class DictReducer {
 public:
  virtual ~DictReducer() = default;
  // `items`: keys and values, alternating. A number: the dict is replaced by it. None: the dict stays. Lists among the
  // items that nobody needs any longer may be reduced, too.
  virtual std::optional<int64_t> Reduce(ObjectTree& tree, std::span<const Value> items) = 0;
};

// Builds a tree as a pickle does: values go onto a stack, marks are set in it, and what lies above the last mark
// becomes the items of a container. Nothing recurses, whatever the input nests. Calls answer false where the stack
// isn't as they need it; the state is then only good to be thrown away.
class TreeBuilder {
 public:
  explicit TreeBuilder(DictReducer* reducer) : reducer_(reducer) {}

  ObjectTree& tree() { return tree_; }
  void Push(Value value) { stack_.push_back(value); }
  bool Mark();
  // What lies above the last mark becomes a new list, tuple or dict.
  bool ListFromMark();
  bool TupleFromMark();
  bool DictFromMark();
  // The top `count` values become a tuple.
  bool TupleFromTop(size_t count);
  // What lies above the last mark (or the top value; the top two) is appended to the container below.
  bool AppendFromMark();
  bool AppendTop();
  bool SetItemsFromMark();
  bool SetTop();
  // The value on top; none where the stack (above the last mark) is empty.
  std::optional<Value> Top() const;
  // The one value that is left, and no mark.
  std::optional<Value> Finish() const;
  ObjectTree TakeTree() { return std::move(tree_); }

 private:
  std::optional<size_t> TakeMark();
  bool AppendFrom(size_t begin, ValueKind kind);

  ObjectTree tree_;
  DictReducer* reducer_;
  std::vector<Value> stack_;
  std::vector<size_t> marks_;
};

}  // namespace tidemark
