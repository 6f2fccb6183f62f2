// Graphs of core operators in functional form: values without places in memory, in an order, with PyTorch's names.
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "passes/compile/extent.h"

namespace tidemark::compile {

using NodeId = Id<struct FunctionalNodeTag>;

struct TensorType {
  DType dtype = DType::kFloat32;
  Shape sizes;
  Shape strides;  // those of PyTorch's own operators, also where the compiler is free to choose
  bool operator==(const TensorType&) const = default;
};
TensorType ContiguousType(DType dtype, const Shape& sizes);
// Bytes of the elements, at the hint.
int64_t HintBytes(const TensorType& type);

// Operators are those of graph/op_list.def; `number` and `integer` their attributes.
struct FunctionalNode {
  OpKind kind = OpKind::kFromHost;  // kFromHost: an input of the graph
  std::string name;                 // "convert_element_type_3"
  std::vector<NodeId> inputs;
  double number = 0;
  bool has_number = false;         // `number` is an operand: x + 1e-5
  bool number_is_integer = false;  // 0 and 0.0 are different constants
  std::array<Extent, 3> integer{};
  std::vector<TensorType> results;  // of a tuple (split, var_mean, attention): several, which kGetItem picks from
  int32_t recompute_region = -1;    // a checkpointed region that backward runs again
  bool must_save = false;           // an output of such a region
  ScopeId scope;                    // where it comes from: module and, in backward, autograd node
  const char* autograd_node = nullptr;
  ScopeId weight;  // a parameter, or its cast: its name

  const TensorType& type() const { return results[0]; }
  bool is_tuple() const;
};
// Whether a result is another look at the first operand's elements.
bool IsView(OpKind kind);
// The same, or one of several results picked (of a split, or of attention).
bool IsViewOrItem(OpKind kind);

struct FunctionalGraph {
  Column<NodeId, FunctionalNode> nodes;
  std::vector<NodeId> order;    // all that is in the graph, inputs first
  std::vector<NodeId> outputs;  // none: an output that isn't there (the gradient of an integer input)
  size_t forward_outputs = 0;   // joint graphs: the first ones belong to forward

  // Users of each node, by node, each once, in order; the graph's outputs count as one more user for the caller.
  Column<NodeId, std::vector<NodeId>> Users() const;
  std::vector<bool> IsOutput() const;  // by node
  // Drops what no output needs; inputs stay.
  void RemoveDead();
  void ReplaceUses(NodeId old_node, NodeId new_node);
};

// Names as PyTorch gives them: "mul", "mul_1", …; names of Python's builtins begin at 1.
class Names {
 public:
  std::string Next(std::string_view base);
  // A name that is given to a node which won't be there in the end.
  void Skip(std::string_view base, int count = 1);

 private:
  std::map<std::string, int, std::less<>> next_;
};

// PyTorch's short name of a dtype: "f16", "i64", "b8".
std::string_view ShortName(DType dtype);
// "f16[256, 64][64, 1]"
std::string ToText(const TensorType& type);
// One line a node: "mm: f16[256, 192][192, 1] = aten::mm(view, permute)".
std::string ToText(const FunctionalGraph& graph);

}  // namespace tidemark::compile
