// What compiling a graph came to, for reports: which values exist in memory, which fusion removed, what is saved, and
// the kernels with what was fused into each.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "graph/dtype.h"
#include "graph/shape.h"

namespace tidemark::compile {

struct ValueSummary {
  std::string name;    // PyTorch's: "mul_7"; of a buffer: "buf12"
  std::string op;      // "mul"
  std::string module;  // "h.0.ln_1"; empty: not of a module's own
  DType dtype = DType::kFloat32;
  Dims sizes;
  Bytes bytes;  // of its elements
  bool operator==(const ValueSummary&) const = default;
};

struct KernelSummary {
  std::string name;              // "forward/add_native_layer_norm_3"; of a library call: the operator's name
  std::vector<std::string> ops;  // what was fused, in order; of a library call: itself
  std::string module;
  bool is_library = false;
  bool operator==(const KernelSummary&) const = default;
};

struct GraphSummary {
  std::string name;                   // "forward", "backward", "inference", further ones of a kind "forward1", …
  std::vector<ValueSummary> saved;    // forward: for backward, as it returns it
  std::vector<ValueSummary> buffers;  // what kernels write to memory
  std::vector<ValueSummary> fused;    // results that exist in no memory, views left out
  std::vector<ValueSummary> computed_again;  // backward: what forward had computed, too
  std::vector<KernelSummary> kernels;        // in order
  bool operator==(const GraphSummary&) const = default;
};

}  // namespace tidemark::compile
