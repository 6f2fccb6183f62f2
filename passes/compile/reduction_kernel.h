// How a kernel with reductions goes through their elements.
// Source: PyTorch 2.14, torch/_inductor/choices.py (should_use_persistent_reduction), codegen/simd_kernel_features.py,
// codegen/simd.py (generate_node_schedule).
#pragma once

#include <optional>
#include <vector>

#include "passes/compile/schedule.h"

namespace tidemark::compile {

struct ReductionKernel {
  Extent results = 1;
  Extent length = 1;
  ReductionHint hint = ReductionHint::kDefault;
  bool is_persistent = false;  // all elements of a result are in registers at once; else loops go through them
  bool is_tiled = false;       // its results, rows by columns, are worked on in tiles
};

// Of a kernel of these operations; none: nothing is reduced. O(operations · accesses).
std::optional<ReductionKernel> DescribeReduction(const Schedule& schedule, const std::vector<OperationId>& operations);

struct LoopedReduction {
  int64_t loads = 0;              // of its code, and reductions
  bool tries_persistent = false;  // holding all elements is tried, too, since loops read much of it again
};
// Of a kernel that isn't persistent. O(operations · accesses²).
LoopedReduction DescribeLoops(const Schedule& schedule, const std::vector<OperationId>& operations,
                              const ReductionKernel& kernel);

// Results of the operations, which run in this order, that a looped reduction writes in one loop over its elements and
// reads in a later one. They have to be in memory, whoever else reads them. O(operations · accesses).
std::vector<BufferId> ReadByLaterLoops(const Schedule& schedule, const std::vector<OperationId>& operations);

}  // namespace tidemark::compile
