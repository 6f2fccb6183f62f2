#include "passes/compile/layout.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace tidemark::compile {
namespace {

constexpr int64_t kPaddedAbove = 1024;  // elements
constexpr int64_t kAlignmentBytes = 128;

std::vector<int> ByStride(const Shape& strides) {
  std::vector<int> dims(static_cast<size_t>(strides.size()));
  std::iota(dims.begin(), dims.end(), 0);
  std::ranges::stable_sort(dims, {}, [&](int i) { return strides[i].hint(); });
  return dims;
}

}  // namespace

std::vector<int> StrideOrder(const Shape& strides) {
  const std::vector<int> dims = ByStride(strides);
  std::vector<int> order(dims.size());
  for (size_t i = 0; i < dims.size(); ++i) order[static_cast<size_t>(dims[i])] = static_cast<int>(i);
  return order;
}

Shape FillOrdered(const Shape& sizes, const std::vector<int>& fill) {
  Shape strides = sizes;
  Extent next = 1;
  for (const int i : fill) {
    strides[i] = next;
    next *= sizes[i];
  }
  return strides;
}

Shape StrideOrdered(const Shape& sizes, const std::vector<int>& order) {
  std::vector<int> fill(order.size());
  for (size_t i = 0; i < order.size(); ++i) fill[static_cast<size_t>(order[i])] = static_cast<int>(i);
  return FillOrdered(sizes, fill);
}

bool IsStrideOrdered(const Shape& strides, const Shape& sizes, const std::vector<int>& order) {
  std::vector<std::pair<int, Extent>> kept;
  for (int i = 0; i < sizes.size(); ++i) {
    if (sizes[i].hint() != 1) kept.emplace_back(order[static_cast<size_t>(i)], strides[i]);
  }
  std::ranges::sort(kept, {}, &std::pair<int, Extent>::first);
  for (size_t i = 0; i + 1 < kept.size(); ++i) {
    if (kept[i].second.hint() > kept[i + 1].second.hint()) return false;
  }
  return true;
}

bool SameStrides(const Shape& a, const Shape& b, const Shape& sizes) {
  for (int i = 0; i < sizes.size(); ++i) {
    if (!sizes[i].is(1) && !(a[i] == b[i])) return false;
  }
  return true;
}

std::optional<Shape> StridesOfReshape(const Shape& sizes, const Shape& strides, const Shape& to) {
  const auto hint = ViewStrides(sizes.Hint(), strides.Hint(), to.Hint());
  const auto now = ViewStrides(sizes.Now(), strides.Now(), to.Now());
  if (!hint.has_value() || !now.has_value()) return {};
  return Shape::Zip(*hint, *now);
}

Shape PadStrides(const Shape& strides, const Shape& sizes, DType dtype) {
  if (strides.empty()) return strides;
  const int64_t align = kAlignmentBytes / SizeOf(dtype).count();
  const std::vector<int> fill = ByStride(strides);
  Shape padded = strides;
  bool any = false;
  padded[fill[0]] = 1;
  for (size_t rank = 1; rank < fill.size(); ++rank) {
    const Extent stride = padded[fill[rank - 1]] * sizes[fill[rank - 1]];
    padded[fill[rank]] = stride;
    if (stride.hint() <= kPaddedAbove || stride.hint() % align == 0) continue;
    padded[fill[rank]] = (stride + align - 1) / align * align;
    any = true;
  }
  return any ? padded : strides;
}

std::vector<int> PickLoopOrder(const std::vector<std::vector<int64_t>>& strides, const Shape& sizes) {
  const auto before = [&](int a, int b) {
    const bool a_is_one = sizes[a].hint() == 1;
    const bool b_is_one = sizes[b].hint() == 1;
    if (a_is_one || b_is_one) return a_is_one < b_is_one;
    int a_first = 0;
    int b_first = 0;
    for (const auto& of_access : strides) {
      const int64_t sa = std::abs(of_access[static_cast<size_t>(a)]);
      const int64_t sb = std::abs(of_access[static_cast<size_t>(b)]);
      if (sb == 0 || sa < sb) ++a_first;
      if (sa == 0 || sb < sa) ++b_first;
    }
    if (a_first != b_first) return a_first > b_first;
    return b < a;
  };
  std::vector<int> order(static_cast<size_t>(sizes.size()));
  std::iota(order.rbegin(), order.rend(), 0);
  // A sort by insertion, as Python's is for few elements: the comparison need not be transitive.
  for (size_t i = 1; i < order.size(); ++i) {
    for (size_t j = i; j > 0 && before(order[j], order[j - 1]); --j) std::swap(order[j], order[j - 1]);
  }
  return order;
}

}  // namespace tidemark::compile
