// Typed indices and the columns that they index. An OpId can't be passed for a TensorId, and a column of tensors can't
// be indexed by an op.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace tidemark {

// An index into the column of its kind; default: none.
template <typename Tag>
class Id {
 public:
  constexpr Id() = default;
  constexpr explicit Id(size_t index) : index_(static_cast<uint32_t>(index)) {}
  constexpr bool valid() const { return index_ != kNone; }
  constexpr uint32_t index() const { return index_; }
  constexpr auto operator<=>(const Id&) const = default;

 private:
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  uint32_t index_ = kNone;
};

// A vector indexed by Id.
template <typename IdType, typename T>
class Column {
 public:
  IdType Add(T value) {
    items_.push_back(std::move(value));
    return IdType(items_.size() - 1);
  }
  T& operator[](IdType id) { return items_[id.index()]; }
  const T& operator[](IdType id) const { return items_[id.index()]; }
  size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  void reserve(size_t n) { items_.reserve(n); }
  void resize(size_t n) { items_.resize(n); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }
  auto begin() { return items_.begin(); }
  auto end() { return items_.end(); }
  bool operator==(const Column&) const = default;

 private:
  std::vector<T> items_;
};

}  // namespace tidemark
