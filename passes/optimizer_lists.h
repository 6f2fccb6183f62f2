// The updates of fused optimizers take lists: parameters, gradients, states. What a pass needs that treats parameters
// one by one.
#pragma once

#include <vector>

#include "graph/base/result.h"
#include "graph/graph.h"

namespace tidemark {

// An update of one parameter.
struct ParameterUpdate {
  OpId op;
  StorageId parameter;
  StorageId gradient;
  std::vector<StorageId> states;
};

// The graph with an update for each parameter, in the order of the lists. Errors: an optimizer that isn't fused.
Result<Graph> SplitUpdates(Graph graph);

// Updates of a graph so split, in order.
std::vector<ParameterUpdate> UpdatesOf(const Graph& graph);

}  // namespace tidemark
