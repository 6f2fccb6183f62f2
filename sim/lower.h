// Graph -> tape: the program's steps in order, each op expanded by its memory rule, each storage freed when its last
// holder lets go.
#pragma once

#include <vector>

#include "graph/device.h"
#include "graph/graph.h"
#include "sim/tape.h"

namespace tidemark {

// Where an allocation of a lowered tape comes from.
struct Origin {
  OpId op;
  StorageId storage;             // invalid: inside the op's kernel
  const char* inside = nullptr;  // what it is there: "cublas workspace", "staging of a reduction"
  bool operator==(const Origin&) const = default;
};

struct Lowered {
  Tape tape;
  Column<AllocationId, Origin> origins;
  Column<StorageId, AllocationId> allocations;  // of each storage; invalid: it has no bytes
  std::vector<uint32_t> first_event;            // of each step of the program: how many events came before it
};

// "MmBackward0 aten::mm @ h.0.mlp.c_fc"
std::string LabelOf(const Graph& graph, const Op& op);

// The events of the graph's program. Every storage is allocated by its producer. O(ops + holders).
Lowered Lower(const Graph& graph, const DeviceSpec& device);

}  // namespace tidemark
