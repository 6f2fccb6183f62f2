// What a kernel's first launch allocates beside its results: the kernel is timed in each of its configurations, on
// copies of what it changes in place, with a buffer between launches that flushes the device's second-level cache.
//
//   for each configuration: copies (a launch to warm up), flush buffer, copies again for every timed launch
//
// How many launches are timed depends on times. One is as good as all: each frees its copies before the next makes the
// same, so that the allocator's state after one is the state after a hundred.
// Source: PyTorch 2.14, torch/_inductor/runtime/{triton_heuristics,benchmarking}.py and heuristics/triton_codegen.
#pragma once

#include <vector>

#include "passes/compile/plan.h"

namespace tidemark::compile {

struct KernelTuning {
  int configurations = 1;          // one: nothing is timed
  size_t first = 0;                // the first kernel of the graph with the same code: it alone is tuned
  std::vector<BufferId> modified;  // what it changes in place and is copied, by the names it has afterwards
};

// By kernel of the plan. O(kernels · size of a kernel).
std::vector<KernelTuning> DescribeTuning(const LoweredGraph& graph, const Schedule& schedule, const Plan& plan);

}  // namespace tidemark::compile
