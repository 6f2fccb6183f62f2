#include "passes/compile/decompose.h"

#include <fmt/format.h>

#include <cmath>
#include <string>

#include "graph/base/check.h"
#include "graph/op.h"
#include "passes/compile/builder.h"

namespace tidemark::compile {
namespace {

class Decomposition {
 public:
  Decomposition(const Captured& hint, const Captured& now, FunctionalGraph& graph)
      : hint_(hint), now_(now), graph_(graph), b_(graph) {
    values_.resize(hint.graph.tensors.size());
  }

  Status Run() {
    CHECK(hint_.graph.ops.size() == now_.graph.ops.size());
    AddInputs();
    for (size_t i = 0; i < hint_.graph.ops.size(); ++i) {
      const OpId id(i);
      op_ = &hint_.graph.ops[id];
      if (op_->kind == OpKind::kFromHost) continue;
      const Op& at_now = now_.graph.ops[id];
      attributes_ = AttributesOf(hint_.graph, *op_);
      attributes_now_ = AttributesOf(now_.graph, at_now);
      b_.recompute_region = hint_.recompute_regions[i];
      b_.scope = op_->scope;
      b_.autograd_node = op_->node;
      RETURN_IF_ERROR(One());
    }
    AddOutputs();
    return {};
  }

  Names TakeNames() { return std::move(b_.names()); }

 private:
  static Attributes AttributesOf(const Graph& graph, const Op& op) {
    return op.attributes.valid() ? graph.attributes[op.attributes] : Attributes{};
  }

  TensorType TypeOf(TensorId id) const {
    const TensorInfo& h = hint_.graph.tensors[id];
    const TensorInfo& n = now_.graph.tensors[id];
    return {h.dtype, Shape::Zip(h.sizes, n.sizes), Shape::Zip(h.strides, n.strides)};
  }

  void AddInputs() {
    const bool training = !hint_.tangents.empty();
    for (size_t i = 0; i < hint_.inputs.size(); ++i) {
      const TensorId id = hint_.inputs[i];
      const NodeId input = b_.Add(OpKind::kFromHost, "input", {}, TypeOf(id));
      graph_.nodes[input].name = training ? fmt::format("primals_{}", i + 1) : fmt::format("arg{}_1", i);
      graph_.nodes[input].weight = hint_.graph.storages[hint_.graph.tensors[id].storage].name;
      values_[id.index()] = input;
    }
    for (size_t i = 0; i < hint_.tangents.size(); ++i) {
      const NodeId input = b_.Add(OpKind::kFromHost, "input", {}, TypeOf(hint_.tangents[i]));
      graph_.nodes[input].name = fmt::format("tangents_{}", i + 1);
      values_[hint_.tangents[i].index()] = input;
    }
  }

  void AddOutputs() {
    for (const TensorId id : hint_.outputs) graph_.outputs.push_back(ValueOf(id));
    graph_.forward_outputs = graph_.outputs.size();
    for (const TensorId id : hint_.gradients) graph_.outputs.push_back(id.valid() ? ValueOf(id) : NodeId());
    if (hint_.tangents.empty()) graph_.outputs.resize(graph_.forward_outputs);
  }

  NodeId ValueOf(TensorId id) const {
    CHECK(values_[id.index()].valid());
    return values_[id.index()];
  }
  size_t inputs() const { return op_->inputs; }
  NodeId in(size_t i) const { return ValueOf(hint_.graph.Inputs(*op_)[i]); }
  TensorType out_type(size_t i = 0) const { return TypeOf(hint_.graph.Results(*op_)[i]); }
  void Define(size_t i, NodeId value) { values_[hint_.graph.Results(*op_)[i].index()] = value; }
  void Define(NodeId value) { Define(0, value); }
  Extent integer(size_t i) const { return {attributes_.integer[i], attributes_now_.integer[i]}; }
  double number() const { return attributes_.number; }
  NodeId Float(NodeId x) { return b_.Cast(x, DType::kFloat32); }
  DType ComputeType(DType d) const { return IsHalf(d) ? DType::kFloat32 : d; }

  Status One();
  bool Structural();
  bool Elementwise();
  bool Neural();

  // --- Products. Inductor looks at casts of 16-bit operands to fp32 before it leaves the product alone.
  void Product(const char* base) {
    std::vector<NodeId> operands;
    for (size_t i = 0; i < inputs(); ++i) {
      operands.push_back(in(i));
      if (IsHalf(b_.dtype(in(i)))) b_.names().Skip("convert_element_type");
    }
    Define(b_.Add(op_->kind, base, std::move(operands), out_type()));
  }

  // --- Attention: a tuple of which PyTorch names every part.
  NodeId Attention(const char* base, const std::vector<std::pair<int, size_t>>& parts, int part_count,
                   const std::vector<NodeId>& further_operands = {}) {
    std::vector<NodeId> operands;
    for (size_t i = 0; i < inputs(); ++i) operands.push_back(in(i));
    operands.insert(operands.end(), further_operands.begin(), further_operands.end());
    std::vector<TensorType> types(static_cast<size_t>(part_count));
    for (const auto& [part, result] : parts) types[static_cast<size_t>(part)] = out_type(result);
    const NodeId tuple = b_.AddTuple(op_->kind, base, std::move(operands), std::move(types));
    FunctionalNode& node = graph_.nodes[tuple];
    node.number = number();
    for (size_t i = 0; i < 3; ++i) node.integer[i] = integer(i);
    int named = 0;
    for (const auto& [part, result] : parts) {
      b_.names().Skip("getitem", part - named);
      named = part + 1;
      Define(result, b_.GetItem(tuple, part));
    }
    b_.names().Skip("getitem", part_count - named);
    return tuple;
  }

  void EfficientForward() {
    // Captured: (seed, offset,) result, (log of the sums).
    const bool seeds = op_->results > 2;
    const bool seeds_on_host = !seeds && integer(1).hint() > 0 && op_->results == 2;
    std::vector<std::pair<int, size_t>> parts = {{0, seeds ? 2U : 0U}};
    if (op_->results % 2 == 0) parts.emplace_back(1, seeds ? 3U : 1U);
    if (seeds) parts.insert(parts.end(), {{2, 0U}, {3, 1U}});
    const NodeId tuple = Attention("_scaled_dot_product_efficient_attention", parts, seeds_on_host ? 2 : 4);
    if (!seeds_on_host) return;
    // The state of random numbers is saved, too, though it takes no memory of the device.
    std::vector<TensorType>& types = graph_.nodes[tuple].results;
    types.resize(4, TensorType{DType::kInt64, {}, {}});
    host_seeds_.push_back({hint_.graph.Results(*op_)[0], {b_.GetItem(tuple, 2), b_.GetItem(tuple, 3)}});
  }

  void EfficientBackward() {
    std::vector<NodeId> seeds;
    for (const auto& [result, of_result] : host_seeds_) {
      for (const TensorId input : hint_.graph.Inputs(*op_)) {
        if (input == result) seeds = of_result;
      }
    }
    Attention("_scaled_dot_product_efficient_attention_backward", {{0, 0}, {1, 1}, {2, 2}}, 4, seeds);
  }

  void LayerNorm() {
    const DType to = out_type().dtype;
    const NodeId x = Float(in(0));
    const int last = b_.type(x).sizes.size() - 1;
    const TensorType statistic = ContiguousType(DType::kFloat32, Reduced(b_.type(x).sizes, 1 << last, true));
    const NodeId tuple = b_.AddTuple(OpKind::kVarMean, "var_mean", {x}, {statistic, statistic});
    graph_.nodes[tuple].integer = {1 << last, 1, 0};
    const NodeId variance = b_.GetItem(tuple, 0);
    const NodeId mean = b_.GetItem(tuple, 1);
    const NodeId deviation =
        b_.Unary(OpKind::kRsqrt, "rsqrt", b_.WithNumber(OpKind::kAdd, "add", variance, Real(number())));
    NodeId y = b_.Binary(OpKind::kMul, "mul", b_.Binary(OpKind::kSub, "sub", x, mean), deviation);
    y = b_.Binary(OpKind::kMul, "mul", y, in(1));
    if (inputs() > 2) y = b_.Binary(OpKind::kAdd, "add", y, in(2));
    Define(0, b_.Cast(y, to));
    Define(1, mean);
    Define(2, deviation);
  }

  // A cast with the copy that goes with it, which is dropped.
  NodeId FloatCopy(NodeId x) {
    if (IsHalf(b_.dtype(x))) b_.names().Skip("clone");
    return Float(x);
  }

  void LayerNormBackward() {
    const NodeId gradient = FloatCopy(in(0));
    const NodeId input = FloatCopy(in(1));
    const NodeId weight = FloatCopy(in(4));
    const NodeId deviation = in(3);
    const Shape sizes = b_.type(input).sizes;
    const Extent width = sizes.back();
    const int leading = (1 << (sizes.size() - 1)) - 1;
    const NodeId normal = b_.Binary(OpKind::kMul, "mul", b_.Binary(OpKind::kSub, "sub", input, in(2)), deviation);
    const NodeId g = b_.Binary(OpKind::kMul, "mul", gradient, weight);
    const NodeId scaled = b_.WithNumber(OpKind::kMul, "mul", g, Integer(width.hint()));
    const NodeId sum = b_.SumLast(g);
    const NodeId projection = b_.SumLast(b_.Binary(OpKind::kMul, "mul", g, normal));
    const NodeId along = b_.Binary(OpKind::kMul, "mul", normal, projection);
    const NodeId centred = b_.Binary(OpKind::kSub, "sub", b_.Binary(OpKind::kSub, "sub", scaled, sum), along);
    const NodeId factor = b_.WithNumber(OpKind::kDiv, "div", deviation, Integer(width.hint()));
    const NodeId dx = b_.Binary(OpKind::kMul, "mul", factor, centred);
    const NodeId dw = b_.Reduce(OpKind::kSum, "sum", b_.Binary(OpKind::kMul, "mul", gradient, normal), leading, false,
                                DType::kFloat32);
    const bool has_bias = op_->results > 2;
    const NodeId db = has_bias ? b_.Reduce(OpKind::kSum, "sum", gradient, leading, false, DType::kFloat32) : NodeId();
    Define(0, b_.Cast(dx, out_type(0).dtype));
    Define(1, b_.Cast(dw, out_type(1).dtype));
    if (has_bias) Define(2, b_.Cast(db, out_type(2).dtype));
  }

  void Gelu() {
    const NodeId x = Float(in(0));
    const NodeId half = b_.WithNumber(OpKind::kMul, "mul", x, Real(0.5));
    const NodeId erf = b_.Unary(OpKind::kErf, "erf", b_.WithNumber(OpKind::kMul, "mul", x, Real(M_SQRT1_2)));
    const NodeId y = b_.Binary(OpKind::kMul, "mul", half, b_.WithNumber(OpKind::kAdd, "add", erf, Integer(1)));
    Define(b_.Cast(y, out_type().dtype));
  }

  void GeluBackward() {
    const NodeId gradient = Float(in(0));
    const NodeId x = Float(in(1));
    const NodeId erf = b_.Unary(OpKind::kErf, "erf", b_.WithNumber(OpKind::kMul, "mul", x, Real(M_SQRT1_2)));
    const NodeId cdf =
        b_.WithNumber(OpKind::kMul, "mul", b_.WithNumber(OpKind::kAdd, "add", erf, Integer(1)), Real(0.5));
    const NodeId square = b_.WithNumber(OpKind::kMul, "mul", b_.Binary(OpKind::kMul, "mul", x, x), Real(-0.5));
    const NodeId pdf =
        b_.WithNumber(OpKind::kMul, "mul", b_.Unary(OpKind::kExp, "exp", square), Real(M_2_SQRTPI * M_SQRT1_2 * 0.5));
    const NodeId slope = b_.Binary(OpKind::kAdd, "add", cdf, b_.Binary(OpKind::kMul, "mul", x, pdf));
    Define(b_.Cast(b_.Binary(OpKind::kMul, "mul", gradient, slope), out_type().dtype));
  }

  void Silu() {
    const NodeId x = Float(in(0));
    const NodeId e = b_.Unary(OpKind::kExp, "exp", b_.Unary(OpKind::kNeg, "neg", x));
    const NodeId y = b_.Binary(OpKind::kDiv, "div", x, b_.WithNumber(OpKind::kAdd, "add", e, Integer(1)));
    Define(b_.Cast(y, out_type().dtype));
  }

  void SiluBackward() {
    const NodeId gradient = Float(in(0));
    const NodeId x = Float(in(1));
    const NodeId sigmoid = b_.Unary(OpKind::kSigmoid, "sigmoid", x);
    const NodeId left = b_.Binary(OpKind::kMul, "mul", gradient, sigmoid);
    const NodeId inner = b_.Binary(OpKind::kMul, "mul", x, b_.NumberMinus(Integer(1), sigmoid));
    const NodeId y = b_.Binary(OpKind::kMul, "mul", left, b_.WithNumber(OpKind::kAdd, "add", inner, Integer(1)));
    Define(b_.Cast(y, out_type().dtype));
  }

  void Softmax() {
    const NodeId x = Float(in(0));
    const int last = 1 << (b_.type(x).sizes.size() - 1);
    const NodeId shifted =
        b_.Binary(OpKind::kSub, "sub", x, b_.Reduce(OpKind::kAmax, "amax", x, last, true, b_.dtype(x)));
    const NodeId e = b_.Unary(OpKind::kExp, "exp", shifted);
    Define(b_.Cast(b_.Binary(OpKind::kDiv, "div", e, b_.SumLast(e)), out_type().dtype));
  }

  void SoftmaxBackward() {
    const NodeId gradient = Float(in(0));
    const NodeId result = Float(in(1));
    const NodeId product = b_.Binary(OpKind::kMul, "mul", gradient, result);
    const NodeId along = b_.Binary(OpKind::kMul, "mul", result, b_.SumLast(product));
    Define(b_.Cast(b_.Binary(OpKind::kSub, "sub", product, along), out_type().dtype));
  }

  void LogSoftmax() {
    const NodeId x = Float(in(0));
    const int last = 1 << (b_.type(x).sizes.size() - 1);
    const NodeId shifted =
        b_.Binary(OpKind::kSub, "sub", x, b_.Reduce(OpKind::kAmax, "amax", x, last, true, b_.dtype(x)));
    const NodeId log = b_.Unary(OpKind::kLog, "log", b_.SumLast(b_.Unary(OpKind::kExp, "exp", shifted)));
    Define(b_.Cast(b_.Binary(OpKind::kSub, "sub", shifted, log), out_type().dtype));
  }

  void LogSoftmaxBackward() {
    const NodeId gradient = Float(in(0));
    const NodeId probability = b_.Unary(OpKind::kExp, "exp", Float(in(1)));
    const NodeId along = b_.Binary(OpKind::kMul, "mul", probability, b_.SumLast(gradient));
    Define(b_.Cast(b_.Binary(OpKind::kSub, "sub", gradient, along), out_type().dtype));
  }

  NodeId SumAll(NodeId x, DType dtype) {
    return b_.Reduce(OpKind::kSum, "sum", x, (1 << b_.type(x).sizes.size()) - 1, false, dtype);
  }

  NodeId WherePresent(NodeId target, NodeId value, DType dtype) {
    const NodeId present = b_.Compare(Comparison::kNotEqual, target, Integer(integer(0).hint()));
    const NodeId zero = b_.Scalar(dtype, dtype == DType::kInt64 ? Integer(0) : Real(0));
    return b_.Pointwise(OpKind::kWhere, "where", {present, value, zero}, dtype);
  }

  void NllLoss() {
    const NodeId self = in(0);
    const NodeId target = in(1);
    const DType dtype = b_.dtype(self);
    const NodeId index = b_.Unsqueeze(WherePresent(target, target, DType::kInt64), 1);
    const NodeId gathered =
        b_.Add(OpKind::kGather, "gather", {self, index}, ContiguousType(dtype, b_.type(index).sizes));
    const NodeId negative = b_.Unary(OpKind::kNeg, "neg", b_.Squeeze(gathered, 1));
    const NodeId losses = WherePresent(target, negative, dtype);
    const NodeId present = b_.Compare(Comparison::kNotEqual, target, Integer(integer(0).hint()));
    const NodeId count = b_.Cast(SumAll(present, DType::kInt64), dtype);
    Define(0, b_.Binary(OpKind::kDiv, "div", SumAll(losses, dtype), count));
    Define(1, count);
  }

  void NllLossBackward() {
    const DType dtype = b_.dtype(in(1));
    const NodeId each = b_.Binary(OpKind::kDiv, "div", in(0), in(3));
    const NodeId target = b_.Unsqueeze(in(2), 1);
    const NodeId index = WherePresent(target, target, DType::kInt64);
    const NodeId zeros = b_.Full(dtype, b_.type(in(1)).sizes, Integer(0));
    const NodeId scattered = b_.Add(OpKind::kScatter, "scatter", {zeros, index}, b_.type(zeros));
    graph_.nodes[scattered].has_number = true;
    graph_.nodes[scattered].number = -1;
    graph_.nodes[scattered].integer[0] = 1;
    Define(b_.Binary(OpKind::kMul, "mul", scattered, WherePresent(target, each, dtype)));
  }

  void EmbeddingBackward() {
    const TensorType result = out_type();
    const NodeId values = Float(in(0));
    const NodeId indices = in(1);
    const NodeId low = b_.Compare(Comparison::kGreaterEqual, indices, Integer(0));
    const NodeId high = b_.Compare(Comparison::kLess, indices, Integer(result.sizes[0].hint()));
    const NodeId inside = b_.Binary(OpKind::kLogicalAnd, "bitwise_and", low, high);
    const NodeId not_padding = b_.Compare(Comparison::kNotEqual, indices, Integer(-1));
    const NodeId mask = b_.Binary(OpKind::kLogicalAnd, "bitwise_and", inside, not_padding);
    const NodeId wide = b_.Unsqueeze(mask, b_.type(mask).sizes.size());
    const NodeId zeros = b_.Full(b_.dtype(values), result.sizes, Integer(0));
    const NodeId sum = b_.Add(OpKind::kIndexPutAccumulate, "_unsafe_masked_index_put_accumulate",
                              {zeros, wide, indices, values}, b_.type(zeros));
    Define(b_.Cast(sum, result.dtype));
  }

  void Dropout() {
    const TensorType type = out_type(1);
    const NodeId random = b_.Add(OpKind::kRand, "rand", {}, ContiguousType(type.dtype, type.sizes));
    const NodeId mask = b_.Compare(Comparison::kGreater, random, Real(number()));
    const NodeId kept = b_.Binary(OpKind::kMul, "mul", mask, in(0));
    Define(0, mask);
    Define(1, b_.WithNumber(OpKind::kMul, "mul", kept, Real(1 / (1 - number()))));
  }

  void DropoutBackward() {
    const NodeId mask = b_.Cast(in(1), b_.dtype(in(0)));
    const NodeId scale = b_.WithNumber(OpKind::kMul, "mul", mask, Real(1 / (1 - number())));
    Define(b_.Binary(OpKind::kMul, "mul", in(0), scale));
    b_.names().Skip("clone");
  }

  // Whether the op stretches a mask, as it is, for attention.
  bool IsUnpaddedMask() const {
    const TensorId mask = hint_.graph.Results(*op_)[0];
    const bool is_padded = b_[in(0)].kind == OpKind::kSlice;
    return !is_padded && std::ranges::any_of(hint_.graph.ops, [&](const Op& op) {
      return op.kind == OpKind::kEfficientForward && op.inputs == 4 && hint_.graph.Inputs(op)[3] == mask;
    });
  }

  // With an open length nobody can show that a mask's rows are a multiple of 8 elements: they get up to 8 more.
  // Source: PyTorch 2.14, aten/src/ATen/native/transformers/attention.cpp (pad_bias).
  void ExpandPaddedMask() {
    constexpr int64_t kAlignment = 8;
    const TensorType mask = b_.type(in(0));
    const int last = mask.sizes.size() - 1;
    Shape wide = mask.sizes;
    wide[last] = wide[last] + kAlignment - wide[last] % kAlignment;
    const NodeId padded = b_.Add(OpKind::kConstantPad, "constant_pad_nd", {in(0)}, ContiguousType(mask.dtype, wide));
    graph_.nodes[padded].integer[0] = 1;  // by an amount that isn't a number
    const NodeId slice = b_.Add(OpKind::kSlice, "slice", {padded}, {mask.dtype, mask.sizes, b_.type(padded).strides});
    graph_.nodes[slice].integer = {last, 0, mask.sizes[last]};
    Define(b_.Expand(slice, out_type().sizes));
  }

  bool AllTheSame() const {
    for (size_t i = 1; i < inputs(); ++i) {
      if (!(in(i) == in(0))) return false;
    }
    return true;
  }

  // cat([x, x]) along the last dimension: x stretched, then copied.
  void RepeatLast() {
    const NodeId x = in(0);
    const int last = b_.type(x).sizes.size() - 1;
    const auto times = static_cast<int64_t>(inputs());
    const NodeId wide = b_.Unsqueeze(x, last);
    Shape sizes = b_.type(wide).sizes;
    sizes[last] = times;
    const NodeId stretched = b_.Expand(wide, sizes);
    const NodeId copy = b_.Add(OpKind::kClone, "clone", {stretched}, ContiguousType(b_.dtype(x), sizes));
    const NodeId flat = b_.View(copy, out_type().sizes);
    Define(b_.Add(OpKind::kClone, "clone", {flat}, out_type()));
  }

  void Sum() {
    const TensorType from = b_.type(in(0));
    const TensorType to = out_type();
    int mask = 0;
    for (int i = 0; i < from.sizes.size(); ++i) {
      if (!(from.sizes[i] == to.sizes[i])) mask |= 1 << i;
    }
    Define(b_.Reduce(OpKind::kSum, "sum", in(0), mask, true, to.dtype));
  }

  const Captured& hint_;
  const Captured& now_;
  FunctionalGraph& graph_;
  Builder b_;
  std::vector<NodeId> values_;  // by captured tensor
  // By result of efficient attention: its seed and offset, where the host has them.
  std::vector<std::pair<TensorId, std::vector<NodeId>>> host_seeds_;
  const Op* op_ = nullptr;
  Attributes attributes_;
  Attributes attributes_now_;
};

bool Decomposition::Structural() {
  const auto view = [this](const char* base) {
    const NodeId id = b_.Add(op_->kind, base, {in(0)}, out_type());
    for (size_t i = 0; i < 3; ++i) graph_.nodes[id].integer[i] = integer(i);
    graph_.nodes[id].number = number();
    Define(id);
  };
  switch (op_->kind) {
    case OpKind::kView:
      view("view");
      return true;
    case OpKind::kPermute:
      view("permute");
      return true;
    case OpKind::kExpand:
      if (&hint_ != &now_ && IsUnpaddedMask()) {
        ExpandPaddedMask();
        return true;
      }
      view("expand");
      return true;
    case OpKind::kUnsqueeze:
      view("unsqueeze");
      return true;
    case OpKind::kSqueeze:
      view("squeeze");
      return true;
    case OpKind::kSlice:
      view("slice");
      return true;
    case OpKind::kClone:
      view("clone");
      return true;
    case OpKind::kConstantPad:
      view("constant_pad_nd");
      return true;
    case OpKind::kCumsum:
      view("cumsum");
      return true;
    case OpKind::kSplit: {
      std::vector<TensorType> types;
      for (size_t i = 0; i < op_->results; ++i) types.push_back(out_type(i));
      const NodeId tuple = b_.AddTuple(OpKind::kSplit, "split", {in(0)}, types);
      for (size_t i = 0; i < 3; ++i) graph_.nodes[tuple].integer[i] = integer(i);
      for (size_t i = 0; i < op_->results; ++i) Define(i, b_.GetItem(tuple, static_cast<int>(i)));
      return true;
    }
    case OpKind::kCat:
      if (inputs() > 1 && AllTheSame()) {
        RepeatLast();
        return true;
      }
      [[fallthrough]];
    case OpKind::kGather:
    case OpKind::kIndex: {
      std::vector<NodeId> operands;
      for (size_t i = 0; i < inputs(); ++i) operands.push_back(in(i));
      const char* base = op_->kind == OpKind::kCat ? "cat" : op_->kind == OpKind::kGather ? "gather" : "index";
      const NodeId id = b_.Add(op_->kind, base, std::move(operands), out_type());
      graph_.nodes[id].integer[0] = integer(0);
      Define(id);
      return true;
    }
    case OpKind::kSliceBackward: {
      const NodeId zeros = b_.Full(out_type().dtype, out_type().sizes, Integer(0));
      const NodeId id = b_.Add(OpKind::kSliceScatter, "slice_scatter", {zeros, in(0)}, out_type());
      const int dim = static_cast<int>(attributes_.integer[0]);
      graph_.nodes[id].integer = {dim, integer(1), integer(1) + b_.type(in(0)).sizes[dim]};
      Define(id);
      return true;
    }
    case OpKind::kArange: {
      const NodeId id = b_.Add(OpKind::kArange, "iota", {}, out_type());
      graph_.nodes[id].number = number();
      Define(id);
      return true;
    }
    case OpKind::kFull:
      Define(out_type().sizes.empty() ? b_.Scalar(out_type().dtype, Real(number()))
                                      : b_.Full(out_type().dtype, out_type().sizes, Real(number())));
      return true;
    default:
      return false;
  }
}

bool Decomposition::Elementwise() {
  const auto arithmetic = [this](const char* base) {
    // A captured sum of two tensors has their factor, 1, as its number.
    Define(inputs() == 2 ? b_.Binary(op_->kind, base, in(0), in(1))
                         : b_.WithNumber(op_->kind, base, in(0), Real(number())));
  };
  const auto unary = [this](const char* base) { Define(b_.Unary(op_->kind, base, in(0))); };
  switch (op_->kind) {
    case OpKind::kToCopy:
      Define(b_.Cast(in(0), out_type().dtype));
      return true;
    case OpKind::kAdd:
      arithmetic("add");
      return true;
    case OpKind::kSub:
      arithmetic("sub");
      return true;
    case OpKind::kMul:
      arithmetic("mul");
      return true;
    case OpKind::kDiv:
      arithmetic("div");
      return true;
    case OpKind::kPow:
      Define(b_.WithNumber(OpKind::kPow, "pow", in(0), Real(number())));
      return true;
    case OpKind::kNeg:
      unary("neg");
      return true;
    case OpKind::kRsqrt:
      unary("rsqrt");
      return true;
    case OpKind::kSin:
      unary("sin");
      return true;
    case OpKind::kCos:
      unary("cos");
      return true;
    case OpKind::kRelu:
      unary("relu");
      return true;
    case OpKind::kTanh:
      Define(b_.Cast(b_.Unary(OpKind::kTanh, "tanh", Float(in(0))), out_type().dtype));
      return true;
    case OpKind::kTanhBackward: {
      const NodeId result = Float(in(1));
      const NodeId slope = b_.NumberMinus(Integer(1), b_.Binary(OpKind::kMul, "mul", result, result));
      Define(b_.Cast(b_.Binary(OpKind::kMul, "mul", Float(in(0)), slope), out_type().dtype));
      return true;
    }
    case OpKind::kReluBackward: {
      const NodeId off = b_.Compare(Comparison::kLessEqual, in(1), Integer(0));
      const NodeId zero = b_.Scalar(out_type().dtype, Real(0));
      Define(b_.Pointwise(OpKind::kWhere, "where", {off, zero, in(0)}, out_type().dtype));
      return true;
    }
    case OpKind::kCompare: {
      const auto how = static_cast<Comparison>(attributes_.integer[0]);
      Define(inputs() == 2 ? b_.Compare(how, in(0), in(1)) : b_.Compare(how, in(0), Real(number())));
      return true;
    }
    case OpKind::kLogicalAnd:
      Define(b_.Binary(OpKind::kLogicalAnd, "bitwise_and", in(0), in(1)));
      return true;
    case OpKind::kWhere:
      Define(b_.Pointwise(OpKind::kWhere, "where", {in(0), in(1), in(2)}, out_type().dtype));
      return true;
    case OpKind::kMaskedFill: {
      const NodeId value = b_.Scalar(out_type().dtype, Real(number()), "full");
      Define(b_.Pointwise(OpKind::kWhere, "where", {in(1), value, in(0)}, out_type().dtype));
      return true;
    }
    default:
      return false;
  }
}

bool Decomposition::Neural() {
  switch (op_->kind) {
    case OpKind::kEmbedding:
      Define(b_.Add(OpKind::kEmbedding, "embedding", {in(0), in(1)}, out_type()));
      return true;
    case OpKind::kEmbeddingBackward:
      EmbeddingBackward();
      return true;
    case OpKind::kLayerNorm:
      LayerNorm();
      return true;
    case OpKind::kLayerNormBackward:
      LayerNormBackward();
      return true;
    case OpKind::kGelu:
      Gelu();
      return true;
    case OpKind::kGeluBackward:
      GeluBackward();
      return true;
    case OpKind::kSilu:
      Silu();
      return true;
    case OpKind::kSiluBackward:
      SiluBackward();
      return true;
    case OpKind::kSoftmax:
      Softmax();
      return true;
    case OpKind::kSoftmaxBackward:
      SoftmaxBackward();
      return true;
    case OpKind::kLogSoftmax:
      LogSoftmax();
      return true;
    case OpKind::kLogSoftmaxBackward:
      LogSoftmaxBackward();
      return true;
    case OpKind::kNllLoss:
      NllLoss();
      return true;
    case OpKind::kNllLossBackward:
      NllLossBackward();
      return true;
    case OpKind::kNativeDropout:
      Dropout();
      return true;
    case OpKind::kDropoutBackward:
      DropoutBackward();
      return true;
    case OpKind::kSum:
      Sum();
      return true;
    case OpKind::kMean:
      Define(b_.Reduce(OpKind::kMean, "mean", in(0), 1 << (b_.type(in(0)).sizes.size() - 1), true, out_type().dtype));
      return true;
    case OpKind::kMm:
      Product("mm");
      return true;
    case OpKind::kAddmm:
      Product("addmm");
      return true;
    case OpKind::kBmm:
      Product("bmm");
      return true;
    case OpKind::kFlashForward:
      Attention("_scaled_dot_product_flash_attention", {{0, 0}, {1, 1}, {6, 2}, {7, 3}}, 9);
      return true;
    case OpKind::kFlashBackward:
      Attention("_scaled_dot_product_flash_attention_backward", {{0, 0}, {1, 1}, {2, 2}}, 3);
      return true;
    case OpKind::kEfficientForward:
      EfficientForward();
      return true;
    case OpKind::kEfficientBackward:
      EfficientBackward();
      return true;
    default:
      return false;
  }
}

Status Decomposition::One() {
  if (Structural() || Elementwise() || Neural()) return {};
  return InvalidInput(fmt::format("training.compile: {} can't be compiled yet; set it to false for the eager run",
                                  InfoOf(op_->kind).name));
}

}  // namespace

Result<FunctionalGraph> Decompose(const Captured& hint, const Captured& now, Names& names) {
  FunctionalGraph graph;
  Decomposition decomposition(hint, now, graph);
  RETURN_IF_ERROR(decomposition.Run());
  names = decomposition.TakeNames();
  graph.RemoveDead();
  return graph;
}

}  // namespace tidemark::compile
