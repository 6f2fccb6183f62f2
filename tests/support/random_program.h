// Random small training programs, for property tests: operators of every kind on a few tensors whose names come and go,
// in blocks, with a loss and its backward, twice.
#pragma once

#include <cstdint>

#include "graph/device.h"
#include "graph/graph.h"

namespace tidemark {

// The same seed gives the same program everywhere. Every parameter's gradient and every loss has a probe.
Graph RandomProgram(uint64_t seed, const DeviceSpec& device);

}  // namespace tidemark
