// Graphs executed on the host, in memory laid out as predicted and with freed bytes poisoned.
#pragma once

#include <string>
#include <vector>

#include "graph/device.h"
#include "graph/graph.h"
#include "kernels/executor.h"

namespace tidemark {

// A graph that can't be lowered, placed or executed fails the test.
Execution ExecuteGraph(const Graph& graph, const DeviceSpec& device);

// The same program with every tensor of a half format in float32: what remains of two programs' differences isn't
// rounding to 8 or 11 bits.
Graph WithoutHalf(Graph graph);

// What differs between two executions' losses and gradients; empty: nothing. `tolerance` is relative to the largest
// value of each tensor (at least a thousandth of the largest of all); 0: to the bit.
std::string DifferenceOf(const Execution& expected, const Execution& actual, double tolerance);

}  // namespace tidemark
