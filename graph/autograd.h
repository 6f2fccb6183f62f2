// Autograd: nodes, what they save, and the engine that runs them backwards.
// Source: PyTorch 2.14, torch/csrc/autograd/{engine,input_buffer,saved_variable}.cpp and functions/accumulate_grad.h.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "graph/tracer.h"

namespace tidemark {

// Where a gradient goes: slot `slot` of a node. An undefined node: nobody wants it.
struct Edge {
  NodeRef node;
  uint32_t slot = 0;
};

class CheckpointFrame;

// Gradients by slot or by input; undefined: none. Few of them, except where a compiled model is one node.
class Gradients {
 public:
  static constexpr size_t kFew = 6;
  explicit Gradients(size_t count = kFew) : many_(count > kFew ? count : 0) {}
  Tensor& operator[](size_t i) { return many_.empty() ? few_[i] : many_[i]; }
  Tensor* data() { return many_.empty() ? few_.data() : many_.data(); }
  size_t size() const { return many_.empty() ? kFew : many_.size(); }
  Tensor* begin() { return data(); }
  Tensor* end() { return data() + size(); }

 private:
  std::array<Tensor, kFew> few_;
  std::vector<Tensor> many_;
};

struct NodeType {
  const char* name;  // "MmBackward0"
  // Computes the gradients that have an edge; `in` are the gradients of the node's outputs.
  void (*apply)(Node& node, Gradients& in, Gradients& out);
};

// What a node needs to know beside its saved tensors.
struct NodeData {
  double number = 0;
  std::array<int64_t, 4> integer{};
  Dims sizes;
  Dims strides;
  DType dtype = DType::kFloat32;
};

struct Node {
  static constexpr int kMaxEdges = Gradients::kFew;  // beside many_edges
  static constexpr int kMaxSaved = 9;
  static constexpr int kMaxSlots = 3;

  const NodeType* type = nullptr;
  Tracer* tracer = nullptr;
  uint64_t sequence_number = 0;
  uint32_t references = 0;
  uint32_t pass = 0;   // number of the backward pass that last met the node
  uint32_t place = 0;  // of its state there
  ScopeId scope;
  uint32_t edge_count = 0;
  uint8_t saved_count = 0;
  uint8_t slot_count = 0;
  std::array<Edge, kMaxEdges> edges;
  std::vector<Edge> many_edges;  // of a node with more than kMaxEdges: all of them
  // What it keeps for backward, in field order, the order of release. In a checkpointed region it keeps placeholders
  // instead: for each field the number of one in the frame, from 1 on.
  std::array<Tensor, kMaxSaved> saved;
  std::array<uint32_t, kMaxSaved> placeholders{};
  std::shared_ptr<CheckpointFrame> frame;
  struct Expected {
    DType dtype;
    Dims sizes;
  };
  std::array<Expected, kMaxSlots> expected;  // by slot: the forward result that the gradient belongs to
  NodeData data;
  TensorImpl* variable = nullptr;   // of AccumulateGrad
  Tensor leaf;                      // of AccumulateGrad: the variable, where it isn't a parameter
  std::shared_ptr<void> extension;  // what a node beyond saved tensors holds (a reentrant checkpoint's function)

  std::span<Edge> Edges() { return many_edges.empty() ? std::span(edges.data(), edge_count) : std::span(many_edges); }
  bool Wants(uint32_t edge) const {
    if (edge >= edge_count) return false;
    return static_cast<bool>((many_edges.empty() ? edges[edge] : many_edges[edge]).node);
  }
  // Keeps t for backward. `own_result`: t is a result of this very node's op.
  void Save(const Tensor& t, bool own_result = false);
  void SaveNothing() { ++saved_count; }
  bool Has(int field) const {
    return saved[static_cast<size_t>(field)].defined() || placeholders[static_cast<size_t>(field)] != 0;
  }
  // The saved tensor. In a checkpointed region this sets off the recomputation.
  Tensor Unpack(int field);
  void ReleaseSaved();
  // Declares t as the result that slot `slot` is the gradient of.
  void SetHistory(const Tensor& t, uint32_t slot = 0);
};

// A node for an op on these inputs, with edges to the nodes that made them (undefined tensors: no edge), or null where
// no gradient is wanted. Takes the next sequence number: make the node before the op.
NodeRef MakeNode(Tracer& tracer, const NodeType& type, std::span<const Tensor* const> inputs);
inline NodeRef MakeNode(Tracer& tracer, const NodeType& type, std::initializer_list<const Tensor*> inputs) {
  return MakeNode(tracer, type, std::span(inputs.begin(), inputs.size()));
}

// loss.backward(): `gradient` is the root's. REQUIRES: root has a history.
void Backward(const Tensor& root, Operand gradient);
// The same from several roots.
void Backward(Tracer& tracer, std::span<const Tensor> roots, std::span<Tensor> gradients);

// A leaf that requires grad and lives to the end of the program.
void MakeParameter(const Tensor& t);
// tensor.requires_grad = True: a leaf that lives as long as its handles and the nodes that lead to it.
void RequireGrad(const Tensor& t);

}  // namespace tidemark
