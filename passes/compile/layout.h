// Strides: orders of dimensions, and padding.
// Source: PyTorch 2.14, torch/_inductor/ir.py (Layout, FlexibleLayout) and scheduler.py (pick_loop_order).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "graph/dtype.h"
#include "passes/compile/extent.h"

namespace tidemark::compile {

// Rank of each dimension by stride, 0 the smallest.
std::vector<int> StrideOrder(const Shape& strides);
// Dense strides whose order is `order`, or filled dimension by dimension in the order `fill`.
Shape StrideOrdered(const Shape& sizes, const std::vector<int>& order);
Shape FillOrdered(const Shape& sizes, const std::vector<int>& fill);
// Dimensions of size 1 have no say in these two.
bool IsStrideOrdered(const Shape& strides, const Shape& sizes, const std::vector<int>& order);
bool SameStrides(const Shape& a, const Shape& b, const Shape& sizes);

// Strides of a reshape that needs no copy; none where it does.
std::optional<Shape> StridesOfReshape(const Shape& sizes, const Shape& strides, const Shape& to);

// Strides of more than 1024 elements become multiples of 128 bytes.
Shape PadStrides(const Shape& strides, const Shape& sizes, DType dtype);

// Dimensions from the innermost loop on, as the accesses' strides (one list an access, at the hint) want them.
std::vector<int> PickLoopOrder(const std::vector<std::vector<int64_t>>& strides, const Shape& sizes);

}  // namespace tidemark::compile
