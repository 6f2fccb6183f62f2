// The generated code's lines: where each buffer is allocated, takes over another one's memory, and is deleted.
// Source: PyTorch 2.14, torch/_inductor/codegen/wrapper.py (memory planning by reuse) and scheduler.py
// (decide_inplace_update).
#pragma once

#include <string>
#include <vector>

#include "graph/device.h"
#include "passes/compile/order.h"

namespace tidemark::compile {

struct Line {
  enum class Kind : uint8_t {
    kAllocate,
    kTakeOver,   // `buffer` is `from`'s memory from here on
    kPlaceIn,    // `buffer` is a part of `from`
    kLaunch,     // of kernel `kernel`
    kColumnSum,  // `buffer` is the sum of rows of part `kernel` of the workspace `from`, computed eagerly
    kDelete,     // the name `buffer` goes; inputs, too
  };
  Kind kind = Kind::kLaunch;
  BufferId buffer;
  BufferId from;
  size_t kernel = 0;
};

struct Plan {
  std::vector<Kernel> kernels;               // as they are launched
  std::vector<std::vector<BufferId>> reads;  // by kernel: memory that it reads and doesn't write itself, each once
  std::vector<Line> lines;
};

// `graph`: that of the schedule; workspaces are added to its buffers. `donated`: by input, whether it may be
// overwritten.
Plan PlanMemory(LoweredGraph& graph, const Schedule& schedule, const std::vector<Kernel>& kernels,
                const MemoryEstimate& estimate, const std::vector<bool>& donated, const DeviceSpec& device);

std::string ToText(const LoweredGraph& graph, const Plan& plan);

}  // namespace tidemark::compile
