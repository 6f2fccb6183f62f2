// What of a forward is kept for its backward, and the rewriting that carries a decision out. Every policy of recompute
// (recompute.h) comes down to a plan.
//
//   forward  a = mm x w     b = gelu a     c = mm b v                      saved: a, b
//   backward            …   dv = mm bT dc     db = mm dc vT     da = gelu_backward db a
//
//   plan: b is dropped      b dies with its last name in forward; right before dv, its first reader in backward:
//                           b' = gelu a; readers in backward read b', and b's saved holders hold b' instead.
//
// What an op that runs again reads has to be there again: a kept storage stays (its life is extended if need be), a
// dropped one is computed again first and kept for its own readers, and so is one that nobody saved. No op runs more
// than once again in a micro-step. Random numbers are attributes of their op: the copy draws the same.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "graph/lifetimes.h"
#include "graph/micro_steps.h"
#include "graph/uses.h"

namespace tidemark {

enum class Keep : uint8_t {
  kAsItIs,  // saved storages stay; others are computed again where a copy needs them
  kDrop,    // of a saved one: computed again
  kExtend,  // of one that isn't saved: kept for the copies that read it
};

// Of a run's graph. The members refer to the graph: it has to outlive them.
struct RecomputeAnalysis {
  explicit RecomputeAnalysis(const Graph& graph);
  RecomputeAnalysis(const RecomputeAnalysis&) = delete;
  RecomputeAnalysis& operator=(const RecomputeAnalysis&) = delete;

  const Graph& graph;
  Lifetimes lives;
  Uses uses;
  Column<StorageId, std::vector<HolderId>> holders;
  std::vector<MicroStep> micro_steps;

  bool Within(OpId op, const Interval& interval) const { return interval.Contains(lives.op_at[op]); }
  // Whether the storage's value can be computed again from what its writers read: they all stand in the micro-step's
  // forward, before anyone else reads it, copy nothing from the host and change nothing else in place.
  bool Repeatable(StorageId storage, const MicroStep& micro) const;
  // Whether it is kept for backward, and for nothing else: a node's saved tensor, and who unpacks it.
  bool OnlySaved(StorageId storage, const MicroStep& micro) const;
  // Whether it is so kept, and could be computed again instead.
  bool Droppable(StorageId storage, const MicroStep& micro) const;
  // Storages that the micro-step's forward produces, in order.
  std::vector<StorageId> ForwardStorages(const MicroStep& micro) const;
  bool ReadIn(StorageId storage, const Interval& interval) const;
  // Whether the op changes a storage other than this one in place.
  bool ChangesAnother(OpId op, StorageId storage) const;
  // Whether an op between these positions, both excluded, writes it.
  bool WrittenBetween(StorageId storage, uint32_t after, int64_t before) const;
};

class GraphEditor;
// Those who held `old` through the micro-step's backward hold `copy` from right after `since` on, which runs right
// before `begins`; who lets go before that is dropped. Returns the position until when somebody holds it; 0: nobody.
uint32_t MoveHolders(const RecomputeAnalysis& analysis, const MicroStep& micro, StorageId old, StorageId copy,
                     OpId since, uint32_t begins, GraphEditor& editor);

using RecomputePlan = Column<StorageId, Keep>;

// The graph with the plan carried out. O(program).
Graph ApplyRecompute(const RecomputeAnalysis& analysis, const RecomputePlan& plan);

}  // namespace tidemark
