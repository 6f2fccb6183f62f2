// Which operations run as one kernel.
// Source: PyTorch 2.14, torch/_inductor/scheduler.py (fuse_nodes) and choices.py.
#pragma once

#include <string>
#include <vector>

#include "passes/compile/schedule.h"

namespace tidemark::compile {

// Operations that run as one, in their order; a library call is alone.
struct Kernel {
  std::vector<OperationId> operations;
  bool is_extern = false;
  // Row sums and column sums of the same data in one pass: `operations` are those of rows, then those of columns.
  size_t rows = 0;  // how many belong to rows; 0: an ordinary kernel
};

// Kernels in an order in which they could run.
std::vector<Kernel> Fuse(Schedule& schedule);

std::string ToText(const LoweredGraph& graph, const std::vector<Kernel>& kernels);

}  // namespace tidemark::compile
