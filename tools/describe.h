// What an allocation is, for reports: category, name, type, the op that asked for it, and why it is still alive.
#pragma once

#include <functional>

#include "sim/tape.h"
#include "tools/report.h"

namespace tidemark {

// Describes an allocation that is alive at `event`. `bytes` is left to the caller.
using DescribeAllocation = std::function<TensorReport(AllocationId allocation, uint32_t event)>;

// The categories of reports, in their order.
inline constexpr const char* kCategories[] = {
    "parameters",  "gradients", "optimizer_state", "weight_casts", "activations", "logits_and_loss",
    "temporaries", "workspace", "inputs",          "rounding",     "other"};

// From what the tape itself says (o, p and t lines); `tape` must outlive the result. O(events) once, then O(1).
DescribeAllocation DescribeFromTape(const Tape& tape);

}  // namespace tidemark
