// Random small training programs, for property tests: operators of every kind on a few tensors whose names come and go,
// in blocks, with a loss and its backward, twice.
#pragma once

#include <cstdint>

#include "graph/device.h"
#include "graph/graph.h"

namespace tidemark {

struct ProgramSize {
  int64_t batch = 2;
  int64_t length = 8;
  int64_t width = 16;  // of some programs, twice that of others
};

// The same seed gives the same program everywhere. Every parameter's gradient and every loss has a probe.
Graph RandomProgram(uint64_t seed, const DeviceSpec& device, const ProgramSize& size = {});

}  // namespace tidemark
