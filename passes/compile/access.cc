#include "passes/compile/access.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace tidemark::compile {
namespace {

bool OccursWhole(const Index& index, int variable) {
  return std::ranges::all_of(
      index.terms(), [&](const Term& t) { return t.variable != variable || (t.divisor.is(1) && t.modulus.is(0)); });
}

// Loop order[i] of the access as loop i.
Access Reordered(const Access& access, const std::vector<int>& order) {
  Access result = access;
  std::vector<Index> map(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    map[static_cast<size_t>(order[i])] = Index::Variable(static_cast<int>(i));
    result.sizes[i] = access.sizes[static_cast<size_t>(order[i])];
  }
  result.index = access.index.Substitute(map, result.sizes);
  return result;
}

void DropUnusedLoops(Access& access) {
  while (!access.sizes.empty() && !access.index.Uses(static_cast<int>(access.sizes.size()) - 1))
    access.sizes.pop_back();
}

Access MergeLoops(const Access& access) {
  // From the innermost pair outwards.
  const int n = static_cast<int>(access.sizes.size());
  std::vector<Extent> sizes = access.sizes;
  std::vector<int> merged_into(static_cast<size_t>(n));
  std::iota(merged_into.begin(), merged_into.end(), 0);
  for (int inner = n - 1; inner > 0;) {
    int outer = inner - 1;
    while (outer >= 0) {
      const bool whole = !access.is_opaque && OccursWhole(access.index, inner) && OccursWhole(access.index, outer);
      const Extent stride = access.index.StrideOf(inner);
      const bool one_run = access.index.StrideOf(outer) == stride * sizes[static_cast<size_t>(inner)];
      if (!whole || !one_run) break;
      sizes[static_cast<size_t>(inner)] *= sizes[static_cast<size_t>(outer)];
      merged_into[static_cast<size_t>(outer)] = inner;
      --outer;
    }
    inner = outer;
  }
  Access result = access;
  result.sizes.clear();
  std::vector<Index> map(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) {
    if (merged_into[static_cast<size_t>(i)] != i) continue;  // its stride is in the inner loop's
    map[static_cast<size_t>(i)] = Index::Variable(static_cast<int>(result.sizes.size()));
    result.sizes.push_back(sizes[static_cast<size_t>(i)]);
  }
  result.index = access.index.Substitute(map, result.sizes);
  return result;
}

bool HasSymbols(const Index& index) {
  const auto symbolic = [](Extent e) { return e.hint() != e.now(); };
  return symbolic(index.offset()) || std::ranges::any_of(index.terms(), [&](const Term& t) {
           return symbolic(t.coefficient) || symbolic(t.divisor) || symbolic(t.modulus);
         });
}

}  // namespace

Access Normalized(const Access& access) {
  if (access.is_whole) return access;
  Access result = MergeLoops(access);
  DropUnusedLoops(result);
  return result;
}

Access NormalizedByStride(const Access& access) {
  if (access.is_whole) return access;
  std::vector<int> order(access.sizes.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater<>(), [&](int i) { return access.index.StrideOf(i).hint(); });
  Access result = MergeLoops(Reordered(access, order));
  result.is_atomic = false;
  return result;
}

std::optional<std::vector<int>> OrderToMatch(const Access& access, const Access& other) {
  const auto strides_of = [](const Access& a) -> std::optional<std::vector<int64_t>> {
    if (HasSymbols(a.index) || a.IsIndirect()) return {};
    std::vector<int64_t> strides;
    for (size_t i = 0; i < a.loops(); ++i) {
      const int variable = static_cast<int>(i);
      if (!a.index.Uses(variable) || a.sizes[i].hint() <= 1) return {};
      strides.push_back(a.index.StrideOf(variable).hint());
    }
    if (std::set<int64_t>(strides.begin(), strides.end()).size() != strides.size()) return {};
    return strides;
  };
  const auto mine = strides_of(access);
  const auto theirs = strides_of(other);
  if (!mine.has_value() || !theirs.has_value()) return {};
  std::vector<int> order;
  for (const int64_t stride : *theirs) {
    const auto at = std::ranges::find(*mine, stride);
    if (at == mine->end()) return {};
    order.push_back(static_cast<int>(at - mine->begin()));
  }
  return order;
}

Extent ElementsOf(const Access& access, const LoweredGraph& graph) {
  if (access.is_whole || access.IsIndirect()) return Product(graph.buffers[access.buffer].sizes);
  Extent elements = 1;
  for (size_t i = 0; i < access.loops(); ++i) {
    if (access.index.Uses(static_cast<int>(i))) elements *= access.sizes[i];
  }
  return elements;
}

int64_t HintBytesOf(const Access& access, const LoweredGraph& graph) {
  if (access.is_whole && graph.buffers[access.buffer].kind == Buffer::Kind::kTuple) return 0;
  return (SizeOf(graph.buffers[access.buffer].dtype) * ElementsOf(access, graph).hint()).count();
}

}  // namespace tidemark::compile
