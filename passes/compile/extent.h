// A size in a compiled graph: at the length for which the graph was compiled and at the length of the call that is
// simulated. Decisions (thresholds, orders) use the first, allocations the second. Two extents are equal if both
// numbers are: that is how a symbolic compiler compares sizes, which must not take B = T for granted because both
// are 8.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>

#include "graph/base/check.h"
#include "graph/shape.h"

namespace tidemark::compile {

class Extent {
 public:
  constexpr Extent() = default;
  constexpr Extent(int64_t both) : hint_(both), now_(both) {}  // NOLINT(google-explicit-constructor): a plain number
  constexpr Extent(int64_t hint, int64_t now) : hint_(hint), now_(now) {}
  constexpr int64_t hint() const { return hint_; }
  constexpr int64_t now() const { return now_; }
  constexpr bool is(int64_t number) const { return hint_ == number && now_ == number; }
  constexpr bool operator==(const Extent&) const = default;
  constexpr auto operator<=>(const Extent&) const = default;
  constexpr Extent operator+(Extent b) const { return {hint_ + b.hint_, now_ + b.now_}; }
  constexpr Extent operator-(Extent b) const { return {hint_ - b.hint_, now_ - b.now_}; }
  constexpr Extent operator*(Extent b) const { return {hint_ * b.hint_, now_ * b.now_}; }
  constexpr Extent operator/(Extent b) const { return {hint_ / b.hint_, now_ / b.now_}; }  // rounded down
  constexpr Extent operator%(Extent b) const { return {hint_ % b.hint_, now_ % b.now_}; }
  constexpr Extent& operator+=(Extent b) { return *this = *this + b; }
  constexpr Extent& operator*=(Extent b) { return *this = *this * b; }
  constexpr bool DivisibleBy(Extent b) const { return hint_ % b.hint_ == 0 && now_ % b.now_ == 0; }

 private:
  int64_t hint_ = 0;
  int64_t now_ = 0;
};

// Up to kMax extents: sizes or strides.
class Shape {
 public:
  static constexpr int kMax = Dims::kMaxDims;
  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<Extent> values) {
    for (const Extent v : values) Append(v);
  }
  static Shape Zip(const Dims& hint, const Dims& now) {
    CHECK(hint.size() == now.size());
    Shape s;
    for (int i = 0; i < hint.size(); ++i) s.Append({hint[i], now[i]});
    return s;
  }
  constexpr int size() const { return count_; }
  constexpr bool empty() const { return count_ == 0; }
  constexpr Extent& operator[](int i) { return values_[static_cast<size_t>(i)]; }
  constexpr const Extent& operator[](int i) const { return values_[static_cast<size_t>(i)]; }
  constexpr const Extent* begin() const { return values_.data(); }
  constexpr const Extent* end() const { return values_.data() + count_; }
  constexpr const Extent& back() const { return values_[static_cast<size_t>(count_ - 1)]; }
  // REQUIRES: size() < kMax.
  constexpr void Append(Extent v) { values_[static_cast<uint8_t>(count_++)] = v; }
  constexpr bool operator==(const Shape& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }
  Dims Hint() const {
    Dims d;
    for (const Extent e : *this) d.Append(e.hint());
    return d;
  }
  Dims Now() const {
    Dims d;
    for (const Extent e : *this) d.Append(e.now());
    return d;
  }

 private:
  std::array<Extent, kMax> values_{};
  int8_t count_ = 0;
};

inline Extent Product(const Shape& s) {
  Extent p = 1;
  for (const Extent e : s) p *= e;
  return p;
}

inline Shape Contiguous(const Shape& sizes) {
  return Shape::Zip(ContiguousStrides(sizes.Hint()), ContiguousStrides(sizes.Now()));
}

}  // namespace tidemark::compile
