// The time of an op on a device, by the roofline model: as long as its arithmetic takes at the device's peak rate, or
// its memory traffic at the peak bandwidth, whichever is longer; and no kernel is shorter than kShortestKernel. A lower
// bound of real times, good for ranking plans against each other: real kernels reach 60 to 90 % of either peak, alike
// before and after a rewriting.
//
// Traffic: each operand is read or written once, in full (a stretched one as often as it is stored). Flops: 2 m n k of
// a product; attention is its products (forward two of T x T x D, backward five), half of them under a causal mask.
#pragma once

#include "graph/base/units.h"
#include "graph/device.h"
#include "graph/graph.h"
#include "graph/op.h"

namespace tidemark {

// The launch of a kernel that does nothing, back to back with others, on current GPUs: 2 to 3 microseconds.
constexpr Nanos kShortestKernel{2000};

struct Work {
  Flops flops;
  Bytes traffic;
};
Work WorkOf(const OpView& op);

// Whether the device's bandwidth and peak rates are known.
bool HasRates(const DeviceSpec& device);

// REQUIRES: HasRates(device).
Nanos TimeOf(const OpView& op, const DeviceSpec& device);

// Of everything from one phase mark to the next, by the phase's name.
struct RunTime {
  Nanos forward, backward, optimizer;  // optimizer: clipping included
  Nanos other;                         // evaluation, data
  int64_t steps = 0;
  Nanos step() const { return forward + backward + optimizer; }
};
// Totals over the run; `steps` is how many steps it has.
RunTime TimeOf(const Graph& graph, const DeviceSpec& device);

}  // namespace tidemark
