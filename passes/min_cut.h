// What of a forward to save: a minimum cut in a flow network. Operators and values of the micro-step's forward; cutting
// an operator off from its value saves the value, leaving both on backward's side runs the operator again.
//
//   source ──price of running again──▶ op ──bytes──▶ value ──∞──▶ ops that read it
//                                                      └──∞──▶ sink, where backward reads it
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "passes/recompute_plan.h"

namespace tidemark {

// What running an op again costs, in the unit of a saved byte.
constexpr int64_t kNotAgain = int64_t{1} << 50;
using RepeatPrice = std::function<int64_t(OpId)>;

// Enters into `plan` the decision for each storage of the micro-step's forward that costs the least: saved bytes plus
// the price of what runs again. Of several minimum cuts the one nearest to backward. What lives on in backward anyway
// (a caller's logits, weights) is free to read.
void CutMicroStep(const RecomputeAnalysis& analysis, const MicroStep& micro, const RepeatPrice& price,
                  RecomputePlan& plan);

}  // namespace tidemark
