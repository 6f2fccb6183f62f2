// Who reads and who writes each storage, in program order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/graph.h"

namespace tidemark {

// One op's use of a storage. An op that changes a storage in place both reads and writes it.
struct Use {
  OpId op;
  bool reads = false;
  bool writes = false;  // produces it, or changes it
  bool operator==(const Use&) const = default;
};

class Uses {
 public:
  // O(operands).
  explicit Uses(const Graph& graph);
  // Its producer comes first.
  std::span<const Use> Of(StorageId storage) const {
    return std::span(uses_).subspan(begin_[storage.index()], begin_[storage.index() + 1] - begin_[storage.index()]);
  }

 private:
  std::vector<uint32_t> begin_;  // by storage, and the end
  std::vector<Use> uses_;
};

}  // namespace tidemark
