// What a kernel's first launch allocates beside its results: the kernel is timed in each of its configurations, on
// copies of what it changes in place, with a buffer between launches that flushes the device's second-level cache.
//
//   for each configuration: copies (a launch to warm up), flush buffer, copies again for every timed launch
//
// How many launches are timed depends on times. One is as good as all: each frees its copies before the next makes the
// same, so that the allocator's state after one is the state after a hundred.
// Source: PyTorch 2.14, torch/_inductor/runtime/{triton_heuristics,benchmarking}.py and heuristics/triton_codegen.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "passes/compile/plan.h"

namespace tidemark::compile {

struct KernelTuning {
  int configurations = 1;  // one: nothing is timed
  std::string source;      // what the kernel is known by: its name, its number among the graph's kernels, its code
  std::vector<BufferId> modified;  // what it changes in place and is copied, by the names it has afterwards
};

struct GraphTuning {
  std::vector<KernelTuning> kernels;  // by kernel of the plan; empty: the run isn't a first one
  // Copies that would raise the highest sum of allocated bytes are made on the host: in all graphs but forward ones.
  bool spares_peak = true;
};

// Kernels that have been tuned, by source: Inductor's compile cache. It serves all graphs of a run, and runs one after
// another that share it.
using TuningCache = std::unordered_set<std::string>;

// O(kernels · size of a kernel).
GraphTuning DescribeTuning(const LoweredGraph& graph, const Schedule& schedule, const Plan& plan, bool is_forward);

}  // namespace tidemark::compile
