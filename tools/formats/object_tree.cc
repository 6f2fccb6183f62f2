#include "tools/formats/object_tree.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace tidemark {
namespace {

// A value's low bits say what the others are.
enum Tag : uint64_t { kNoneTag, kBoolTag, kIntTag, kBigIntTag, kFloatTag, kStringTag, kContainerTag };
constexpr int kTagBits = 3;
constexpr size_t kChunkValues = size_t{1} << 16;
constexpr size_t kMaxMarks = 1'000'000;

constexpr uint64_t TagOf(Value value) { return value.bits & ((1U << kTagBits) - 1); }
constexpr uint64_t PayloadOf(Value value) { return value.bits >> kTagBits; }
constexpr Value Make(Tag tag, uint64_t payload) { return {payload << kTagBits | tag}; }

constexpr int64_t kSmallIntMax = int64_t{1} << 59;

uint64_t PairHash(Value first, Value second) {
  return (first.bits * 0x9e3779b97f4a7c15) ^ std::rotl(second.bits * 0xc2b2ae3d27d4eb4f, 31);
}

}  // namespace

ValueKind ObjectTree::kind(Value value) const {
  switch (TagOf(value)) {
    case kBoolTag:
      return ValueKind::kBool;
    case kIntTag:
    case kBigIntTag:
      return ValueKind::kInt;
    case kFloatTag:
      return ValueKind::kFloat;
    case kStringTag:
      return ValueKind::kString;
    case kContainerTag:
      return containers_[PayloadOf(value)].kind;
    default:
      return ValueKind::kNone;
  }
}

std::optional<int64_t> ObjectTree::Int(Value value) const {
  if (TagOf(value) == kIntTag) return static_cast<int64_t>(value.bits) >> kTagBits;
  if (TagOf(value) == kBigIntTag) return big_ints_[PayloadOf(value)];
  if (TagOf(value) == kBoolTag) return static_cast<int64_t>(PayloadOf(value));
  return std::nullopt;
}

std::optional<bool> ObjectTree::Bool(Value value) const {
  if (TagOf(value) != kBoolTag) return std::nullopt;
  return PayloadOf(value) != 0;
}

std::optional<double> ObjectTree::Number(Value value) const {
  if (TagOf(value) == kFloatTag) return floats_[PayloadOf(value)];
  const std::optional<int64_t> whole = Int(value);
  return whole ? std::optional(static_cast<double>(*whole)) : std::nullopt;
}

std::optional<std::string_view> ObjectTree::String(Value value) const {
  if (TagOf(value) != kStringTag) return std::nullopt;
  return strings_[PayloadOf(value)];
}

std::optional<int64_t> ObjectTree::Reduced(Value value) const {
  if (kind(value) != ValueKind::kReduced) return std::nullopt;
  return std::bit_cast<int64_t>(containers_[PayloadOf(value)].items);
}

std::span<const Value> ObjectTree::Items(Value container) const {
  const ValueKind what = kind(container);
  if (what != ValueKind::kList && what != ValueKind::kDict) return {};
  const Container& found = containers_[PayloadOf(container)];
  return {found.items, found.size};
}

Value ObjectTree::Find(Value dict, std::string_view key) const {
  if (kind(dict) != ValueKind::kDict) return None();
  const std::span<const Value> items = Items(dict);
  for (size_t i = items.size(); i >= 2; i -= 2) {
    if (String(items[i - 2]) == key) return items[i - 1];
  }
  return None();
}

Value ObjectTree::FromBool(bool value) { return Make(kBoolTag, value ? 1 : 0); }

Value ObjectTree::FromInt(int64_t value) {
  if (value >= -kSmallIntMax && value < kSmallIntMax) return Make(kIntTag, static_cast<uint64_t>(value));
  big_ints_.push_back(value);
  return Make(kBigIntTag, big_ints_.size() - 1);
}

Value ObjectTree::FromFloat(double value) {
  floats_.push_back(value);
  return Make(kFloatTag, floats_.size() - 1);
}

Value ObjectTree::FromString(std::string_view text) {
  const auto known = string_ids_.find(text);
  if (known != string_ids_.end()) return Make(kStringTag, known->second);
  texts_.emplace_back(text);
  strings_.emplace_back(texts_.back());
  string_ids_.emplace(strings_.back(), strings_.size() - 1);
  return Make(kStringTag, strings_.size() - 1);
}

Value ObjectTree::NewContainer(ValueKind kind) {
  containers_.push_back({nullptr, 0, kind});
  return Make(kContainerTag, containers_.size() - 1);
}

Value ObjectTree::NewList() { return NewContainer(ValueKind::kList); }
Value ObjectTree::NewDict() { return NewContainer(ValueKind::kDict); }

Value ObjectTree::NewTuple(std::span<const Value> items) {
  // Tuples can't change, so one may stand for all that are equal. Pool ids are pairs, one per trace entry.
  const bool pair = items.size() == 2;
  const uint64_t hash = pair ? PairHash(items[0], items[1]) : 0;
  if (pair) {
    const auto known = pair_ids_.find(hash);
    if (known != pair_ids_.end()) {
      const Value tuple = Make(kContainerTag, known->second);
      if (std::ranges::equal(Items(tuple), items)) return tuple;
    }
  }
  const Value tuple = NewList();
  Append(tuple, items);
  if (pair) pair_ids_.try_emplace(hash, PayloadOf(tuple));
  return tuple;
}

void ObjectTree::Append(Value container, std::span<const Value> items) {
  if (items.empty()) return;
  Container& to = containers_[PayloadOf(container)];
  const size_t size = to.size + items.size();
  const size_t room = to.size == 0 ? 0 : std::bit_ceil(size_t{to.size});
  if (size > room) {
    Value* moved = Room(size);
    std::copy_n(to.items, to.size, moved);
    if (room != 0) GiveBack(to.items, room);
    to.items = moved;
  }
  std::ranges::copy(items, to.items + to.size);
  to.size = static_cast<uint32_t>(size);
}

void ObjectTree::Reduce(Value list_or_dict, int64_t number) {
  Container& container = containers_[PayloadOf(list_or_dict)];
  if (container.size != 0) GiveBack(container.items, std::bit_ceil(size_t{container.size}));
  container = {std::bit_cast<Value*>(number), 0, ValueKind::kReduced};
}

Value* ObjectTree::Room(size_t count) {
  const size_t size = std::bit_ceil(count);
  std::vector<Value*>& reusable = free_rooms_[static_cast<size_t>(std::countr_zero(size))];
  if (!reusable.empty()) {
    Value* room = reusable.back();
    reusable.pop_back();
    return room;
  }
  if (size > kChunkValues / 4) {  // a chunk of its own, kept before the current one
    chunks_.push_back(std::make_unique<Value[]>(size));
    Value* room = chunks_.back().get();
    if (chunks_.size() > 1) std::swap(chunks_.back(), chunks_[chunks_.size() - 2]);
    if (chunks_.size() == 1) chunk_left_ = 0;
    return room;
  }
  if (size > chunk_left_) {
    chunks_.push_back(std::make_unique<Value[]>(kChunkValues));
    chunk_left_ = kChunkValues;
  }
  Value* room = chunks_.back().get() + (kChunkValues - chunk_left_);
  chunk_left_ -= size;
  return room;
}

void ObjectTree::GiveBack(Value* room, size_t count) {
  free_rooms_[static_cast<size_t>(std::countr_zero(count))].push_back(room);
}

bool TreeBuilder::Mark() {
  marks_.push_back(stack_.size());
  return marks_.size() <= kMaxMarks;
}

std::optional<size_t> TreeBuilder::TakeMark() {
  if (marks_.empty()) return std::nullopt;
  const size_t mark = marks_.back();
  marks_.pop_back();
  return mark;
}

std::optional<Value> TreeBuilder::Top() const {
  const size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() <= floor) return std::nullopt;
  return stack_.back();
}

std::optional<Value> TreeBuilder::Finish() const {
  if (stack_.size() != 1 || !marks_.empty()) return std::nullopt;
  return stack_.back();
}

bool TreeBuilder::ListFromMark() {
  const std::optional<size_t> mark = TakeMark();
  if (!mark) return false;
  const Value list = tree_.NewList();
  tree_.Append(list, std::span(stack_).subspan(*mark));
  stack_.resize(*mark);
  Push(list);
  return true;
}

bool TreeBuilder::TupleFromMark() {
  const std::optional<size_t> mark = TakeMark();
  return mark && TupleFromTop(stack_.size() - *mark);
}

bool TreeBuilder::TupleFromTop(size_t count) {
  const size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() < floor + count) return false;
  const Value tuple = tree_.NewTuple(std::span(stack_).last(count));
  stack_.resize(stack_.size() - count);
  Push(tuple);
  return true;
}

bool TreeBuilder::DictFromMark() {
  const std::optional<size_t> mark = TakeMark();
  if (!mark) return false;
  stack_.insert(stack_.begin() + static_cast<std::ptrdiff_t>(*mark), tree_.NewDict());
  return AppendFrom(*mark + 1, ValueKind::kDict);
}

bool TreeBuilder::AppendFromMark() {
  const std::optional<size_t> mark = TakeMark();
  return mark && AppendFrom(*mark, ValueKind::kList);
}

bool TreeBuilder::AppendTop() { return !stack_.empty() && AppendFrom(stack_.size() - 1, ValueKind::kList); }

bool TreeBuilder::SetItemsFromMark() {
  const std::optional<size_t> mark = TakeMark();
  return mark && AppendFrom(*mark, ValueKind::kDict);
}

bool TreeBuilder::SetTop() { return stack_.size() >= 2 && AppendFrom(stack_.size() - 2, ValueKind::kDict); }

bool TreeBuilder::AppendFrom(size_t begin, ValueKind kind) {
  const size_t floor = marks_.empty() ? 0 : marks_.back();
  if (begin <= floor || tree_.kind(stack_[begin - 1]) != kind) return false;
  const Value container = stack_[begin - 1];
  const std::span<const Value> items = std::span(stack_).subspan(begin);
  if (kind == ValueKind::kDict && items.size() % 2 != 0) return false;
  std::optional<int64_t> reduced;
  if (kind == ValueKind::kDict && reducer_ != nullptr && tree_.Items(container).empty()) {
    reduced = reducer_->Reduce(tree_, items);
  }
  if (reduced) {
    tree_.Reduce(container, *reduced);
  } else {
    tree_.Append(container, items);
  }
  stack_.resize(begin);
  return true;
}

}  // namespace tidemark
