#include "passes/compile/loops.h"

#include <fmt/format.h>

namespace tidemark::compile {

Index LoweredGraph::Linear(const Expression& load, const std::vector<Extent>& ranges) const {
  const Buffer& buffer = buffers[load.buffer];
  Index linear(buffer.offset);
  if (load.is_linear) {
    linear = (linear + load.indices[0]).Pinned(false);
    linear.Normalize(ranges);
    return linear;
  }
  for (int i = 0; i < buffer.strides.size(); ++i) {
    linear = linear + load.indices[static_cast<size_t>(i)] * buffer.strides[i];
  }
  linear = linear.Pinned(false);
  linear.Normalize(ranges);
  return linear;
}

Extent LoweredGraph::StorageElements(BufferId id) const {
  const Buffer& buffer = buffers[id];
  Extent last = 0;
  for (int i = 0; i < buffer.sizes.size(); ++i) {
    if (buffer.sizes[i].is(0)) return 0;
    last += (buffer.sizes[i] - 1) * buffer.strides[i];
  }
  return last + 1;
}

std::string ToText(const LoweredGraph& graph) {
  std::string text;
  for (const Operation& op : graph.operations) {
    const Buffer& buffer = graph.buffers[op.result];
    text += fmt::format("{}: {}", buffer.name, ToText(TensorType{buffer.dtype, buffer.sizes, buffer.strides}));
    if (buffer.kind == Buffer::Kind::kMutation) text += " into " + graph.buffers[buffer.mutated].name;
    if (op.is_reduction()) text += " reduction";
    text += " reads";
    if (op.body.valid()) {
      std::vector<std::string> seen;
      for (const ExpressionId id : graph.expressions.Nodes(op.body)) {
        const Expression& e = graph.expressions[id];
        if (e.kind == ExpressionKind::kLoad) text += " " + graph.buffers[e.buffer].name;
      }
    }
    for (const BufferView& view : op.operands) text += " " + graph.buffers[view.buffer].name;
    text += "\n";
  }
  return text;
}

}  // namespace tidemark::compile
