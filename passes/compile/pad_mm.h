// Products with dimensions that aren't multiples of 8 elements (16 bits) or 4 (fp32). The first compilation of one runs
// it, on operands made for it, as it is and with padded operands, and keeps the faster way:
//
//   operands; padded copies of those that the compiler could make padded to begin with;
//   for either way: the product, a flush buffer, the product for every timed launch, with copies of the other operands
//
// The answer is kept in the compile cache. Predicted is that padding loses, which only times can tell.
// Source: PyTorch 2.14, torch/_inductor/fx_passes/pad_mm.py.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "graph/device.h"
#include "graph/tracer.h"
#include "passes/compile/functional_graph.h"
#include "passes/compile/tuning.h"

namespace tidemark::compile {

// At the length of the compilation.
struct TimedProduct {
  struct Operand {
    DType dtype = DType::kFloat32;
    Layout layout;
    Dims padded;             // its sizes with padding
    bool is_padded = false;  // it needs padding
    bool is_free = false;    // what makes it can write it padded: the copy isn't part of what is timed
  };
  OpKind kind = OpKind::kMm;
  std::vector<Operand> operands;  // bias of an addmm first
  Dims result;
  Dims padded_result;
  std::string plain;   // what it is known by in the compile cache: unpadded …
  std::string padded;  // … and as a question
};

// In the order in which they are timed; of equal ones the first counts. `graph`: joint or inference; `length`: of its
// sequences. O(nodes).
std::vector<TimedProduct> ProductsToTime(const FunctionalGraph& graph, const DeviceSpec& device, Extent length);

// What timing them allocates, but for those whose answer is in the cache; adds them to it.
void TimeProducts(Tracer& tracer, const std::vector<TimedProduct>& products, TuningCache& cache);

// What lies between timed launches: a buffer that fills the device's second-level cache.
Tensor FlushBuffer(Tracer& tracer);

}  // namespace tidemark::compile
