// Who holds memory at a moment of a simulated run, by category and by tensor, and why each tensor is alive.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "sim/lower.h"
#include "sim/replay.h"

namespace tidemark {

// Where in the run an event lies.
struct Moment {
  std::string phase;  // "backward"; empty before the first phase
  int64_t step = -1;
  int64_t micro_step = -1;
  int64_t batch = -1;
  std::string op;  // "NllLossBackward0 aten::nll_loss_backward @ model"
  bool operator==(const Moment&) const = default;
};
Moment MomentOf(const Graph& graph, const Lowered& lowered, uint32_t event);

// Contract, section 4, in its order.
enum class Category : uint8_t {
  kParameters,
  kGradients,
  kOptimizerState,
  kWeightCasts,
  kActivations,
  kLogitsAndLoss,
  kTemporaries,
  kWorkspace,
  kInputs,
  kRounding,
  kOther,
};
constexpr int kCategories = 11;
std::string_view Name(Category category);

struct LiveTensor {
  std::string tensor;  // "h.0.mlp.c_fc.weight", "result of aten::gelu in h.3.mlp"
  std::string op;      // that made it: "aten::gelu @ h.3.mlp"
  std::string dtype;   // empty: scratch inside an op's kernel
  Dims sizes;
  Bytes bytes;  // requested
  Bytes block;  // allocated
  Category category = Category::kOther;
  std::string why;  // "saved for GeluBackward0 in h.3.mlp"
  AllocationId allocation;
};

struct Breakdown {
  Moment at;
  std::vector<Bytes> categories;    // by Category; they add up to the allocated bytes exactly
  std::vector<LiveTensor> tensors;  // largest first; ties in order of allocation
};

// `state` is the memory after event `state.event` of the lowered tape. Blocks that are freed but wait for a stream
// don't count. O(program).
Breakdown BreakDown(const Graph& graph, const Lowered& lowered, const MemoryState& state);

// The one allocation, as BreakDown would describe it at its birth: what a request that failed was for.
LiveTensor Describe(const Graph& graph, const Lowered& lowered, AllocationId allocation);

}  // namespace tidemark
