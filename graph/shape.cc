#include "graph/shape.h"

#include <algorithm>
#include <utility>

namespace tidemark {
namespace {

// Dimensions from the innermost (smallest stride) outwards.
Dims InnermostFirst(const Dims& sizes, std::span<const Dims> strides) {
  const int n = sizes.size();
  Dims order;
  for (int i = n - 1; i >= 0; --i) order.Append(i);
  // > 0: the first dimension lies outside the second; 0: no operand has an opinion. A stride of 0 (broadcast) has none.
  const auto compare = [&](int64_t a, int64_t b) {
    for (const Dims& s : strides) {
      const int64_t sa = s[static_cast<int>(a)];
      const int64_t sb = s[static_cast<int>(b)];
      if (sa == 0 || sb == 0) continue;
      if (sa != sb) return sa < sb ? -1 : 1;
      if (sizes[static_cast<int>(a)] > sizes[static_cast<int>(b)]) return 1;
    }
    return 0;
  };
  for (int i = 1; i < n; ++i) {
    int moving = i;
    for (int j = i - 1; j >= 0; --j) {
      const int c = compare(order[j], order[moving]);
      if (c > 0) {
        std::swap(order[j], order[moving]);
        moving = j;
      } else if (c < 0) {
        break;
      }
    }
  }
  return order;
}

Dims DenseInOrder(const Dims& sizes, const Dims& innermost_first) {
  Dims strides = sizes;
  int64_t stride = 1;
  for (const int64_t d : innermost_first) {
    strides[static_cast<int>(d)] = stride;
    stride *= std::max<int64_t>(1, sizes[static_cast<int>(d)]);
  }
  return strides;
}

Dims BroadcastStrides(const Layout& operand, const Dims& sizes) {
  Dims strides = sizes;
  const int offset = sizes.size() - operand.sizes.size();
  for (int i = 0; i < sizes.size(); ++i) {
    const bool broadcast = i < offset || (operand.sizes[i - offset] == 1 && sizes[i] != 1);
    strides[i] = broadcast ? 0 : operand.strides[i - offset];
  }
  return strides;
}

}  // namespace

int64_t NumElements(const Dims& sizes) {
  int64_t n = 1;
  for (const int64_t s : sizes) n *= s;
  return n;
}

Dims ContiguousStrides(const Dims& sizes) {
  Dims strides = sizes;
  int64_t stride = 1;
  for (int i = sizes.size() - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= std::max<int64_t>(1, sizes[i]);
  }
  return strides;
}

bool IsContiguous(const Dims& sizes, const Dims& strides) {
  int64_t expected = 1;
  for (int i = sizes.size() - 1; i >= 0; --i) {
    if (sizes[i] == 1) continue;
    if (strides[i] != expected) return false;
    expected *= sizes[i];
  }
  return true;
}

bool IsDense(const Dims& sizes, const Dims& strides) {
  if (IsContiguous(sizes, strides)) return true;
  // Dimensions by stride, the innermost first.
  Dims order;
  for (int i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 1) continue;
    int at = order.size();
    order.Append(i);
    for (; at > 0 && strides[static_cast<int>(order[at - 1])] > strides[i]; --at) order[at] = order[at - 1];
    order[at] = i;
  }
  int64_t expected = 1;
  for (const int64_t d : order) {
    if (strides[static_cast<int>(d)] != expected) return false;
    expected *= sizes[static_cast<int>(d)];
  }
  return true;
}

Dims DenseStridesLike(const Dims& sizes, const Dims& strides) {
  return DenseInOrder(sizes, InnermostFirst(sizes, std::span(&strides, 1)));
}

std::optional<Dims> ViewStrides(const Dims& sizes, const Dims& strides, const Dims& to) {
  if (NumElements(sizes) == 0 || sizes.empty()) return ContiguousStrides(to);
  Dims result = to;
  int view = to.size() - 1;
  int64_t chunk_stride = strides[sizes.size() - 1];
  int64_t chunk = 1;
  int64_t viewed = 1;
  for (int d = sizes.size() - 1; d >= 0; --d) {
    chunk *= sizes[d];
    const bool chunk_ends = d == 0 || (sizes[d - 1] != 1 && strides[d - 1] != chunk * chunk_stride);
    if (!chunk_ends) continue;
    while (view >= 0 && (viewed < chunk || to[view] == 1)) {
      result[view] = viewed * chunk_stride;
      viewed *= to[view--];
    }
    if (viewed != chunk) return std::nullopt;
    if (d > 0) {
      chunk_stride = strides[d - 1];
      chunk = 1;
      viewed = 1;
    }
  }
  if (view != -1) return std::nullopt;
  return result;
}

Layout ElementwiseLayout(std::span<const Layout> operands) {
  const Layout& first = operands[0];
  bool same = true;
  bool contiguous = true;
  for (const Layout& o : operands) {
    if (!(o.sizes == first.sizes)) {
      same = contiguous = false;
      break;
    }
    same = same && o.strides == first.strides;
    contiguous = contiguous && IsContiguous(o.sizes, o.strides);
  }
  if (contiguous) return {first.sizes, ContiguousStrides(first.sizes)};
  if (same && IsDense(first.sizes, first.strides)) return first;

  Dims sizes;
  int n = 0;
  for (const Layout& o : operands) n = std::max(n, o.sizes.size());
  for (int i = 0; i < n; ++i) {
    int64_t size = 1;
    for (const Layout& o : operands) {
      const int at = i - (n - o.sizes.size());
      if (at >= 0 && o.sizes[at] != 1) size = o.sizes[at];
    }
    sizes.Append(size);
  }
  std::array<Dims, 4> strides;
  for (size_t k = 0; k < operands.size(); ++k) strides[k] = BroadcastStrides(operands[k], sizes);
  return {sizes, DenseInOrder(sizes, InnermostFirst(sizes, std::span(strides.data(), operands.size())))};
}

}  // namespace tidemark
