// From when to when each storage of a graph lives, in positions of its program, and what lives together: the highest
// sum of live bytes is what no allocator can undercut. A pass that needs to know what it saves asks here; whether the
// result fragments is the simulator's question.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "graph/base/interval.h"
#include "graph/device.h"
#include "graph/graph.h"

namespace tidemark {

constexpr uint32_t kNever = std::numeric_limits<uint32_t>::max();

// Positions are indices into Graph::program.
struct Lifetimes {
  Column<OpId, uint32_t> op_at;
  Column<HolderId, uint32_t> released_at;  // kNever: it holds at the end of the program
  Column<StorageId, uint32_t> born;        // its producer's position
  Column<StorageId, uint32_t> dies;        // where its last holder lets go; kNever: it lives at the end
};
// O(program + holders).
Lifetimes LifetimesOf(const Graph& graph);

// Bytes that live after each step of the program: storages, rounded to the allocator's 512 bytes, and while an op runs
// (`during`) also what its kernel allocates inside.
struct LiveBytes {
  std::vector<Bytes> after;   // by position
  std::vector<Bytes> during;  // by position: the highest value while the step is carried out
};
LiveBytes LiveBytesOf(const Graph& graph, const DeviceSpec& device);

struct LivePeak {
  Bytes bytes;
  uint32_t position = 0;
  bool operator==(const LivePeak&) const = default;
};
LivePeak LivePeakOf(const Graph& graph, const DeviceSpec& device);

}  // namespace tidemark
