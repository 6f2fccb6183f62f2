// Where a run's micro-steps lie in its program: the forward and the backward of each, for passes that match one with
// the other.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "graph/base/interval.h"
#include "graph/graph.h"

namespace tidemark {

// Positions of Graph::program; an interval begins with its phase's step.
struct MicroStep {
  int64_t step = 0;
  int64_t micro_step = 0;
  Interval forward;
  Interval backward;
  bool operator==(const MicroStep&) const = default;
};

// Those that have a forward and a backward, in order. O(program).
std::vector<MicroStep> MicroStepsOf(const Graph& graph);

// A module that is repeated: the scope up to and including its first number, "h.3" of "h.3.mlp.c_fc" and
// "model.layers.11" of "model.layers.11.mlp.up_proj". Empty: in no such module.
std::string BlockOf(std::string_view scope);

}  // namespace tidemark
