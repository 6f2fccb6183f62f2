#include "passes/compile/lower.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>

#include "graph/base/check.h"
#include "passes/compile/layout.h"
#include "passes/compile/split_reduction.h"

namespace tidemark::compile {
namespace {

constexpr int kReadsOfReused = 4;           // realize_reads_threshold
constexpr int kReadsAtMost = 8;             // realize_acc_reads_threshold
constexpr int kOperationsAtMost = 30;       // realize_opcount_threshold
constexpr int64_t kUnrolledBelow = 8;       // unroll_reductions_threshold
constexpr size_t kPointwiseCatAtMost = 8;   // max_pointwise_cat_inputs
constexpr int64_t kAttentionAlignment = 8;  // in elements

using BoxId = Id<struct BoxTag>;

// A value that may never exist: an expression over its own indices, until it is realized.
struct Box {
  DType dtype = DType::kFloat32;
  Shape sizes;
  ExpressionId body;
  BufferId buffer;  // once realized
  bool realized() const { return buffer.valid(); }
};

// A box as a node's value sees it.
struct Value {
  enum class Form : uint8_t {
    kPlain,    // as it is
    kIndexed,  // element i is the box's element map(i)
    kStrided,  // strides and an offset on the box's buffer
  };
  Form form = Form::kPlain;
  BoxId box;
  Shape sizes;
  std::vector<Index> map;
  Shape strides;
  Extent offset = 0;
};

std::vector<Extent> RangesOf(const Shape& sizes) { return {sizes.begin(), sizes.end()}; }

// Index i for dimension i; 0 where there is only one element.
std::vector<Index> Identity(const Shape& sizes) {
  std::vector<Index> indices;
  for (int i = 0; i < sizes.size(); ++i) indices.push_back(sizes[i].is(1) ? Index() : Index::Variable(i));
  return indices;
}

bool IsAttention(OpKind kind) {
  return kind == OpKind::kFlashForward || kind == OpKind::kFlashBackward || kind == OpKind::kEfficientForward ||
         kind == OpKind::kEfficientBackward;
}

bool NeedsRealizedInputs(OpKind kind) {
  return kind == OpKind::kMm || kind == OpKind::kAddmm || kind == OpKind::kBmm || IsAttention(kind);
}

class Lowering {
 public:
  Lowering(const FunctionalGraph& graph, const LoweringOptions& options, const DeviceSpec& device)
      : graph_(graph), options_(options), device_(device), users_(graph.Users()), is_output_(graph.IsOutput()) {
    values_.resize(graph.nodes.size());
    parts_.resize(graph.nodes.size());
    result_.is_symbolic = options.is_symbolic;
    MarkUnpadded();
  }

  LoweredGraph Run() {
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

 private:
  const FunctionalNode& node() const { return graph_.nodes[current_]; }
  const Shape& sizes() const { return node().type().sizes; }
  DType dtype() const { return node().type().dtype; }
  Value& in(size_t i) { return values_[node().inputs[i]]; }
  Box& box(const Value& v) { return boxes_[v.box]; }
  Buffer& buffer(const Value& v) { return result_.buffers[box(v).buffer]; }
  Expressions& expressions() { return result_.expressions; }
  void Define(Value v) { values_[current_] = std::move(v); }

  // --- Layouts

  // Outputs that a user sees, and what they are views of, are never padded.
  void MarkUnpadded() {
    unpadded_.resize(graph_.nodes.size());
    for (size_t i = 0; i < options_.visible_outputs; ++i) {
      NodeId id = graph_.outputs[i];
      if (id.valid()) is_visible_.push_back(id);
      while (id.valid()) {
        unpadded_[id.index()] = true;
        const FunctionalNode& n = graph_.nodes[id];
        const bool is_view = n.kind == OpKind::kView || n.kind == OpKind::kPermute || n.kind == OpKind::kExpand ||
                             n.kind == OpKind::kSlice || n.kind == OpKind::kUnsqueeze || n.kind == OpKind::kSqueeze;
        id = is_view ? n.inputs[0] : NodeId();
      }
    }
  }

  Shape Padded(const Shape& strides, const Buffer& b) const {
    if (current_.valid() && unpadded_[current_.index()]) return strides;
    return options_.is_symbolic && DependsOnLength(b) ? strides : PadStrides(strides, b.sizes, b.dtype);
  }
  static bool DependsOnLength(const Buffer& b) {
    return std::ranges::any_of(b.sizes, [](Extent e) { return e.hint() != e.now(); });
  }

  void Fix(Buffer& b, const Shape& strides, bool allow_padding) {
    b.strides = allow_padding ? Padded(strides, b) : strides;
    b.is_fixed = true;
  }
  void FreezeLayout(Buffer& b) {
    if (!b.is_fixed) Fix(b, b.strides, true);
  }

  // Fills dimensions in the order in which what it reads has them.
  void DecideLayout(Buffer& b) {
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

  // The distinct elements that a loop nest reads, as indices of storage.
  std::vector<Index> ReadsOf(const Operation& op) {
    std::vector<Extent> ranges = RangesOf(op.sizes);
    for (const Extent e : op.reduced) ranges.push_back(e);
    std::vector<Index> reads;
    for (const ExpressionId id : expressions().Nodes(op.body)) {
      const Expression& e = expressions()[id];
      if (e.kind == ExpressionKind::kLoad) reads.push_back(result_.Linear(e, ranges));
    }
    return reads;
  }

  void Complete(BufferView& view) {
    if (!view.buffer.valid() || !view.strides.empty() || view.sizes.empty()) return;
    view.strides = result_.buffers[view.buffer].strides;
  }

  bool IsStorage(const Value& v) {
    return v.form == Value::Form::kStrided || (v.form == Value::Form::kPlain && box(v).realized());
  }
  Shape StridesOf(const Value& v) { return v.form == Value::Form::kStrided ? v.strides : buffer(v).strides; }

  // --- Boxes and buffers

  BoxId AddBox(DType dtype, const Shape& sizes, ExpressionId body) {
    Box b;
    b.dtype = dtype;
    b.sizes = sizes;
    b.body = body;
    return boxes_.Add(b);
  }
  Value Plain(BoxId id) { return {.box = id, .sizes = boxes_[id].sizes}; }
  Value Lazy(DType dtype, const Shape& sizes, ExpressionId body) { return Plain(AddBox(dtype, sizes, body)); }

  BufferId AddBuffer(Buffer::Kind kind, DType dtype, const Shape& sizes) {
    Buffer b;
    b.kind = kind;
    b.name = fmt::format("buf{}", buffer_count_++);
    b.dtype = dtype;
    b.sizes = sizes;
    b.strides = Contiguous(sizes);
    b.node = current_;
    return result_.buffers.Add(std::move(b));
  }

  OperationId AddOperation(Operation op, BufferId id) {
    op.result = id;
    op.node = current_;
    const OperationId operation = result_.operations.Add(std::move(op));
    result_.buffers[id].operation = operation;
    return operation;
  }

  Value Realized(BufferId id) {
    const Buffer& b = result_.buffers[id];
    const BoxId added = AddBox(b.dtype, b.sizes, ExpressionId());
    boxes_[added].buffer = id;
    return Plain(added);
  }

  void AddInput() {
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

  void Realize(BoxId id) {
    if (boxes_[id].realized()) return;
    const BufferId b = AddBuffer(Buffer::Kind::kLoops, boxes_[id].dtype, boxes_[id].sizes);
    Operation op;
    op.sizes = boxes_[id].sizes;
    op.body = boxes_[id].body;
    op.reads_memory = expressions().Count(op.body).loads > 0;
    AddOperation(std::move(op), b);
    boxes_[id].buffer = b;
  }

  // A copy of what v shows, in memory of its own.
  Value Copy(const Value& v) {
    Value copy = Lazy(box(v).dtype, v.sizes, LoadAt(v, Identity(v.sizes), RangesOf(v.sizes)));
    Realize(copy.box);
    return copy;
  }

  // --- Loads

  // The element of v at an index over variables below `ranges`.
  ExpressionId LoadAt(const Value& v, std::vector<Index> at, const std::vector<Extent>& ranges,
                      const std::vector<ExpressionId>& indirect = {}) {
    const Box& b = box(v);
    if (v.form == Value::Form::kStrided) {
      Index linear(v.offset);
      for (int i = 0; i < v.sizes.size(); ++i) linear = linear + at[static_cast<size_t>(i)] * v.strides[i];
      linear.Normalize(ranges);
      return AddLoad(b.buffer, {linear}, true, indirect);
    }
    if (v.form == Value::Form::kIndexed) {
      for (Index& index : at) index.Normalize(ranges);
      std::vector<Index> inner;
      for (const Index& m : v.map) inner.push_back(m.Substitute(at, ranges));
      at = std::move(inner);
    }
    if (!b.realized()) return expressions().Substitute(b.body, at, ranges, indirect);
    const Buffer& buffer = result_.buffers[b.buffer];
    if (IsInlined(buffer)) {
      return expressions().Substitute(result_.operations[buffer.operation].body, at, ranges, indirect);
    }
    return AddLoad(b.buffer, std::move(at), false, indirect);
  }

  // What can be computed from nothing isn't read from memory.
  bool IsInlined(const Buffer& b) {
    if (b.kind != Buffer::Kind::kLoops) return false;
    const Operation& op = result_.operations[b.operation];
    return op.kind == Operation::Kind::kLoops && !op.is_reduction() && !op.reads_memory &&
           std::ranges::find(mutated_, b.name) == mutated_.end();
  }

  ExpressionId AddLoad(BufferId id, std::vector<Index> indices, bool is_linear,
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

  // The element of an operand for element `at` of a result of sizes `to`: stretched where it has size 1.
  ExpressionId LoadBroadcast(Value& v, const Shape& to) {
    RealizeIfStretched(v, to);
    std::vector<Index> at;
    const int leading = to.size() - v.sizes.size();
    for (int i = 0; i < v.sizes.size(); ++i) {
      at.push_back(v.sizes[i].is(1) ? Index() : Index::Variable(i + leading));
    }
    return LoadAt(v, std::move(at), RangesOf(to));
  }

  void RealizeIfStretched(const Value& v, const Shape& to) {
    if (v.sizes == to || box(v).realized()) return;
    if (Product(to).hint() / Product(v.sizes).hint() <= 1) return;
    if (expressions().Count(box(v).body).operations > kOperationsAtMost) Realize(v.box);
  }

  // --- Views

  Value Strided(const Value& v, const Shape& sizes, const Shape& strides, Extent offset) {
    return {.form = Value::Form::kStrided, .box = v.box, .sizes = sizes, .strides = strides, .offset = offset};
  }

  // v through a map from indices of `sizes` to its own.
  Value Indexed(const Value& v, const Shape& sizes, std::vector<Index> map) {
    if (v.form == Value::Form::kIndexed) {
      std::vector<Index> composed;
      for (const Index& m : v.map) composed.push_back(m.Substitute(map, RangesOf(sizes)));
      map = std::move(composed);
    }
    return {.form = Value::Form::kIndexed, .box = v.box, .sizes = sizes, .map = std::move(map)};
  }

  void FixForView(const Value& v) {
    if (v.form == Value::Form::kPlain) DecideLayout(buffer(v));
  }

  Value View(const Value& v, const Shape& sizes) {
    if (v.sizes == sizes) return v;
    if (!IsStorage(v)) return Indexed(v, sizes, ReshapeIndices(v.sizes, sizes));
    if (SameStrides(StridesOf(v), Contiguous(v.sizes), v.sizes)) {
      if (v.form == Value::Form::kPlain && !buffer(v).is_fixed) Fix(buffer(v), Contiguous(v.sizes), false);
      return Strided(v, sizes, Contiguous(sizes), v.offset);
    }
    const std::optional<Shape> strides = StridesOfReshape(v.sizes, StridesOf(v), sizes);
    if (strides.has_value()) return Strided(v, sizes, *strides, v.offset);
    return Indexed(v, sizes, ReshapeIndices(v.sizes, sizes));
  }

  Value Permute(const Value& v, int64_t order) {
    Shape sizes;
    Shape strides;
    std::vector<Index> map(static_cast<size_t>(v.sizes.size()));
    if (IsStorage(v)) FixForView(v);
    for (int i = 0; i < v.sizes.size(); ++i) {
      const int from = static_cast<int>(order >> (4 * i) & 15);
      sizes.Append(v.sizes[from]);
      if (IsStorage(v)) strides.Append(StridesOf(v)[from]);
      map[static_cast<size_t>(from)] = v.sizes[from].is(1) ? Index() : Index::Variable(i);
    }
    return IsStorage(v) ? Strided(v, sizes, strides, v.offset) : Indexed(v, sizes, std::move(map));
  }

  Value Expand(const Value& v, const Shape& sizes) {
    if (v.sizes == sizes) return v;
    RealizeIfStretched(v, sizes);
    const int leading = sizes.size() - v.sizes.size();
    if (IsStorage(v)) {
      FixForView(v);
      Shape strides;
      for (int i = 0; i < sizes.size(); ++i) {
        const bool stretched = i < leading || (v.sizes[i - leading].is(1) && !sizes[i].is(1));
        strides.Append(stretched ? Extent(0) : StridesOf(v)[i - leading]);
      }
      return Strided(v, sizes, strides, v.offset);
    }
    std::vector<Index> map;
    for (int i = 0; i < v.sizes.size(); ++i) map.push_back(v.sizes[i].is(1) ? Index() : Index::Variable(i + leading));
    return Indexed(v, sizes, std::move(map));
  }

  Value Slice(const Value& v, int dim, Extent begin, Extent length) {
    Shape sizes = v.sizes;
    sizes[dim] = length;
    if (v.sizes == sizes) return v;
    if (IsStorage(v)) {
      FixForView(v);
      return Strided(v, sizes, StridesOf(v), v.offset + StridesOf(v)[dim] * begin);
    }
    std::vector<Index> map = Identity(sizes);
    map[static_cast<size_t>(dim)] = map[static_cast<size_t>(dim)].Pinned(true) + Index(begin);
    return Indexed(v, sizes, std::move(map));
  }

  // --- Operands of library calls

  BufferView RealizeInput(Value& v) {
    if (v.form == Value::Form::kStrided) return {box(v).buffer, v.sizes, v.strides, v.offset};
    Realize(v.box);
    if (v.form == Value::Form::kPlain) return {box(v).buffer, v.sizes, {}, 0};
    if (MakeStrided(v)) return {box(v).buffer, v.sizes, v.strides, v.offset};
    v = Copy(v);
    return {box(v).buffer, v.sizes, {}, 0};
  }

  // An indexed view of a buffer as strides, if it has some.
  bool MakeStrided(Value& v) {
    if (!box(v).realized()) return false;
    FreezeLayout(buffer(v));
    const Buffer& b = buffer(v);
    Index linear;
    for (int i = 0; i < b.sizes.size(); ++i) linear = linear + v.map[static_cast<size_t>(i)] * b.strides[i];
    linear = linear.Pinned(false);
    linear.Normalize(RangesOf(v.sizes));
    if (!linear.IsAffine()) return false;
    Shape strides;
    for (int i = 0; i < v.sizes.size(); ++i) strides.Append(linear.StrideOf(i));
    v = Strided(v, v.sizes, strides, linear.offset());
    return true;
  }

  // --- After each node: what is written now

  void AfterNode() {
    Value& v = values_[current_];
    const bool is_output = is_output_[current_.index()];
    if (is_output) {
      if (v.form != Value::Form::kPlain) Realize(v.box);
      RequireOutputStrides(v);
    }
    const size_t users = users_[current_].size() + (is_output ? 1 : 0);
    if (users > 1) {
      for (const NodeId user : users_[current_]) {
        const OpKind kind = graph_.nodes[user].kind;
        if (!NeedsRealizedInputs(kind)) continue;
        RealizeHint(v);
        if (kind == OpKind::kMm) RequireStrideOrder(v, node().type().strides, true);
      }
      const bool lazy = v.form == Value::Form::kPlain && !box(v).realized();
      if (is_output && lazy) {
        const Expressions::Counts counts = expressions().Count(box(v).body);
        if (counts.loads > 0 || counts.operations > kOperationsAtMost) Realize(v.box);
      }
      MarkReuse(v);
    }
    if (!box(v).realized()) {
      const Expressions::Counts counts = expressions().Count(box(v).body);
      if (counts.loads > kReadsAtMost || counts.operations > kOperationsAtMost) RealizeHint(v);
    }
  }

  void RealizeHint(const Value& v) {
    if (!box(v).realized() && expressions().Count(box(v).body).nontrivial_loads > 1) Realize(v.box);
  }

  void MarkReuse(const Value& v) {
    if (box(v).realized()) return;
    const Expressions::Counts counts = expressions().Count(box(v).body);
    if (counts.operations > kOperationsAtMost || counts.loads > kReadsOfReused) Realize(v.box);
  }

  void RequireOutputStrides(Value& v) {
    const Shape& strides = node().type().strides;
    if (strides.empty()) return;
    const bool visible = std::ranges::find(is_visible_, current_) != is_visible_.end();
    const bool is_view = v.form != Value::Form::kPlain || IsViewNode(node().kind);
    if (is_view) return RequireStrideOrder(v, strides, !visible);
    RequireExactStrides(v, strides, !visible);
  }

  static bool IsViewNode(OpKind kind) {
    return kind == OpKind::kView || kind == OpKind::kPermute || kind == OpKind::kExpand || kind == OpKind::kSlice ||
           kind == OpKind::kUnsqueeze || kind == OpKind::kSqueeze;
  }

  // v with its dimensions in the order that `like` has; a copy if need be.
  void RequireStrideOrder(Value& v, const Shape& like, bool allow_padding) {
    const Extent elements = Product(v.sizes);
    if (elements.is(0) || elements.is(1)) return;
    const std::vector<int> order = StrideOrder(like);
    if (IsStorage(v)) {
      if (v.form == Value::Form::kPlain && !buffer(v).is_fixed) {
        Buffer& b = buffer(v);
        if (IsStrideOrdered(b.strides, b.sizes, order)) return FreezeLayout(b);
        return Fix(b, StrideOrdered(b.sizes, order), allow_padding);
      }
      if (IsStrideOrdered(StridesOf(v), v.sizes, order)) return;
    }
    if (v.form == Value::Form::kIndexed && MakeStrided(v)) return RequireStrideOrder(v, like, allow_padding);
    v = Copy(v);
    Buffer& b = buffer(v);
    Fix(b, StrideOrdered(b.sizes, order), allow_padding);
  }

  void RequireExactStrides(Value& v, const Shape& strides, bool allow_padding) {
    if (IsStorage(v)) {
      if (v.form == Value::Form::kPlain && !buffer(v).is_fixed) return Fix(buffer(v), strides, allow_padding);
      if (SameStrides(StridesOf(v), strides, v.sizes)) return;
      if (allow_padding && SameStrides(StridesOf(v), Padded(strides, buffer(v)), v.sizes)) return;
    }
    if (v.form == Value::Form::kIndexed && MakeStrided(v)) return RequireExactStrides(v, strides, allow_padding);
    v = Copy(v);
    Fix(buffer(v), strides, allow_padding);
  }

  // --- Nodes

  void LowerNode();
  bool LowerView();
  bool LowerPointwise();

  using Compute = std::function<ExpressionId(const std::vector<ExpressionId>&)>;
  // A result whose element is computed from the operands' elements at the same index.
  void Pointwise(const Compute& compute) {
    std::vector<ExpressionId> operands;
    for (const NodeId input : node().inputs) operands.push_back(LoadBroadcast(values_[input], sizes()));
    Define(Lazy(dtype(), sizes(), compute(operands)));
  }

  ExpressionId Call(std::string_view name, std::vector<ExpressionId> operands, DType type) {
    return expressions().Call(name, std::move(operands), type);
  }
  ExpressionId Cast(ExpressionId e, DType to) { return expressions()[e].dtype == to ? e : Call("to_dtype", {e}, to); }
  ExpressionId NumberAs(DType type) { return expressions().Constant(node().number, node().number_is_integer, type); }

  // An operation on operands of one dtype: the result's, or for comparisons the operands' common one.
  void Arithmetic(std::string_view name, DType type) {
    Pointwise([&](const std::vector<ExpressionId>& given) {
      std::vector<ExpressionId> operands;
      for (const ExpressionId e : given) operands.push_back(Cast(e, type));
      if (node().has_number) operands.push_back(NumberAs(type));
      if (node().kind == OpKind::kSub && node().integer[0].is(1)) std::swap(operands[0], operands[1]);
      return Call(name, std::move(operands), dtype());
    });
  }

  void Power() {
    const auto exponent = static_cast<int>(node().number);
    CHECK(exponent == node().number && exponent > 0);
    Pointwise([&](const std::vector<ExpressionId>& operands) {
      const std::function<ExpressionId(int)> power = [&](int n) -> ExpressionId {
        if (n == 1) return operands[0];
        const ExpressionId half = power(n / 2);
        const ExpressionId square = Call("mul", {half, half}, dtype());
        return n % 2 == 1 ? Call("mul", {square, operands[0]}, dtype()) : square;
      };
      return power(exponent);
    });
  }

  void Divide() {
    if (!node().has_number) return Arithmetic("truediv", dtype());
    Pointwise([&](const std::vector<ExpressionId>& operands) {
      const ExpressionId inverse = expressions().Constant(1 / node().number, false, dtype());
      return Call("mul", {Cast(operands[0], dtype()), inverse}, dtype());
    });
  }

  static std::string_view NameOf(Comparison how) {
    switch (how) {
      case Comparison::kEqual:
        return "eq";
      case Comparison::kNotEqual:
        return "ne";
      case Comparison::kLess:
        return "lt";
      case Comparison::kLessEqual:
        return "le";
      case Comparison::kGreater:
        return "gt";
      case Comparison::kGreaterEqual:
        return "ge";
    }
    return "";
  }

  void Compare() {
    DType type = box(in(0)).dtype;
    if (node().inputs.size() > 1) type = std::max(type, box(in(1)).dtype);
    Arithmetic(NameOf(static_cast<Comparison>(node().integer[0].hint())), type);
  }

  void Where() {
    Pointwise([&](const std::vector<ExpressionId>& operands) {
      return Call("where", {operands[0], Cast(operands[1], dtype()), Cast(operands[2], dtype())}, dtype());
    });
  }

  // out[i, c] = weight[indices[i], c]
  void Embedding() {
    Value& weight = in(0);
    Value& indices = in(1);
    const std::vector<Extent> ranges = RangesOf(sizes());
    std::vector<Index> at = Identity(sizes());
    const Index column = at.back();
    at.pop_back();
    const ExpressionId row = LoadAt(indices, std::move(at), ranges);
    Define(Lazy(dtype(), sizes(), LoadAt(weight, {Index::Variable(kIndirectVariable), column}, ranges, {row})));
  }

  // out[i, j] = x[i, index[i, j]]
  void Gather() {
    const std::vector<Extent> ranges = RangesOf(sizes());
    std::vector<Index> at = Identity(sizes());
    const ExpressionId index = LoadAt(in(1), at, ranges);
    at.back() = Index::Variable(kIndirectVariable);
    Define(Lazy(dtype(), sizes(), LoadAt(in(0), std::move(at), ranges, {index})));
  }

  void Random() {
    const std::vector<Extent> ranges = RangesOf(sizes());
    const ExpressionId seed = LoadAt(in(0), {}, ranges);
    Index linear;
    const Shape strides = Contiguous(sizes());
    const std::vector<Index> at = Identity(sizes());
    for (int i = 0; i < sizes().size(); ++i) linear = linear + at[static_cast<size_t>(i)] * strides[i];
    linear.Normalize(ranges);
    const ExpressionId index = expressions().IndexValue(linear, DType::kInt32);
    Define(Lazy(dtype(), sizes(), Call("rand", {seed, index}, dtype())));
    Realize(values_[current_].box);
  }

  void Seeds() {
    const BufferId b = AddBuffer(Buffer::Kind::kExtern, dtype(), sizes());
    result_.buffers[b].is_fixed = true;
    Operation op;
    op.kind = Operation::Kind::kExtern;
    op.call = OpKind::kSeeds;
    AddOperation(std::move(op), b);
    Define(Realized(b));
  }

  void LookupSeed() {
    const ExpressionId seed = AddLoad(box(in(0)).buffer, {Index(node().integer[0])}, true, {});
    Define(Lazy(dtype(), sizes(), seed));
  }

  // --- Cat. Source: PyTorch 2.14, torch/_inductor/lowering.py (cat).

  // torch.Tag.pointwise
  static bool IsPointwise(OpKind kind) {
    switch (kind) {
      case OpKind::kToCopy:
      case OpKind::kClone:
      case OpKind::kAdd:
      case OpKind::kSub:
      case OpKind::kMul:
      case OpKind::kDiv:
      case OpKind::kNeg:
      case OpKind::kExp:
      case OpKind::kErf:
      case OpKind::kLog:
      case OpKind::kRsqrt:
      case OpKind::kSigmoid:
      case OpKind::kTanh:
      case OpKind::kRelu:
      case OpKind::kSin:
      case OpKind::kCos:
      case OpKind::kLogicalAnd:
      case OpKind::kPow:
      case OpKind::kCompare:
      case OpKind::kWhere:
        return true;
      default:
        return false;
    }
  }

  // Whether all that becomes of the value at `user` is pointwise; views are looked through.
  bool IsPointwiseUse(NodeId user, bool or_cat) const {
    const OpKind kind = graph_.nodes[user].kind;
    if (IsViewNode(kind) || kind == OpKind::kGetItem || kind == OpKind::kSplit) {
      if (is_output_[user.index()]) return false;
      return std::ranges::all_of(users_[user], [&](NodeId next) { return IsPointwiseUse(next, or_cat); });
    }
    return IsPointwise(kind) || (or_cat && (kind == OpKind::kCat || kind == OpKind::kConstantPad));
  }

  // A value that can't be written into its place without a copy, or that needn't be written at all.
  bool IsBetterLoaded(const Value& v) {
    if (!box(v).realized()) return true;
    return buffer(v).is_fixed || (buffer(v).kind != Buffer::Kind::kLoops && buffer(v).kind != Buffer::Kind::kExtern);
  }

  bool ComesFromReduction(BufferId id) const {
    const Buffer& b = result_.buffers[id];
    if (b.kind != Buffer::Kind::kLoops || !b.operation.valid()) return false;
    const Operation& op = result_.operations[b.operation];
    return op.is_reduction() || (op.kind == Operation::Kind::kLoops && ReadsReduction(op.body));
  }
  bool ReadsReduction(ExpressionId body) const {
    return std::ranges::any_of(result_.expressions.Nodes(body), [&](ExpressionId id) {
      const Expression& e = result_.expressions[id];
      return e.kind == ExpressionKind::kLoad && ComesFromReduction(e.buffer);
    });
  }

  // Whether somebody else needs an operand, too, so that it is better written once, in its place.
  bool HasSharedOperand(const std::vector<Value>& parts) {
    for (size_t i = 0; i < node().inputs.size(); ++i) {
      const NodeId input = node().inputs[i];
      if (users_[input].size() + (is_output_[input.index()] ? 1 : 0) <= 1) continue;
      const bool pointwise = std::ranges::any_of(
          users_[input], [&](NodeId user) { return user != current_ && IsPointwiseUse(user, false); });
      const bool lazy = !boxes_[parts[i].box].realized();
      if (pointwise || lazy) return true;
    }
    return false;
  }

  void Concatenate(std::vector<Value> parts, int dim) {
    const bool is_output = is_output_[current_.index()];
    const bool pointwise_uses =
        !is_output && std::ranges::all_of(users_[current_], [&](NodeId user) { return IsPointwiseUse(user, true); });
    bool any = false;
    bool all = true;
    bool reduction = false;
    for (const Value& v : parts) {
      const bool better = IsBetterLoaded(v);
      any = any || better;
      all = all && better;
      const bool reads = box(v).realized() ? ComesFromReduction(box(v).buffer) : ReadsReduction(box(v).body);
      reduction = reduction || reads;
    }
    const bool pointwise = parts.size() <= kPointwiseCatAtMost && !HasSharedOperand(parts) &&
                           ((any && pointwise_uses) || (all && !reduction));
    pointwise ? PointwiseCat(parts, dim) : WriteInPlaces(std::move(parts), dim);
  }

  // Each part is written to its place in one buffer.
  void WriteInPlaces(std::vector<Value> parts, int dim) {
    Buffer whole;
    whole.kind = Buffer::Kind::kConcat;
    whole.dtype = dtype();
    whole.sizes = sizes();
    whole.strides = options_.is_symbolic && DependsOnLength(whole) ? Contiguous(sizes())
                                                                   : PadStrides(Contiguous(sizes()), sizes(), dtype());
    whole.is_fixed = true;
    whole.node = current_;
    const BufferId id = result_.buffers.Add(whole);
    Operation op;
    op.kind = Operation::Kind::kConcat;
    Extent begin = 0;
    for (Value& v : parts) {
      if (v.form == Value::Form::kPlain) Realize(v.box);
      const bool free = v.form == Value::Form::kPlain && !IsBetterLoaded(v);
      if (!free) v = Copy(v);
      Buffer& part = buffer(v);
      part.within = id;
      part.offset = begin * whole.strides[dim];
      part.strides = whole.strides;
      part.is_fixed = true;
      op.operands.push_back({box(v).buffer, {}, {}, 0});
      begin += v.sizes[dim];
    }
    result_.buffers[id].name = fmt::format("buf{}", buffer_count_++);
    AddOperation(std::move(op), id);
    Define(Realized(id));
  }

  void Cat() {
    std::vector<Value> parts;
    for (size_t i = 0; i < node().inputs.size(); ++i) parts.push_back(in(i));
    Concatenate(std::move(parts), static_cast<int>(node().integer[0].hint()));
  }

  // Behind the last element of a row, numbers: a cat with a constant.
  void Pad() {
    const int last = sizes().size() - 1;
    Shape rest = in(0).sizes;
    rest[last] = sizes()[last] - in(0).sizes[last];
    const bool is_integer = dtype() == DType::kInt64;
    Value fill = Lazy(dtype(), rest, expressions().Constant(node().number, is_integer, dtype()));
    Concatenate({in(0), fill}, last);
  }

  // in0 with in1 from integer[1] up to integer[2] in a dimension.
  void SliceScatter() {
    const int dim = static_cast<int>(node().integer[0].hint());
    const Extent begin = node().integer[1];
    const Extent end = node().integer[2];
    const std::vector<Extent> ranges = RangesOf(sizes());
    std::vector<Index> at = Identity(sizes());
    const ExpressionId position = expressions().IndexValue(at[static_cast<size_t>(dim)], DType::kInt64);
    std::vector<ExpressionId> conditions;
    if (!begin.is(0)) {
      conditions.push_back(Call("ge", {position, expressions().IndexValue(Index(begin), DType::kInt64)}, DType::kBool));
    }
    if (!(end == sizes()[dim])) {
      conditions.push_back(Call("lt", {position, expressions().IndexValue(Index(end), DType::kInt64)}, DType::kBool));
    }
    const ExpressionId old = LoadAt(in(0), at, ranges);
    at[static_cast<size_t>(dim)] = at[static_cast<size_t>(dim)] + Index(Extent(0) - begin);
    const ExpressionId source = LoadAt(in(1), at, ranges);
    if (conditions.empty()) return Define(Lazy(dtype(), sizes(), source));
    const ExpressionId mask =
        conditions.size() == 1 ? conditions[0] : Call("and_", {conditions[0], conditions[1]}, DType::kBool);
    Define(Lazy(dtype(), sizes(), Call("where", {mask, Masked(mask, source), old}, dtype())));
  }

  // in0[in1, in2, …]: an index that is computed from loop variables alone is one.
  void LookUp() {
    const std::vector<Extent> ranges = RangesOf(sizes());
    std::vector<Index> at;
    std::vector<ExpressionId> indirect;
    for (size_t i = 1; i < node().inputs.size(); ++i) {
      const ExpressionId value = LoadBroadcast(in(i), sizes());
      if (expressions()[value].kind == ExpressionKind::kIndexValue) {
        at.push_back(expressions()[value].indices[0]);
        continue;
      }
      at.push_back(Index::Variable(kIndirectVariable + static_cast<int>(indirect.size())));
      indirect.push_back(value);
    }
    Define(Lazy(dtype(), sizes(), LoadAt(in(0), std::move(at), ranges, indirect)));
  }

  // Running sums along the last dimension.
  void CumulativeSum() {
    const int last = sizes().size() - 1;
    Shape kept;
    for (int i = 0; i < last; ++i) kept.Append(sizes()[i]);
    const ExpressionId body = Cast(LoadAt(in(0), Identity(sizes()), RangesOf(sizes())), dtype());
    if (sizes()[last].is(1)) return Define(Lazy(dtype(), sizes(), body));
    const BufferId b = AddBuffer(Buffer::Kind::kLoops, dtype(), sizes());
    Operation op;
    op.sizes = kept;
    op.reduced = {sizes()[last]};
    op.body = body;
    op.reduction = ReductionKind::kScan;
    AddOperation(std::move(op), b);
    Define(Realized(b));
  }

  // Side by side along a dimension: each operand under a mask, shifted.
  void PointwiseCat(std::vector<Value>& parts, int dim) {
    const std::vector<Extent> ranges = RangesOf(sizes());
    const ExpressionId position = expressions().IndexValue(Identity(sizes())[static_cast<size_t>(dim)], DType::kInt64);
    std::vector<ExpressionId> masks;
    std::vector<ExpressionId> loads;
    std::vector<ExpressionId> unused;
    Extent begin = 0;
    const size_t count = parts.size();
    for (size_t i = 0; i < count; ++i) {
      const Extent end = begin + parts[i].sizes[dim];
      const ExpressionId low = i == 0 ? expressions().Constant(0, true, DType::kInt64)
                                      : expressions().IndexValue(Index(begin), DType::kInt64);
      const ExpressionId high = expressions().IndexValue(Index(end), DType::kInt64);
      const ExpressionId after = Call("ge", {position, low}, DType::kBool);
      const ExpressionId before = Call("lt", {position, high}, DType::kBool);
      unused.insert(unused.end(), {after, before});
      masks.push_back(i == 0 ? before : i == count - 1 ? after : Call("and_", {after, before}, DType::kBool));
      loads.push_back(Masked(masks.back(), Shifted(parts[i], dim, begin, ranges)));
      begin = end;
    }
    ExpressionId result = loads.back();
    for (size_t i = count - 1; i-- > 0;) {
      std::vector<ExpressionId> operands = {masks[i], loads[i], result};
      // The unused conditions count as operations, too.
      if (i == 0) operands.insert(operands.end(), unused.begin(), unused.end());
      result = Call("where", std::move(operands), dtype());
    }
    Define(Lazy(dtype(), sizes(), result));
  }

  ExpressionId Masked(ExpressionId mask, ExpressionId body) {
    return Call("masked", {mask, body}, expressions()[body].dtype);
  }

  // v at the index less `begin` in one dimension, which equals no other access.
  ExpressionId Shifted(Value& v, int dim, Extent begin, const std::vector<Extent>& ranges) {
    std::vector<Index> at = Identity(sizes());
    Index& index = at[static_cast<size_t>(dim)];
    index = index + Index(Extent(0) - begin);
    const ExpressionId loaded = LoadAt(v, std::move(at), ranges);
    return MarkOpaque(loaded);
  }

  ExpressionId MarkOpaque(ExpressionId root) {
    std::vector<std::pair<ExpressionId, ExpressionId>> now;
    const auto find = [&](ExpressionId old) {
      return std::ranges::find(now, old, &std::pair<ExpressionId, ExpressionId>::first)->second;
    };
    for (const ExpressionId id : expressions().Nodes(root)) {
      Expression e = expressions()[id];
      for (ExpressionId& operand : e.operands) operand = find(operand);
      if (e.kind == ExpressionKind::kLoad) e.is_opaque = true;
      now.emplace_back(id, expressions().Add(std::move(e)));
    }
    return find(root);
  }

  // A copy of the target, then values added at its rows.
  void IndexPut() {
    Value& target = in(0);
    Value& mask = in(1);
    Value& rows = in(2);
    Value& values = in(3);
    const Value copy = Copy(target);
    mutated_.push_back(buffer(copy).name);
    DecideLayout(buffer(copy));
    const Shape loops = values.sizes;
    const std::vector<Extent> ranges = RangesOf(loops);
    std::vector<Index> at = Identity(loops);
    const ExpressionId value = LoadAt(values, at, ranges);
    const ExpressionId kept = LoadBroadcast(mask, loops);
    at.pop_back();
    const BufferId mutation = AddBuffer(Buffer::Kind::kMutation, dtype(), sizes());
    result_.buffers[mutation].mutated = box(copy).buffer;
    result_.buffers[mutation].strides = buffer(copy).strides;
    result_.buffers[mutation].is_fixed = true;
    Operation op;
    op.kind = Operation::Kind::kScatter;
    op.sizes = loops;
    const ExpressionId zero = expressions().Constant(0, true, dtype());
    op.body = Call("where", {kept, Cast(value, dtype()), zero}, dtype());
    op.row = LoadAt(rows, std::move(at), ranges);
    AddOperation(std::move(op), mutation);
    Define(Realized(mutation));
  }

  // --- Reductions

  Shape ReducedSizes(const Shape& from, int mask) const {
    Shape reduced;
    for (int i = 0; i < from.size(); ++i) {
      if (mask >> i & 1) reduced.Append(from[i]);
    }
    return reduced;
  }

  // v's element for result index variables, then reduction variables.
  ExpressionId ReductionBody(Value& v, int mask, DType type) {
    std::vector<Index> at;
    std::vector<Extent> ranges = RangesOf(sizes());
    for (const Extent e : ReducedSizes(v.sizes, mask)) ranges.push_back(e);
    int kept = 0;
    int reduced = sizes().size();
    const bool keeps = sizes().size() == v.sizes.size();
    for (int i = 0; i < v.sizes.size(); ++i) {
      const bool is_reduced = mask >> i & 1;
      const int variable = is_reduced ? reduced++ : keeps ? i : kept;
      if (!is_reduced) ++kept;
      at.push_back(v.sizes[i].is(1) ? Index() : Index::Variable(variable));
    }
    return Cast(LoadAt(v, std::move(at), ranges), type);
  }

  BufferId AddReduction(ReductionKind kind, ExpressionId body, const Shape& kept, const Shape& reduced, DType type,
                        ReductionHint hint) {
    const BufferId b = AddBuffer(Buffer::Kind::kLoops, type, kept);
    Operation op;
    op.sizes = kept;
    op.reduced = reduced;
    op.body = body;
    op.reduction = kind;
    op.hint = hint;
    AddOperation(std::move(op), b);
    return b;
  }

  // Without loops: one value of the body for each of the few reduced indices, combined.
  ExpressionId Unrolled(ExpressionId body, const Shape& kept, const Shape& reduced, ReductionKind kind) {
    const auto count = Product(reduced).hint();
    ExpressionId result;
    for (int64_t n = 0; n < count; ++n) {
      std::vector<Index> map = Identity(kept);
      int64_t rest = n;
      std::vector<Index> tail(static_cast<size_t>(reduced.size()));
      for (int i = reduced.size(); i-- > 0;) {
        tail[static_cast<size_t>(i)] = Index(rest % reduced[i].hint());
        rest /= reduced[i].hint();
      }
      map.insert(map.end(), tail.begin(), tail.end());
      const ExpressionId one = expressions().Substitute(body, map, RangesOf(kept));
      const std::string_view name = kind == ReductionKind::kMax ? "maximum" : "add";
      result = n == 0 ? one : Call(name, {result, one}, expressions()[one].dtype);
    }
    return result;
  }

  static bool IsConstant(Extent e) { return e.hint() == e.now(); }

  // One reduction of `body`, in two steps where that gives more parallelism.
  Value Reduce(ReductionKind kind, ExpressionId body, const Shape& kept, const Shape& reduced, DType type) {
    const Extent length = Product(reduced);
    if (length.is(1) || (IsConstant(length) && length.hint() < kUnrolledBelow)) {
      return Lazy(type, kept, Unrolled(body, kept, reduced, kind));
    }
    const ReductionPlan plan = PlanOf(body, kept, reduced);
    if (plan.splits == 1) return Realized(AddReduction(kind, body, kept, reduced, type, plan.hint));
    return ReduceInSteps(kind, body, kept, reduced, type, plan);
  }

  ReductionPlan PlanOf(ExpressionId body, const Shape& kept, const Shape& reduced) {
    const int64_t results = Product(kept).hint();
    const int64_t length = Product(reduced).hint();
    const std::optional<ReductionPlan> easy = EasyReductionPlan(results, length, device_);
    if (easy.has_value()) return *easy;
    // What it reads has its final layout from here on.
    std::vector<Extent> ranges = RangesOf(kept);
    for (const Extent e : reduced) ranges.push_back(e);
    const auto counts = [&](const Index& read) { return UsesReduced(read, kept.size(), ranges); };
    std::vector<ExpressionId> loads;
    for (const ExpressionId id : expressions().Nodes(body)) {
      const Expression& e = expressions()[id];
      if (e.kind != ExpressionKind::kLoad || !counts(result_.Linear(e, ranges))) continue;
      loads.push_back(id);
      DecideLayout(result_.buffers[e.buffer]);
    }
    if (loads.empty()) return {};
    // Reads of everything decide, or, where there are none, those that vary along the reduction.
    const auto is_full = [&](ExpressionId id) { return IsFullRead(result_.Linear(expressions()[id], ranges), ranges); };
    if (std::ranges::any_of(loads, is_full)) std::erase_if(loads, [&](ExpressionId id) { return !is_full(id); });
    int inner = 0;
    int outer = 0;
    for (const ExpressionId id : loads) {
      const Index read = result_.Linear(expressions()[id], ranges);
      bool strided = true;
      for (int i = kept.size(); i < static_cast<int>(ranges.size()); ++i) {
        if (ranges[static_cast<size_t>(i)].is(1)) continue;
        const int64_t stride = read.StrideOf(i).hint();
        strided = strided && (stride == 0 || stride > 1);
      }
      ++(strided ? outer : inner);
    }
    return SplitReduction(results, length, inner > outer, device_);
  }

  static bool IsFullRead(const Index& read, const std::vector<Extent>& ranges) {
    for (size_t i = 0; i < ranges.size(); ++i) {
      if (!ranges[i].is(1) && !read.Uses(static_cast<int>(i))) return false;
    }
    return true;
  }
  static bool UsesReduced(const Index& read, int first, const std::vector<Extent>& ranges) {
    for (int i = first; i < static_cast<int>(ranges.size()); ++i) {
      if (read.Uses(i)) return true;
    }
    return false;
  }

  Value ReduceInSteps(ReductionKind kind, ExpressionId body, const Shape& kept, const Shape& reduced, DType type,
                      const ReductionPlan& plan) {
    const Extent length = Product(reduced);
    const Extent splits = plan.splits;
    const Extent block = (length + splits - 1) / splits;
    // Variables: the result's, the block's number, the place in the block.
    const int block_variable = kept.size();
    Shape partial_sizes = kept;
    partial_sizes.Append(splits);
    // First with one flat variable for all that is reduced, then that as block and place.
    std::vector<Extent> flat_ranges = RangesOf(kept);
    flat_ranges.push_back(length);
    std::vector<Index> flat = Identity(kept);
    for (const Index& index : ReshapeIndices(reduced, {length})) {
      flat.push_back(index.Substitute({Index::Variable(block_variable)}, flat_ranges));
    }
    const ExpressionId by_number = expressions().Substitute(body, flat, flat_ranges);
    std::vector<Extent> ranges = RangesOf(partial_sizes);
    ranges.push_back(block);
    std::vector<Index> map = Identity(kept);
    map.push_back(Index::Variable(block_variable) * block + Index::Variable(block_variable + 1));
    const ExpressionId by_block = expressions().Substitute(by_number, map, ranges);
    const DType partial_type = IsHalf(type) ? DType::kFloat32 : type;
    const ReductionPlan inner = PlanOf(by_block, partial_sizes, {block});
    Value partial;
    if (inner.splits > 1) {
      partial = ReduceInSteps(kind, by_block, partial_sizes, {block}, partial_type, inner);
    } else {
      partial = Realized(AddReduction(kind, by_block, partial_sizes, {block}, partial_type, plan.hint));
    }
    Operation& first = result_.operations[buffer(partial).operation];
    first.unsplit_results = Product(kept);
    first.unsplit_length = length;
    std::vector<Extent> last_ranges = RangesOf(kept);
    last_ranges.push_back(splits);
    std::vector<Index> at = Identity(kept);
    at.push_back(Index::Variable(block_variable));
    const ExpressionId last = LoadAt(partial, std::move(at), last_ranges);
    return Realized(AddReduction(kind, last, kept, {splits}, type, plan.hint));
  }

  void Sum() {
    const int mask = static_cast<int>(node().integer[0].hint());
    const ExpressionId body = ReductionBody(in(0), mask, dtype());
    Define(Reduce(ReductionKind::kSum, body, sizes(), ReducedSizes(in(0).sizes, mask), dtype()));
  }

  void Maximum() {
    const int mask = static_cast<int>(node().integer[0].hint());
    const ExpressionId body = ReductionBody(in(0), mask, dtype());
    Define(Reduce(ReductionKind::kMax, body, sizes(), ReducedSizes(in(0).sizes, mask), dtype()));
  }

  void Mean() {
    const int mask = static_cast<int>(node().integer[0].hint());
    const DType type = IsHalf(dtype()) ? DType::kFloat32 : dtype();
    const ExpressionId body = ReductionBody(in(0), mask, type);
    Value sum = Reduce(ReductionKind::kSum, body, sizes(), ReducedSizes(in(0).sizes, mask), type);
    const Extent count = Product(ReducedSizes(in(0).sizes, mask));
    const ExpressionId total = LoadAt(sum, Identity(sizes()), RangesOf(sizes()));
    const ExpressionId denominator = expressions().IndexValue(Index(count), type);
    Define(Lazy(dtype(), sizes(), Cast(Call("truediv", {total, denominator}, type), dtype())));
  }

  // Welford's algorithm: mean, sum of squares (M2) and a weight that nobody reads.
  void VarMean() {
    const int mask = static_cast<int>(node().integer[0].hint());
    const Shape kept = node().results[0].sizes;
    const DType type = node().results[0].dtype;
    const Shape reduced = ReducedSizes(in(0).sizes, mask);
    const ExpressionId body = ReductionBody(in(0), mask, type);
    const ReductionPlan plan = PlanOf(body, kept, reduced);
    std::array<BufferId, 3> parts;
    for (BufferId& part : parts) part = AddReduction(ReductionKind::kWelford, body, kept, reduced, type, plan.hint);
    const Value mean = Realized(parts[0]);
    const Value squares = Realized(parts[1]);
    const ExpressionId m2 = LoadAt(squares, Identity(kept), RangesOf(kept));
    const ExpressionId count = expressions().Constant(static_cast<double>(Product(reduced).hint()), true, type);
    const ExpressionId zero = expressions().Constant(0, true, type);
    const ExpressionId divisor = Call("maximum", {zero, Call("sub", {count, zero}, type)}, type);
    parts_[current_] = {Lazy(type, kept, Call("truediv", {m2, divisor}, type)), mean};
  }

  void OnlineSoftmax() {
    const int mask = static_cast<int>(node().integer[0].hint());
    const Shape kept = node().results[0].sizes;
    const DType type = node().results[0].dtype;
    const Shape reduced = ReducedSizes(in(0).sizes, mask);
    const ExpressionId body = ReductionBody(in(0), mask, type);
    const ReductionPlan plan = PlanOf(body, kept, reduced);
    for (int i = 0; i < 2; ++i) {
      parts_[current_].push_back(
          Realized(AddReduction(ReductionKind::kOnlineSoftmax, body, kept, reduced, type, plan.hint)));
    }
  }

  // --- Library calls

  void Product2() {
    // addmm(bias, x, w): x and w come first.
    std::vector<size_t> order(node().inputs.size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (node().kind == OpKind::kAddmm) order = {1, 2, 0};
    std::vector<BufferView> operands(order.size());
    for (const size_t i : order) operands[i] = RealizeInput(in(i));
    const BufferId b = AddBuffer(Buffer::Kind::kExtern, dtype(), sizes());
    Operation op;
    op.kind = Operation::Kind::kExtern;
    op.call = node().kind;
    op.operands = std::move(operands);
    AddOperation(std::move(op), b);
    Define(Realized(b));
  }

  // Operand i with the strides that attention's kernels ask for. A value that is realized is that for all its readers;
  // a copy of a view is this call's alone. Source: torch/_inductor/lowering.py (sdpa_constraint).
  BufferView AlignedOperand(size_t i) {
    if (in(i).form == Value::Form::kPlain) {
      AlignOperand(i, in(i));
      return RealizeInput(in(i));
    }
    Value v = in(i);
    AlignOperand(i, v);
    if (v.box == in(i).box) in(i) = v;
    return RealizeInput(v);
  }

  void AlignOperand(size_t i, Value& v) {
    const int dims = v.sizes.size();
    if ((dims != 3 && dims != 4) || IsAligned(v)) return;
    const Shape& given = graph_.nodes[node().inputs[i]].type().strides;
    if (node().kind == OpKind::kEfficientForward && i == 3) return AlignMask(v, given);
    if (v.form != Value::Form::kPlain && !IsMultiple(v.sizes.back()) && IsMultiple(box(v).sizes.back())) return;
    const bool last_first = StrideOrder(given)[static_cast<size_t>(dims - 1)] == 0;
    Shape like = last_first ? given : Contiguous(v.sizes);
    const size_t result = node().inputs.size() % 2 == 1 ? 5 : 4;
    if (node().kind == OpKind::kEfficientBackward && (i == 0 || i == result)) {
      like = {v.sizes[1] * v.sizes[2] * v.sizes[3], v.sizes[3], v.sizes[1] * v.sizes[3], 1};
    }
    RequireStrideOrder(v, like, false);
  }

  static bool IsMultiple(Extent e) { return e.hint() % kAttentionAlignment == 0; }

  bool IsAligned(const Value& v) {
    if (!IsStorage(v)) return false;
    const Shape strides = StridesOf(v);
    for (int i = 0; i + 1 < strides.size(); ++i) {
      if (!IsMultiple(strides[i])) return false;
    }
    return strides.back().is(1) || v.sizes.back().is(1);
  }

  // A mask stays as small as it is: stretched dimensions keep a stride of 0.
  void AlignMask(Value& v, const Shape& given) {
    const int dims = v.sizes.size();
    Shape strides = v.sizes;
    strides[dims - 1] = 1;
    Extent stride = 1;
    for (int i = dims - 2; i >= 0; --i) {
      if (!strides[i + 1].is(0)) stride *= v.sizes[i + 1];
      if (given[i].is(0) && IsMultiple(strides[i + 1])) {
        strides[i] = 0;
        continue;
      }
      if (!IsMultiple(stride)) stride = (stride + 7) / 8 * 8;
      strides[i] = stride;
    }
    if (v.form == Value::Form::kIndexed && MakeStrided(v) && SameStrides(v.strides, strides, v.sizes)) return;
    Shape small = v.sizes;
    for (int i = 0; i < dims; ++i) {
      if (strides[i].is(0) && !v.sizes[i].is(1)) small[i] = 1;
    }
    const Shape whole = v.sizes;
    for (int i = 0; i < dims; ++i) {
      if (!(small[i] == whole[i])) v = Slice(v, i, 0, 1);
    }
    v = Copy(v);
    Fix(buffer(v), strides, false);
    v = Strided(v, whole, strides, 0);
  }

  void Attention() {
    Operation op;
    op.kind = Operation::Kind::kExtern;
    op.call = node().kind;
    for (size_t i = 0; i < node().inputs.size(); ++i) {
      op.operands.push_back(AlignedOperand(i));
    }
    const BufferId tuple = AddBuffer(Buffer::Kind::kTuple, DType::kFloat32, {});
    result_.buffers[tuple].is_fixed = true;
    AddOperation(std::move(op), tuple);
    // Forward flash has five results that are tensors, of which a mask for debugging is never read.
    const std::vector<TensorType>& types = node().results;
    for (size_t i = 0; i < types.size(); ++i) {
      parts_[current_].emplace_back();
      const bool is_tensor = node().kind != OpKind::kFlashForward || i < 2 || i >= 6;
      const bool is_bias_gradient = node().kind == OpKind::kEfficientBackward && i == 3;
      if (!is_tensor || is_bias_gradient) continue;
      const BufferId part = AddBuffer(Buffer::Kind::kPart, types[i].dtype, types[i].sizes);
      result_.buffers[part].strides = types[i].strides;
      result_.buffers[part].is_fixed = true;
      Operation pick;
      pick.kind = Operation::Kind::kPart;
      pick.call = node().kind;
      pick.part = i;
      pick.operands = {{tuple, {}, {}, 0}};
      AddOperation(std::move(pick), part);
      parts_[current_].back() = Realized(part);
    }
  }

  const FunctionalGraph& graph_;
  const LoweringOptions& options_;
  const DeviceSpec& device_;
  Column<NodeId, std::vector<NodeId>> users_;
  std::vector<bool> is_output_;
  std::vector<NodeId> is_visible_;
  std::vector<bool> unpadded_;
  Column<NodeId, Value> values_;
  Column<NodeId, std::vector<Value>> parts_;
  Column<BoxId, Box> boxes_;
  NodeId current_;
  int buffer_count_ = 0;
  std::vector<std::string> mutated_;
  LoweredGraph result_;
};

bool Lowering::LowerView() {
  switch (node().kind) {
    case OpKind::kView:
    case OpKind::kUnsqueeze:
    case OpKind::kSqueeze:
      Define(View(in(0), sizes()));
      return true;
    case OpKind::kPermute:
      Define(Permute(in(0), node().integer[0].hint()));
      return true;
    case OpKind::kExpand:
      Define(Expand(in(0), sizes()));
      return true;
    case OpKind::kSlice: {
      const int dim = static_cast<int>(node().integer[0].hint());
      Define(Slice(in(0), dim, node().integer[1], sizes()[dim]));
      return true;
    }
    case OpKind::kSplit: {
      const int dim = static_cast<int>(node().integer[0].hint());
      Extent begin = 0;
      for (const TensorType& type : node().results) {
        parts_[current_].push_back(Slice(in(0), dim, begin, type.sizes[dim]));
        begin += type.sizes[dim];
      }
      return true;
    }
    case OpKind::kGetItem:
      Define(parts_[node().inputs[0]][static_cast<size_t>(node().integer[0].hint())]);
      return true;
    default:
      return false;
  }
}

bool Lowering::LowerPointwise() {
  const auto simple = [this](std::string_view name) {
    Arithmetic(name, dtype());
    return true;
  };
  switch (node().kind) {
    case OpKind::kToCopy:
      Pointwise([&](const std::vector<ExpressionId>& operands) { return Cast(operands[0], dtype()); });
      return true;
    case OpKind::kClone:
      Pointwise([&](const std::vector<ExpressionId>& operands) { return operands[0]; });
      return true;
    case OpKind::kFull:
      Define(Lazy(dtype(), sizes(), NumberAs(dtype())));
      return true;
    case OpKind::kArange: {
      const Index index = Identity(sizes())[0] + Index(static_cast<int64_t>(node().number));
      Define(Lazy(dtype(), sizes(), expressions().IndexValue(index, dtype())));
      return true;
    }
    case OpKind::kAdd:
      return simple("add");
    case OpKind::kSub:
      return simple("sub");
    case OpKind::kMul:
      return simple("mul");
    case OpKind::kNeg:
      return simple("neg");
    case OpKind::kExp:
      return simple("exp");
    case OpKind::kErf:
      return simple("erf");
    case OpKind::kLog:
      return simple("log");
    case OpKind::kRsqrt:
      return simple("rsqrt");
    case OpKind::kSigmoid:
      return simple("sigmoid");
    case OpKind::kTanh:
      return simple("tanh");
    case OpKind::kRelu:
      return simple("relu");
    case OpKind::kSin:
      return simple("sin");
    case OpKind::kCos:
      return simple("cos");
    case OpKind::kLogicalAnd:
      return simple("bitwise_and");
    case OpKind::kPow:
      Power();
      return true;
    case OpKind::kDiv:
      Divide();
      return true;
    case OpKind::kCompare:
      Compare();
      return true;
    case OpKind::kWhere:
      Where();
      return true;
    default:
      return false;
  }
}

void Lowering::LowerNode() {
  if (LowerView() || LowerPointwise()) return;
  switch (node().kind) {
    case OpKind::kEmbedding:
      return Embedding();
    case OpKind::kGather:
      return Gather();
    case OpKind::kRand:
      return Random();
    case OpKind::kSeeds:
      return Seeds();
    case OpKind::kLookupSeed:
      return LookupSeed();
    case OpKind::kCat:
      return Cat();
    case OpKind::kConstantPad:
      return Pad();
    case OpKind::kSliceScatter:
      return SliceScatter();
    case OpKind::kIndex:
      return LookUp();
    case OpKind::kCumsum:
      return CumulativeSum();
    case OpKind::kIndexPutAccumulate:
      return IndexPut();
    case OpKind::kSum:
      return Sum();
    case OpKind::kAmax:
      return Maximum();
    case OpKind::kMean:
      return Mean();
    case OpKind::kVarMean:
      return VarMean();
    case OpKind::kOnlineSoftmax:
      return OnlineSoftmax();
    case OpKind::kMm:
    case OpKind::kAddmm:
    case OpKind::kBmm:
      return Product2();
    case OpKind::kFlashForward:
    case OpKind::kFlashBackward:
    case OpKind::kEfficientForward:
    case OpKind::kEfficientBackward:
      return Attention();
    default:
      CHECK(!"an operator without a lowering");
  }
}

}  // namespace

LoweredGraph Lower(const FunctionalGraph& graph, const LoweringOptions& options, const DeviceSpec& device) {
  return Lowering(graph, options, device).Run();
}

}  // namespace tidemark::compile
