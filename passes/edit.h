// Changes to a graph's program, collected and then carried out at once: a pass looks at positions of the program as it
// was, and says what goes where.
//
//   position      7          8            9
//   program   │ op 4 │ release 3 │ op 5 │          InsertBefore(9, …) comes after release 3, right before op 5;
//                    ↑           ↑                 InsertAfter(7, …) right after op 4.
//
// New ops, storages, tensors and holders get ids at once, behind those that are there. Finish numbers everything anew,
// in program order, and drops what nobody uses any more (probes of such tensors, too).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/graph.h"

namespace tidemark {

class GraphEditor {
 public:
  explicit GraphEditor(Graph graph);

  // The graph as it was, and what was added; its program is the old one.
  Graph& graph() { return graph_; }
  const Graph& graph() const { return graph_; }

  // A further op with these operands. It stands nowhere until it is inserted. `op`'s operands are set here.
  OpId AddOp(Op op, std::span<const TensorId> inputs, std::span<const TensorId> results);
  StorageId AddStorage(const Storage& storage) { return graph_.storages.Add(storage); }
  TensorId AddTensor(const TensorInfo& tensor) { return graph_.tensors.Add(tensor); }
  // A holder that takes hold right after `since` has run (an op of the old program or a new one).
  HolderId AddHolder(StorageId storage, HolderKind kind, OpId since, ScopeId scope, const char* node = nullptr);
  // An old holder that now holds another storage, from right after `since` on (none: as before).
  void MoveHolder(HolderId holder, StorageId storage, OpId since);
  // Other operands for an op: the i-th operand (inputs, then results). The op gets operands of its own.
  void SetOperand(OpId op, size_t i, TensorId tensor);

  // Steps at one place keep the order in which they were inserted.
  void InsertBefore(uint32_t position, Step step) { before_.push_back({position, step}); }
  void InsertAfter(uint32_t position, Step step) { after_.push_back({position, step}); }
  // The step at this position goes. An erased op takes the storages that it produced along, and their holders.
  void Erase(uint32_t position) { erased_[position] = true; }
  // The holder goes, with its release.
  void Drop(HolderId holder) { dropped_[holder] = 1; }

  // The new graph.
  Graph Finish() &&;

 private:
  struct Insertion {
    uint32_t position;
    Step step;
  };
  // The steps in their new order; ops are numbered on the way.
  std::vector<Step> Assemble();
  void Emit(Step step, std::vector<Step>& program);
  size_t NewSince(HolderId holder) const;
  void CopyOps(const std::vector<Step>& program, Graph& result);
  std::vector<HolderId> CopyHolders(Graph& result) const;  // old -> new, by old number

  Graph graph_;
  std::vector<Insertion> before_, after_;
  std::vector<bool> erased_;
  Column<HolderId, uint8_t> dropped_;
  Column<HolderId, OpId> new_since_;  // of new and moved holders: the op after which; else none
  Column<OpId, OpId> op_number_;      // old -> new; none: gone
  Column<OpId, uint32_t> ops_by_;     // by old op: new ops up to and including its old place
  OpId numbered_{size_t{0}};          // the next number
  Column<TensorId, TensorId> tensor_number_;
  Column<StorageId, StorageId> storage_number_;
};

}  // namespace tidemark
