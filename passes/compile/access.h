// What an operation reads or writes: a buffer, and which elements in which order.
// Source: PyTorch 2.14, torch/_inductor/dependencies.py (MemoryDep, StarDep).
#pragma once

#include <optional>
#include <vector>

#include "passes/compile/loops.h"

namespace tidemark::compile {

struct Access {
  BufferId buffer;
  bool is_whole = false;   // a library call's, or an ordering only: no index
  bool is_atomic = false;  // added to, by many threads
  bool is_opaque = false;
  Index index;                // over the loops: variable i is loop i
  std::vector<Extent> sizes;  // of the loops, without trailing ones that the index doesn't use
  bool operator==(const Access&) const = default;

  size_t loops() const { return sizes.size(); }
  bool IsIndirect() const { return index.IsIndirect(); }
};

// Neighbouring loops that run through one range of memory become one.
Access Normalized(const Access& access);
// The same after sorting the loops by stride: equal for accesses that differ in the order of loops only.
Access NormalizedByStride(const Access& access);
// The loops of `access` in the order that makes it run through memory as `other` does; none where that can't be said.
std::optional<std::vector<int>> OrderToMatch(const Access& access, const Access& other);

// Elements touched, as the scheduler counts them: loops that the index uses; a looked-up buffer counts in full.
Extent ElementsOf(const Access& access, const LoweredGraph& graph);
int64_t HintBytesOf(const Access& access, const LoweredGraph& graph);

}  // namespace tidemark::compile
