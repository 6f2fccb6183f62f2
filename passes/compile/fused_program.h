// A kernel's operations as the loops of a FusedKernel: what an executor needs to run it.
#pragma once

#include <vector>

#include "graph/fused_kernel.h"
#include "passes/compile/plan.h"

namespace tidemark::compile {

// `inputs` and `results`: buffers behind the op's operands, in order. `at_hint`: for the length of the compilation, not
// that of the call. Leaves `fused` without loops where an index can't be said in terms of loops.
void AddProgram(const LoweredGraph& graph, const Kernel& kernel, const std::vector<BufferId>& inputs,
                const std::vector<BufferId>& results, bool at_hint, FusedKernel& fused);

}  // namespace tidemark::compile
