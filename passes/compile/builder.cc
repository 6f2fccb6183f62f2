#include "passes/compile/builder.h"

#include <array>

#include "graph/base/check.h"
#include "graph/functional.h"

namespace tidemark::compile {
namespace {

Layout ElementwiseOf(const std::vector<const TensorType*>& operands, bool now) {
  std::array<Layout, 4> layouts;
  size_t n = 0;
  for (const TensorType* t : operands) {
    if (t->sizes.empty() && operands.size() > 1) continue;  // a 0-dim operand has no say
    layouts[n++] = now ? Layout{t->sizes.Now(), t->strides.Now()} : Layout{t->sizes.Hint(), t->strides.Hint()};
  }
  if (n == 0) return {};
  return ElementwiseLayout(std::span(layouts.data(), n));
}

}  // namespace

std::string_view NameOf(Comparison how) {
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

Shape StridesOfView(const TensorType& from, const Shape& sizes) {
  const auto hint = ViewStrides(from.sizes.Hint(), from.strides.Hint(), sizes.Hint());
  const auto now = ViewStrides(from.sizes.Now(), from.strides.Now(), sizes.Now());
  CHECK(hint.has_value() && now.has_value());
  return Shape::Zip(*hint, *now);
}

Shape Reduced(const Shape& sizes, int mask, bool keep) {
  Shape result;
  for (int i = 0; i < sizes.size(); ++i) {
    if ((mask >> i & 1) == 0) {
      result.Append(sizes[i]);
    } else if (keep) {
      result.Append(1);
    }
  }
  return result;
}

NodeId Builder::AddTuple(OpKind kind, std::string_view base, std::vector<NodeId> inputs,
                         std::vector<TensorType> types) {
  FunctionalNode node;
  node.kind = kind;
  node.name = names_.Next(base);
  node.inputs = std::move(inputs);
  node.results = std::move(types);
  node.recompute_region = recompute_region;
  node.scope = scope;
  node.autograd_node = autograd_node;
  const NodeId id = graph_.nodes.Add(std::move(node));
  graph_.order.push_back(id);
  return id;
}

NodeId Builder::Add(OpKind kind, std::string_view base, std::vector<NodeId> inputs, const TensorType& type) {
  return AddTuple(kind, base, std::move(inputs), {type});
}

NodeId Builder::GetItem(NodeId tuple, int index) {
  const TensorType type = graph_.nodes[tuple].results[static_cast<size_t>(index)];
  const NodeId id = Add(OpKind::kGetItem, "getitem", {tuple}, type);
  graph_.nodes[id].integer[0] = index;
  return id;
}

NodeId Builder::Pointwise(OpKind kind, std::string_view base, std::vector<NodeId> inputs, DType dtype) {
  std::vector<const TensorType*> operands;
  for (const NodeId id : inputs) operands.push_back(&type(id));
  const Layout hint = ElementwiseOf(operands, false);
  const Layout now = ElementwiseOf(operands, true);
  return Add(kind, base, std::move(inputs),
             {dtype, Shape::Zip(hint.sizes, now.sizes), Shape::Zip(hint.strides, now.strides)});
}

NodeId Builder::Binary(OpKind kind, std::string_view base, NodeId a, NodeId b) {
  // A 0-dim operand doesn't widen a dtype of its own kind.
  const bool a_scalar = type(a).sizes.empty();
  const bool b_scalar = type(b).sizes.empty();
  DType result = Promote(dtype(a), dtype(b));
  if (a_scalar != b_scalar && IsFloating(dtype(a)) == IsFloating(dtype(b))) result = a_scalar ? dtype(b) : dtype(a);
  return Pointwise(kind, base, {a, b}, result);
}

NodeId Builder::WithNumber(OpKind kind, std::string_view base, NodeId x, Number number) {
  const NodeId id = Unary(kind, base, x);
  FunctionalNode& node = graph_.nodes[id];
  node.has_number = true;
  node.number = number.value;
  node.number_is_integer = number.is_integer;
  return id;
}

NodeId Builder::NumberMinus(Number number, NodeId x) {
  const NodeId id = WithNumber(OpKind::kSub, "sub", x, number);
  graph_.nodes[id].integer[0] = 1;  // the number comes first
  return id;
}

NodeId Builder::Compare(Comparison how, NodeId x, Number number) {
  const NodeId id = WithNumber(OpKind::kCompare, NameOf(how), x, number);
  graph_.nodes[id].results[0].dtype = DType::kBool;
  graph_.nodes[id].integer[0] = static_cast<int64_t>(how);
  return id;
}

NodeId Builder::Compare(Comparison how, NodeId a, NodeId b) {
  const NodeId id = Pointwise(OpKind::kCompare, NameOf(how), {a, b}, DType::kBool);
  graph_.nodes[id].integer[0] = static_cast<int64_t>(how);
  return id;
}

NodeId Builder::Cast(NodeId x, DType to) {
  if (dtype(x) == to) return x;
  return Pointwise(OpKind::kToCopy, "convert_element_type", {x}, to);
}

NodeId Builder::Scalar(DType dtype, Number value, std::string_view base) {
  const NodeId id = Add(OpKind::kFull, base, {}, {dtype, {}, {}});
  FunctionalNode& node = graph_.nodes[id];
  node.has_number = true;
  node.number = value.value;
  node.number_is_integer = value.is_integer;
  return id;
}

NodeId Builder::Full(DType dtype, const Shape& sizes, Number value) {
  const NodeId id = Scalar(dtype, value, "full");
  graph_.nodes[id].results[0] = ContiguousType(dtype, sizes);
  return id;
}

NodeId Builder::Reduce(OpKind kind, std::string_view base, NodeId x, int mask, bool keep, DType dtype) {
  const NodeId id = Add(kind, base, {x}, ContiguousType(dtype, Reduced(type(x).sizes, mask, keep)));
  graph_.nodes[id].integer = {mask, keep ? 1 : 0, 0};
  return id;
}

NodeId Builder::SumLast(NodeId x) {
  return Reduce(OpKind::kSum, "sum", x, 1 << (type(x).sizes.size() - 1), true, dtype(x));
}

NodeId Builder::View(NodeId x, const Shape& sizes) {
  return Add(OpKind::kView, "view", {x}, {dtype(x), sizes, StridesOfView(type(x), sizes)});
}

NodeId Builder::Unsqueeze(NodeId x, int dim) {
  const TensorType& from = type(x);
  TensorType to = {from.dtype, {}, {}};
  for (int i = 0; i <= from.sizes.size(); ++i) {
    if (i == dim) {
      to.sizes.Append(1);
      to.strides.Append(i < from.sizes.size() ? from.sizes[i] * from.strides[i] : Extent(1));
    }
    if (i == from.sizes.size()) break;
    to.sizes.Append(from.sizes[i]);
    to.strides.Append(from.strides[i]);
  }
  const NodeId id = Add(OpKind::kUnsqueeze, "unsqueeze", {x}, to);
  graph_.nodes[id].integer[0] = dim;
  return id;
}

NodeId Builder::Squeeze(NodeId x, int dim) {
  const TensorType& from = type(x);
  TensorType to = {from.dtype, {}, {}};
  for (int i = 0; i < from.sizes.size(); ++i) {
    if (i == dim) continue;
    to.sizes.Append(from.sizes[i]);
    to.strides.Append(from.strides[i]);
  }
  const NodeId id = Add(OpKind::kSqueeze, "squeeze", {x}, to);
  graph_.nodes[id].integer[0] = dim;
  return id;
}

NodeId Builder::Expand(NodeId x, const Shape& sizes) {
  const TensorType& from = type(x);
  TensorType to = {from.dtype, sizes, {}};
  const int offset = sizes.size() - from.sizes.size();
  for (int i = 0; i < sizes.size(); ++i) {
    const bool stretched = i < offset || (from.sizes[i - offset].is(1) && !sizes[i].is(1));
    to.strides.Append(stretched ? Extent(0) : from.strides[i - offset]);
  }
  return Add(OpKind::kExpand, "expand", {x}, to);
}

}  // namespace tidemark::compile
