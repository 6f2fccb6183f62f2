// The order of kernels: of a few, the one with the lowest estimated peak of memory.
// Source: PyTorch 2.14, torch/_inductor/memory.py.
#pragma once

#include <cstdint>
#include <vector>

#include "passes/compile/fuse.h"

namespace tidemark::compile {

// What a schedule of kernels is estimated to need; buffers without padding, inputs that someone else holds left out.
struct MemoryEstimate {
  int64_t peak = 0;
  std::vector<int64_t> at;  // by kernel, and after the last
};

// `kernels` reordered, and the estimate for that order.
std::vector<Kernel> OrderForMemory(const Schedule& schedule, std::vector<Kernel> kernels, MemoryEstimate* estimate);

}  // namespace tidemark::compile
