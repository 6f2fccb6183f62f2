// Sizes and strides of tensors, with PyTorch's rules for views and for the layout of results.
// Sources: PyTorch 2.14, aten/src/ATen/TensorUtils.cpp (computeStride), ExpandUtils.cpp (infer_dense_strides) and
// TensorIterator.cpp (reorder_dimensions).
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>

namespace tidemark {

// Up to kMaxDims numbers, one a dimension: sizes, strides, or a permutation.
class Dims {
 public:
  static constexpr int kMaxDims = 6;

  constexpr Dims() = default;
  constexpr Dims(std::initializer_list<int64_t> values) {
    for (const int64_t v : values) Append(v);
  }
  constexpr int size() const { return count_; }
  constexpr bool empty() const { return count_ == 0; }
  constexpr int64_t& operator[](int i) { return values_[static_cast<size_t>(i)]; }
  constexpr int64_t operator[](int i) const { return values_[static_cast<size_t>(i)]; }
  constexpr const int64_t* begin() const { return values_.data(); }
  constexpr const int64_t* end() const { return values_.data() + count_; }
  constexpr int64_t back() const { return values_[static_cast<size_t>(count_ - 1)]; }
  // REQUIRES: size() < kMaxDims.
  constexpr void Append(int64_t v) { values_[static_cast<uint8_t>(count_++)] = v; }
  constexpr bool operator==(const Dims& other) const {
    if (count_ != other.count_) return false;
    for (int i = 0; i < count_; ++i) {
      if ((*this)[i] != other[i]) return false;
    }
    return true;
  }

 private:
  std::array<int64_t, kMaxDims> values_{};
  int8_t count_ = 0;
};

// Product of the sizes; 1 for a 0-dim tensor.
int64_t NumElements(const Dims& sizes);

// Row-major strides.
Dims ContiguousStrides(const Dims& sizes);
bool IsContiguous(const Dims& sizes, const Dims& strides);
// Whether the elements fill a range of memory, each place once, in some order of dimensions.
bool IsDense(const Dims& sizes, const Dims& strides);

// Strides of a dense tensor whose dimensions are ordered as those of `strides`: what `.to()` and `clone()` give where
// the source isn't dense.
Dims DenseStridesLike(const Dims& sizes, const Dims& strides);

// Strides of a view of shape `to`, or none where only a copy can have that shape.
// REQUIRES: both have the same number of elements.
std::optional<Dims> ViewStrides(const Dims& sizes, const Dims& strides, const Dims& to);

struct Layout {
  Dims sizes;
  Dims strides;
};

// The layout of an elementwise operator's result: sizes broadcast, dimensions in the order of the operands'
// (the first that has an opinion decides).
Layout ElementwiseLayout(std::span<const Layout> operands);

}  // namespace tidemark
