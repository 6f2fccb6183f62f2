// Whether a reduction runs in two steps: few results of much data would leave most of the device idle.
// Source: PyTorch 2.14, torch/_inductor/ir.py (Reduction.num_splits) and choices.py (reduction_split_factor).
#pragma once

#include <cstdint>
#include <optional>

#include "graph/device.h"
#include "passes/compile/loops.h"

namespace tidemark::compile {

struct ReductionPlan {
  int64_t splits = 1;
  ReductionHint hint = ReductionHint::kDefault;
};

// What counts alone decide, if they do.
std::optional<ReductionPlan> EasyReductionPlan(int64_t results, int64_t length, const DeviceSpec& device);
// `inner`: neighbours in the reduction are neighbours in memory.
ReductionPlan SplitReduction(int64_t results, int64_t length, bool inner, const DeviceSpec& device);

}  // namespace tidemark::compile
