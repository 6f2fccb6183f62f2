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

// Copies that a kernel wants before it is timed in a configuration.
struct WantedCopies {
  size_t step = 0;  // of the graph's program: it comes next
  std::vector<Bytes> bytes;
  std::vector<bool> fit;  // those that were made on the device
};
// Those that fit into `room`, the highest sum of allocated bytes so far less what is allocated now; in order, each that
// fits beside the ones before. By copy.
std::vector<bool> CopiesThatFit(const std::vector<Bytes>& wanted, Bytes room);

// What the tuning of a run reads and leaves. The room at each decision is the tracer's (blocks rounded up, without what
// library calls hold inside) unless `rooms` has the allocator's: whoever replays the run can give it.
struct Tuning {
  TuningCache cache;
  std::vector<Bytes> rooms;           // by decision
  std::vector<WantedCopies> decided;  // in order
};

// O(kernels · size of a kernel).
GraphTuning DescribeTuning(const LoweredGraph& graph, const Schedule& schedule, const Plan& plan, bool is_forward);

}  // namespace tidemark::compile
