// The generated code's lines: where each buffer is allocated, takes over another one's memory, and is deleted.
// Source: PyTorch 2.14, torch/_inductor/codegen/wrapper.py (memory planning by reuse) and scheduler.py
// (decide_inplace_update).
#pragma once

#include <string>
#include <vector>

#include "passes/compile/order.h"

namespace tidemark::compile {

struct Line {
  enum class Kind : uint8_t {
    kAllocate,
    kTakeOver,           // `buffer` is `from`'s memory from here on
    kLaunch,             // of kernel `kernel`
    kDelete,             // the name `buffer` goes; inputs, too
    kWorkspaceAllocate,  // of a mixed kernel: for its column sums
    kColumnSum,          // of a mixed kernel: `buffer` from the workspace, eagerly
    kWorkspaceDelete,
  };
  Kind kind = Kind::kLaunch;
  BufferId buffer;
  BufferId from;
  size_t kernel = 0;
};

struct Plan {
  std::vector<Kernel> kernels;
  std::vector<Line> lines;
};

// `donated`: by input, whether it may be overwritten.
Plan PlanMemory(const Schedule& schedule, std::vector<Kernel> kernels, const MemoryEstimate& estimate,
                const std::vector<bool>& donated);

std::string ToText(const LoweredGraph& graph, const Plan& plan);

}  // namespace tidemark::compile
