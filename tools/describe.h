// What allocations are, for reports: category, name, type, the op that asked for them, and why they are alive. From a
// graph all of it is known; from a tape what its o, p and t lines say.
#pragma once

#include <memory>
#include <vector>

#include "graph/graph.h"
#include "sim/breakdown.h"
#include "sim/lower.h"
#include "sim/replay.h"
#include "sim/tape.h"
#include "tools/report.h"

namespace tidemark {

struct PeakDescription {
  std::vector<CategoryBytes> breakdown;  // every category; they add up to the allocated bytes
  std::vector<TensorReport> largest;     // largest first, at most as many as were asked for
};

class Describer {
 public:
  virtual ~Describer() = default;
  // An allocation at its birth.
  virtual TensorReport Describe(AllocationId allocation) const = 0;
  // What is alive after event `state.event`.
  virtual PeakDescription DescribeState(const MemoryState& state, size_t count) const = 0;
};

// Both must outlive the describer.
std::unique_ptr<Describer> DescribeGraph(const Graph& graph, const Lowered& lowered);
std::unique_ptr<Describer> DescribeTape(const Tape& tape);

}  // namespace tidemark
