// How many configurations (blocks and warps) Inductor's heuristics try for a kernel: those that differ. One: nothing is
// timed.
// Source: PyTorch 2.14, torch/_inductor/heuristics/triton_codegen and runtime/triton_heuristics.py.
#pragma once

#include <cstdint>

#include "passes/compile/loops.h"

namespace tidemark::compile {

// The next power of two.
int64_t RoundedUp(int64_t n);

int PointwiseConfigurations(int64_t elements);

// Of reductions of `length` elements to `results`. Persistent: all elements of a result are in registers at once.
int PersistentConfigurations(int64_t results, int64_t length, ReductionHint hint);
// `loads`: distinct loads and reductions.
int LoopedConfigurations(int64_t results, int64_t length, int64_t loads, ReductionHint hint);

}  // namespace tidemark::compile
