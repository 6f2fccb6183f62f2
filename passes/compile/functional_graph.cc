#include "passes/compile/functional_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "graph/op.h"

namespace tidemark::compile {

TensorType ContiguousType(DType dtype, const Shape& sizes) { return {dtype, sizes, Contiguous(sizes)}; }

int64_t HintBytes(const TensorType& type) { return (SizeOf(type.dtype) * Product(type.sizes).hint()).count(); }

bool IsView(OpKind kind) {
  switch (kind) {
    case OpKind::kView:
    case OpKind::kPermute:
    case OpKind::kExpand:
    case OpKind::kUnsqueeze:
    case OpKind::kSqueeze:
    case OpKind::kSlice:
    case OpKind::kSplit:
      return true;
    default:
      return false;
  }
}

bool IsViewOrItem(OpKind kind) { return IsView(kind) || kind == OpKind::kGetItem; }

bool FunctionalNode::is_tuple() const {
  switch (kind) {
    case OpKind::kSplit:
    case OpKind::kVarMean:
    case OpKind::kFlashForward:
    case OpKind::kFlashBackward:
    case OpKind::kEfficientForward:
    case OpKind::kEfficientBackward:
    case OpKind::kOnlineSoftmax:
      return true;
    default:
      return false;
  }
}

Column<NodeId, std::vector<NodeId>> FunctionalGraph::Users() const {
  Column<NodeId, std::vector<NodeId>> users;
  users.resize(nodes.size());
  for (const NodeId id : order) {
    for (const NodeId input : nodes[id].inputs) {
      if (users[input].empty() || users[input].back() != id) users[input].push_back(id);
    }
  }
  return users;
}

std::vector<bool> FunctionalGraph::IsOutput() const {
  std::vector<bool> is_output(nodes.size());
  for (const NodeId id : outputs) {
    if (id.valid()) is_output[id.index()] = true;
  }
  return is_output;
}

void FunctionalGraph::RemoveDead() {
  std::vector<bool> needed = IsOutput();
  for (size_t i = order.size(); i-- > 0;) {
    const FunctionalNode& node = nodes[order[i]];
    if (node.kind == OpKind::kFromHost) needed[order[i].index()] = true;
    if (!needed[order[i].index()]) continue;
    for (const NodeId input : node.inputs) needed[input.index()] = true;
  }
  std::erase_if(order, [&](NodeId id) { return !needed[id.index()]; });
}

void FunctionalGraph::ReplaceUses(NodeId old_node, NodeId new_node) {
  for (const NodeId id : order) std::ranges::replace(nodes[id].inputs, old_node, new_node);
  std::ranges::replace(outputs, old_node, new_node);
}

namespace {
bool IsPythonBuiltin(std::string_view name) {
  constexpr std::array kBuiltins = {"abs", "all", "any", "max", "min", "pow", "round", "slice", "sum"};
  return std::ranges::find(kBuiltins, name) != kBuiltins.end();
}
}  // namespace

std::string Names::Next(std::string_view base) {
  auto at = next_.find(base);
  if (at == next_.end()) at = next_.emplace(base, IsPythonBuiltin(base) ? 1 : 0).first;
  const int number = at->second++;
  return number == 0 ? std::string(base) : fmt::format("{}_{}", base, number);
}

void Names::Skip(std::string_view base, int count) {
  for (int i = 0; i < count; ++i) Next(base);
}

std::string_view ShortName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "f32";
    case DType::kFloat16:
      return "f16";
    case DType::kBFloat16:
      return "bf16";
    case DType::kFloat64:
      return "f64";
    case DType::kInt64:
      return "i64";
    case DType::kInt32:
      return "i32";
    case DType::kUInt8:
      return "u8";
    case DType::kBool:
      return "b8";
    case DType::kUInt64:
      return "u64";
  }
  return "";
}

namespace {
std::string ToText(const Shape& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i].hint());
  }
  return text + "]";
}
}  // namespace

std::string ToText(const TensorType& type) {
  return fmt::format("{}{}{}", ShortName(type.dtype), ToText(type.sizes), ToText(type.strides));
}

std::string ToText(const FunctionalGraph& graph) {
  std::string text;
  for (const NodeId id : graph.order) {
    const FunctionalNode& node = graph.nodes[id];
    const std::string type = node.is_tuple() ? "" : ToText(node.type());
    std::string arguments;
    for (const NodeId input : node.inputs) {
      if (!arguments.empty()) arguments += ", ";
      arguments += graph.nodes[input].name;
    }
    if (node.has_number) arguments += fmt::format("{}{}", arguments.empty() ? "" : ", ", node.number);
    text += fmt::format("{}: {} = {}({})\n", node.name, type, InfoOf(node.kind).name, arguments);
  }
  text += "return";
  for (const NodeId id : graph.outputs) text += id.valid() ? " " + graph.nodes[id].name : " None";
  return text + "\n";
}

}  // namespace tidemark::compile
