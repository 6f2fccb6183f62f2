#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "graph/base/check.h"
#include "passes/compile/lowering.h"

namespace tidemark::compile {

LoweredGraph Lowering::Run() {
  for (const NodeId id : graph_.order) {
    current_ = id;
    if (node().kind == OpKind::kFromHost) {
      AddInput();
      continue;
    }
    LowerNode();
    if (!node().is_tuple()) AfterNode();
  }
  current_ = NodeId();
  for (const NodeId id : graph_.outputs) {
    result_.outputs.push_back(id.valid() ? RealizeInput(values_[id]) : BufferView());
  }
  for (Buffer& buffer : result_.buffers) DecideLayout(buffer);
  for (BufferView& view : result_.outputs) Complete(view);
  for (Operation& operation : result_.operations) {
    for (BufferView& view : operation.operands) Complete(view);
  }
  return std::move(result_);
}

void Lowering::MarkUnpadded() {
  unpadded_.resize(graph_.nodes.size());
  for (size_t i = 0; i < options_.visible_outputs; ++i) {
    NodeId id = graph_.outputs[i];
    if (id.valid()) is_visible_.push_back(id);
    while (id.valid()) {
      const FunctionalNode& n = graph_.nodes[id];
      // A reduction's result is a new buffer, whose strides the output fixes; what it reads may be padded.
      const bool is_reduction = n.kind == OpKind::kSum || n.kind == OpKind::kMean || n.kind == OpKind::kAmax;
      if (!is_reduction) unpadded_[id.index()] = true;
      const bool is_view = n.kind == OpKind::kView || n.kind == OpKind::kPermute || n.kind == OpKind::kExpand ||
                           n.kind == OpKind::kSlice || n.kind == OpKind::kUnsqueeze || n.kind == OpKind::kSqueeze;
      id = is_view ? n.inputs[0] : NodeId();
    }
  }
}

Shape Lowering::Padded(const Shape& strides, const Buffer& b) const {
  if (current_.valid() && unpadded_[current_.index()]) return strides;
  return options_.is_symbolic && DependsOnLength(b) ? strides : PadStrides(strides, b.sizes, b.dtype);
}

bool Lowering::DependsOnLength(const Buffer& b) {
  return std::ranges::any_of(b.sizes, [](Extent e) { return e.hint() != e.now(); });
}

void Lowering::Fix(Buffer& b, const Shape& strides, bool allow_padding) {
  b.strides = allow_padding ? Padded(strides, b) : strides;
  b.is_fixed = true;
}

void Lowering::FreezeLayout(Buffer& b) {
  if (!b.is_fixed) Fix(b, b.strides, true);
}

void Lowering::DecideLayout(Buffer& b) {
  if (b.is_fixed) return;
  const Operation* op = b.operation.valid() ? &result_.operations[b.operation] : nullptr;
  if (op == nullptr || b.kind != Buffer::Kind::kLoops) return FreezeLayout(b);
  const std::vector<Index> reads = ReadsOf(*op);
  if (reads.empty()) return FreezeLayout(b);
  std::vector<std::vector<int64_t>> strides;
  for (const Index& read : reads) {
    strides.emplace_back();
    for (int i = 0; i < b.sizes.size(); ++i) strides.back().push_back(read.StrideOf(i).hint());
  }
  Fix(b, FillOrdered(b.sizes, PickLoopOrder(strides, b.sizes)), true);
}

std::vector<Index> Lowering::ReadsOf(const Operation& op) {
  std::vector<Extent> ranges = RangesOf(op.sizes);
  for (const Extent e : op.reduced) ranges.push_back(e);
  std::vector<Index> reads;
  for (const ExpressionId id : expressions().Nodes(op.body)) {
    const Expression& e = expressions()[id];
    if (e.kind == ExpressionKind::kLoad) reads.push_back(result_.Linear(e, ranges));
  }
  return reads;
}

void Lowering::Complete(BufferView& view) {
  if (!view.buffer.valid() || !view.strides.empty() || view.sizes.empty()) return;
  view.strides = result_.buffers[view.buffer].strides;
}

bool Lowering::IsStorage(const Value& v) {
  return v.form == Value::Form::kStrided || (v.form == Value::Form::kPlain && box(v).realized());
}

BoxId Lowering::AddBox(DType dtype, const Shape& sizes, ExpressionId body) {
  Box b;
  b.dtype = dtype;
  b.sizes = sizes;
  b.body = body;
  b.node = current_;
  return boxes_.Add(b);
}

BufferId Lowering::AddBuffer(Buffer::Kind kind, DType dtype, const Shape& sizes) {
  Buffer b;
  b.kind = kind;
  b.name = fmt::format("buf{}", buffer_count_++);
  b.dtype = dtype;
  b.sizes = sizes;
  b.strides = Contiguous(sizes);
  b.node = current_;
  return result_.buffers.Add(std::move(b));
}

OperationId Lowering::AddOperation(Operation op, BufferId id) {
  op.result = id;
  op.node = current_;
  op.origin = current_;
  const OperationId operation = result_.operations.Add(std::move(op));
  result_.buffers[id].operation = operation;
  return operation;
}

Value Lowering::Realized(BufferId id) {
  const Buffer& b = result_.buffers[id];
  const BoxId added = AddBox(b.dtype, b.sizes, ExpressionId());
  boxes_[added].buffer = id;
  return Plain(added);
}

void Lowering::AddInput() {
  const size_t number = result_.inputs.size();
  const BufferId id = result_.buffers.Add({});
  Buffer& b = result_.buffers[id];
  b.kind = Buffer::Kind::kInput;
  b.name = node().name;
  b.dtype = dtype();
  b.sizes = sizes();
  b.strides = options_.input_strides.empty() ? node().type().strides : options_.input_strides[number];
  b.is_fixed = true;
  b.node = current_;
  result_.inputs.push_back(id);
  Define(Realized(id));
}

void Lowering::Realize(BoxId id) {
  if (boxes_[id].realized()) return;
  const BufferId b = AddBuffer(Buffer::Kind::kLoops, boxes_[id].dtype, boxes_[id].sizes);
  Operation op;
  op.sizes = boxes_[id].sizes;
  op.body = boxes_[id].body;
  op.reads_memory = expressions().Count(op.body).loads > 0;
  const OperationId added = AddOperation(std::move(op), b);
  if (!current_.valid() || !IsViewNode(node().kind)) result_.operations[added].origin = boxes_[id].node;
  boxes_[id].buffer = b;
}

Value Lowering::Copy(const Value& v) {
  Value copy = Lazy(box(v).dtype, v.sizes, LoadAt(v, Identity(v.sizes), RangesOf(v.sizes)));
  Realize(copy.box);
  return copy;
}

ExpressionId Lowering::LoadAt(const Value& v, std::vector<Index> at, const std::vector<Extent>& ranges,
                              const std::vector<ExpressionId>& indirect) {
  const Box& b = box(v);
  if (v.form == Value::Form::kIndexed) {
    for (Index& index : at) index.Normalize(ranges);
    std::vector<Index> inner;
    for (const Index& m : v.map) inner.push_back(m.Substitute(at, ranges));
    at = std::move(inner);
  }
  if (v.form == Value::Form::kStrided || !v.strides.empty()) {
    Index linear(v.offset);
    for (int i = 0; i < v.strides.size(); ++i) linear = linear + at[static_cast<size_t>(i)] * v.strides[i];
    linear.Normalize(ranges);
    return AddLoad(b.buffer, {linear}, true, indirect);
  }
  if (!b.realized()) return expressions().Substitute(b.body, at, ranges, indirect);
  const Buffer& buffer = result_.buffers[b.buffer];
  if (IsInlined(buffer)) {
    return expressions().Substitute(result_.operations[buffer.operation].body, at, ranges, indirect);
  }
  return AddLoad(b.buffer, std::move(at), false, indirect);
}

bool Lowering::IsInlined(const Buffer& b) {
  if (b.kind != Buffer::Kind::kLoops) return false;
  const Operation& op = result_.operations[b.operation];
  return op.kind == Operation::Kind::kLoops && !op.is_reduction() && !op.reads_memory &&
         std::ranges::find(mutated_, b.name) == mutated_.end();
}

ExpressionId Lowering::AddLoad(BufferId id, std::vector<Index> indices, bool is_linear,
                               const std::vector<ExpressionId>& indirect) {
  Expression load;
  load.kind = ExpressionKind::kLoad;
  load.dtype = result_.buffers[id].dtype;
  load.buffer = id;
  load.is_linear = is_linear;
  load.indices = std::move(indices);
  if (std::ranges::any_of(load.indices, [](const Index& i) { return i.IsIndirect(); })) load.operands = indirect;
  return expressions().Add(std::move(load));
}

ExpressionId Lowering::LoadBroadcast(Value& v, const Shape& to) {
  RealizeIfStretched(v, to);
  std::vector<Index> at;
  const int leading = to.size() - v.sizes.size();
  for (int i = 0; i < v.sizes.size(); ++i) {
    at.push_back(v.sizes[i].is(1) ? Index() : Index::Variable(i + leading));
  }
  // A buffer is stretched by strides of 0: a view, which is read, even if its elements could be computed.
  if (v.form == Value::Form::kPlain && box(v).realized() && !(v.sizes == to) && IsInlined(buffer(v))) {
    FixForView(v);
    return LoadAt(Strided(v, v.sizes, buffer(v).strides, 0), std::move(at), RangesOf(to));
  }
  return LoadAt(v, std::move(at), RangesOf(to));
}

void Lowering::RealizeIfStretched(const Value& v, const Shape& to) {
  if (v.sizes == to || box(v).realized()) return;
  if (Product(to).hint() / Product(v.sizes).hint() <= 1) return;
  if (expressions().Count(box(v).body).operations > kOperationsAtMost) Realize(v.box);
}

LoweredGraph Lower(const FunctionalGraph& graph, const LoweringOptions& options, const DeviceSpec& device) {
  return Lowering(graph, options, device).Run();
}

}  // namespace tidemark::compile
