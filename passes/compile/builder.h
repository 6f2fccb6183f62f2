// Adds nodes to a functional graph, with the types and names that PyTorch's core operators have.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "passes/compile/functional_graph.h"

namespace tidemark::compile {

// A number as an operand. Whether it was written as an integer matters where constants are counted.
struct Number {
  double value = 0;
  bool is_integer = false;
};
constexpr Number Integer(int64_t n) { return {static_cast<double>(n), true}; }
constexpr Number Real(double x) { return {x, false}; }

class Builder {
 public:
  explicit Builder(FunctionalGraph& graph) : graph_(graph) {}

  // What further nodes belong to.
  int32_t recompute_region = -1;
  ScopeId scope;
  const char* autograd_node = nullptr;

  const FunctionalNode& operator[](NodeId id) const { return graph_.nodes[id]; }
  FunctionalNode& operator[](NodeId id) { return graph_.nodes[id]; }
  const TensorType& type(NodeId id) const { return graph_.nodes[id].type(); }
  DType dtype(NodeId id) const { return type(id).dtype; }
  Names& names() { return names_; }

  NodeId Add(OpKind kind, std::string_view base, std::vector<NodeId> inputs, const TensorType& type);
  NodeId AddTuple(OpKind kind, std::string_view base, std::vector<NodeId> inputs, std::vector<TensorType> types);
  NodeId GetItem(NodeId tuple, int index);

  // Elementwise: dtype promoted unless given, sizes broadcast, strides as TensorIterator's.
  NodeId Pointwise(OpKind kind, std::string_view base, std::vector<NodeId> inputs, DType dtype);
  NodeId Unary(OpKind kind, std::string_view base, NodeId x) { return Pointwise(kind, base, {x}, dtype(x)); }
  NodeId Binary(OpKind kind, std::string_view base, NodeId a, NodeId b);
  NodeId WithNumber(OpKind kind, std::string_view base, NodeId x, Number number);
  NodeId NumberMinus(Number number, NodeId x);
  NodeId Compare(Comparison how, NodeId x, Number number);
  NodeId Compare(Comparison how, NodeId a, NodeId b);
  NodeId Cast(NodeId x, DType dtype);  // x itself if it has the dtype
  NodeId Scalar(DType dtype, Number value, std::string_view base = "scalar_tensor");
  NodeId Full(DType dtype, const Shape& sizes, Number value);

  // Over the dimensions of `mask`, which stay as 1 if `keep`.
  NodeId Reduce(OpKind kind, std::string_view base, NodeId x, int mask, bool keep, DType dtype);
  NodeId SumLast(NodeId x);
  NodeId View(NodeId x, const Shape& sizes);
  NodeId Unsqueeze(NodeId x, int dim);
  NodeId Squeeze(NodeId x, int dim);
  NodeId Expand(NodeId x, const Shape& sizes);

 private:
  FunctionalGraph& graph_;
  Names names_;
};

// "eq", "ne", "lt", …: of its node, and of what is lowered for it.
std::string_view NameOf(Comparison how);
// Strides of a view of these sizes. REQUIRES: there is one.
Shape StridesOfView(const TensorType& from, const Shape& sizes);
// Sizes without the dimensions of `mask`, or with 1 for them.
Shape Reduced(const Shape& sizes, int mask, bool keep);

}  // namespace tidemark::compile
