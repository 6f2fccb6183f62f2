// Operations with what they read and write, and kernels: groups of operations that run as one.
// Source: PyTorch 2.14, torch/_inductor/scheduler.py.
#pragma once

#include <string>
#include <vector>

#include "passes/compile/access.h"

namespace tidemark::compile {

// A set of operations.
class OperationSet {
 public:
  explicit OperationSet(size_t operations = 0) : words_((operations + 63) / 64) {}
  void Insert(size_t i) { words_[i / 64] |= uint64_t{1} << (i % 64); }
  bool Contains(size_t i) const { return words_[i / 64] >> (i % 64) & 1; }
  void Add(const OperationSet& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  }
  void Remove(const OperationSet& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= ~other.words_[i];
  }
  bool Meets(const OperationSet& other) const {
    for (size_t i = 0; i < words_.size(); ++i) {
      if (words_[i] & other.words_[i]) return true;
    }
    return false;
  }
  bool IsSubsetOf(const OperationSet& other) const {
    for (size_t i = 0; i < words_.size(); ++i) {
      if (words_[i] & ~other.words_[i]) return false;
    }
    return true;
  }
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (size_t i = 0; i < words_.size(); ++i) {
      for (uint64_t word = words_[i]; word != 0; word &= word - 1) {
        visit(i * 64 + static_cast<size_t>(__builtin_ctzll(word)));
      }
    }
  }

 private:
  std::vector<uint64_t> words_;
};

// An operation in the scheduler's eyes.
struct Unit {
  // Which loops an operation runs, and in which order: its dimensions of more than one element, outermost first; or, if
  // `split` isn't empty, what those loops are together, as loops of these sizes instead.
  struct Loops {
    std::vector<int> order;  // of dimensions, or of `split`
    std::vector<int> whole;  // with a split: the dimensions, outermost first
    std::vector<Extent> split;
    bool operator==(const Loops&) const = default;
  };
  Loops loops;
  std::vector<Extent> sizes;  // of those loops; then of the reduction's
  std::vector<Extent> reduced;
  std::vector<Access> reads;  // each once, in order of evaluation
  std::vector<Access> writes;
  Extent results = 1;  // iterations, without the reduction's
  Extent length = 1;   // of the reduction
  OperationSet ancestors;
  int order = -1;  // in the schedule before fusion
  bool is_extern = false;
  bool is_dead = false;
};

struct BufferUsers {
  std::vector<OperationId> operations;  // each once
  bool is_output = false;
  size_t count() const { return operations.size() + (is_output ? 1 : 0); }
};

// The units of a lowered graph, in order, with their dependencies.
struct Schedule {
  explicit Schedule(const LoweredGraph& lowered);

  // Reads and writes again, after the loops have changed.
  void Refresh(OperationId id);
  // Operations that must run before, as buffers; by their names.
  std::vector<BufferId> UnmetDependencies(OperationId id) const;

  const LoweredGraph& graph;
  bool guards_hold = true;  // as LoweredGraph::guards_hold
  Column<OperationId, Unit> units;
  std::vector<OperationId> order;  // those that aren't dead
  Column<BufferId, BufferUsers> users;
  Column<BufferId, BufferId> renamed;  // a buffer that something is added to, after that: the mutation
  std::vector<uint32_t> name_rank;     // by buffer: rank of its name as text

 private:
  void Renames();
  void FindUsers();
  void RemoveDead();
  void FindAncestors();
};

// Depth first: each item in the given order, after what it depends on, by name. `dependencies(i)`: buffers; `owner(b)`:
// the item that writes buffer b, or -1.
std::vector<int> TopologicalOrder(const Schedule& schedule, const std::vector<int>& items,
                                  const std::vector<std::vector<BufferId>>& dependencies,
                                  const std::vector<int>& owner_of_buffer);

}  // namespace tidemark::compile
