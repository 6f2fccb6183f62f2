// What compiling a run came to, in words.
#pragma once

#include <string>
#include <vector>

#include "passes/compile/summary.h"

namespace tidemark {

// A few lines: for each graph what fusion removed, what backward gets and what it computes again, by name.
std::vector<std::string> CompiledNotes(const std::vector<compile::GraphSummary>& graphs);
// All of it: kernels with what is fused into each, saved tensors.
std::vector<std::string> CompiledLines(const std::vector<compile::GraphSummary>& graphs);

}  // namespace tidemark
