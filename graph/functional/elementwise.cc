#include <array>

#include "graph/autocast.h"
#include "graph/autograd.h"
#include "graph/base/check.h"
#include "graph/functional.h"

namespace tidemark {
namespace {

Tensor EmitElementwise(OpKind kind, std::initializer_list<const Tensor*> inputs, DType dtype,
                       const Attributes& a = {}) {
  std::array<Layout, 4> layouts;
  size_t n = 0;
  for (const Tensor* t : inputs) {
    if (t->dims() == 0 && inputs.size() > 1 && n == 0) continue;  // a 0-dim operand has no say
    layouts[n++] = t->layout();
  }
  if (n == 0) layouts[n++] = (*inputs.begin())->layout();
  Tracer& tracer = (*inputs.begin())->tracer();
  return tracer.Emit(kind, inputs, {dtype, ElementwiseLayout(std::span(layouts.data(), n))}, a);
}

void AddGradient(Node& n, Gradients& in, Gradients& out) {
  if (n.Wants(1)) out[1] = in[0];
  if (n.Wants(0)) out[0] = in[0];
}
constexpr NodeType kAddBackward = {"AddBackward0", &AddGradient};

void SubGradient(Node& n, Gradients& in, Gradients& out) {
  if (n.Wants(1)) out[1] = Neg(in[0]);
  if (n.Wants(0)) out[0] = in[0];
}
constexpr NodeType kSubBackward = {"SubBackward0", &SubGradient};

// Saved: 0 other, 1 self.
void MulGradient(Node& n, Gradients& in, Gradients& out) {
  if (n.edge_count == 1) {
    if (n.Wants(0)) out[0] = Mul(in[0], n.data.number);
    return;
  }
  const Tensor other = n.Unpack(0);
  const Tensor self = n.Unpack(1);
  if (n.Wants(1)) out[1] = Mul(in[0], self);
  if (n.Wants(0)) out[0] = Mul(in[0], other);
}
constexpr NodeType kMulBackward = {"MulBackward0", &MulGradient};

void DivGradient(Node& n, Gradients& in, Gradients& out) {
  if (n.Wants(0)) out[0] = Div(in[0], n.data.number);
}
constexpr NodeType kDivBackward = {"DivBackward0", &DivGradient};

void NegGradient(Node& n, Gradients& in, Gradients& out) {
  if (n.Wants(0)) out[0] = Neg(in[0]);
}
constexpr NodeType kNegBackward = {"NegBackward0", &NegGradient};

// exponent * self^(exponent - 1) * grad
void PowGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0)) return;
  const Tensor self = n.Unpack(0);
  const Tensor power = Pow(self, n.data.number - 1);
  const Tensor scaled = Mul(power, n.data.number);
  out[0] = Mul(in[0], scaled);
}
constexpr NodeType kPowBackward = {"PowBackward0", &PowGradient};

void RsqrtGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0)) return;
  const Tensor result = n.Unpack(0);
  const Tensor cube = Pow(result, 3);
  const Tensor half = Mul(in[0], -0.5);
  out[0] = Mul(half, cube);
}
constexpr NodeType kRsqrtBackward = {"RsqrtBackward0", &RsqrtGradient};

template <OpKind kKind>
void GradientOfSaved(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0)) return;
  const Tensor saved = n.Unpack(0);
  out[0] = EmitElementwise(kKind, {&in[0], &saved}, in[0].dtype(), {.number = n.data.number});
}
constexpr NodeType kTanhBackward = {"TanhBackward0", &GradientOfSaved<OpKind::kTanhBackward>};
constexpr NodeType kReluBackward = {"ReluBackward0", &GradientOfSaved<OpKind::kReluBackward>};
constexpr NodeType kGeluBackward = {"GeluBackward0", &GradientOfSaved<OpKind::kGeluBackward>};
constexpr NodeType kSiluBackward = {"SiluBackward0", &GradientOfSaved<OpKind::kSiluBackward>};
constexpr NodeType kNativeDropoutBackward = {"NativeDropoutBackward0", &GradientOfSaved<OpKind::kDropoutBackward>};

void MaskedFillGradient(Node& n, Gradients& in, Gradients& out) {
  const Tensor mask = n.Unpack(0);
  if (n.Wants(0)) out[0] = MaskedFill(in[0], mask, 0);
}
constexpr NodeType kMaskedFillBackward = {"MaskedFillBackward0", &MaskedFillGradient};

void WhereGradient(Node& n, Gradients& in, Gradients& out) {
  const Tensor condition = n.Unpack(0);
  if (n.Wants(0)) out[0] = WhereOrNumber(condition, in[0], 0);
}
constexpr NodeType kWhereBackward = {"WhereBackward0", &WhereGradient};

// Saved: 0 high, 1 low, 2 self. On a limit half of the gradient goes through, outside nothing.
void ClampGradient(Node& n, Gradients& in, Gradients& out) {
  const Tensor high = n.Unpack(0);
  const Tensor low = n.Unpack(1);
  const Tensor self = n.Unpack(2);
  if (!n.Wants(0)) return;
  const Tensor ordered = Compare(Comparison::kLess, low, high);
  Operand on_low = Compare(Comparison::kEqual, self, low);
  Operand on_high = Compare(Comparison::kEqual, self, high);
  Tensor on_either = Binary(OpKind::kLogicalOr, *on_low, *on_high);
  const Tensor on_limit = Binary(OpKind::kLogicalAnd, std::move(on_either), ordered);
  on_high.Drop();
  on_low.Drop();
  Operand below = Compare(Comparison::kLess, self, low);
  Operand above = Compare(Comparison::kGreater, self, high);
  const Tensor outside = Binary(OpKind::kLogicalOr, *below, *above);
  above.Drop();
  below.Drop();
  out[0] = Where(on_limit, Div(in[0], 2), in[0]);
  n.tracer->EmitInPlace(OpKind::kMaskedFill, {&out[0], &outside}, {&out[0]}, {.number = 0});
}
constexpr NodeType kClampBackward = {"ClampBackward1", &ClampGradient};

// An op of one tensor whose backward needs the tensor (or the result).
enum class Saves : uint8_t { kNothing, kSelf, kResult };
Tensor WithGradient(OpKind kind, Operand& a, const NodeType& type, Saves saves, const Attributes& attributes = {}) {
  Tracer& tracer = a->tracer();
  const NodeRef node = MakeNode(tracer, type, {&*a});
  if (node) {
    node->data.number = attributes.number;
    if (saves == Saves::kSelf) node->Save(*a);
  }
  Tensor result = EmitElementwise(kind, {&*a}, a->dtype(), attributes);
  if (node) {
    if (saves == Saves::kResult) node->Save(result, true);
    node->SetHistory(result);
  }
  a.Drop();
  return result;
}

}  // namespace

DType Promote(DType a, DType b) {
  if (a == b) return a;
  if (IsFloating(a) != IsFloating(b)) return IsFloating(a) ? a : b;
  if (IsFloating(a)) return a == DType::kFloat64 || b == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  return SizeOf(a) > SizeOf(b) ? a : b;
}

Tensor Add(Operand a, Operand b) {
  const NodeRef node = MakeNode(a->tracer(), kAddBackward, {&*a, &*b});
  Tensor result = EmitElementwise(OpKind::kAdd, {&*a, &*b}, Promote(a->dtype(), b->dtype()), {.number = 1});
  if (node) node->SetHistory(result);
  Drop(a, b);
  return result;
}

Tensor Add(Operand a, double number) {
  return WithGradient(OpKind::kAdd, a, kAddBackward, Saves::kNothing, {.number = number});
}

void AddInPlace(const Tensor& a, Operand b) {
  Tracer& tracer = a.tracer();
  const NodeRef node = MakeNode(tracer, kAddBackward, {&a, &*b});
  if (tracer.functional) {
    const Tensor sum = EmitElementwise(OpKind::kAdd, {&a, &*b}, a.dtype(), {.number = 1});
    a.impl()->id = sum.impl()->id;  // the tensor is this value from here on
  } else {
    tracer.EmitInPlace(OpKind::kAdd, {&a, &*b}, {&a}, {.number = 1});
  }
  if (node) node->SetHistory(a);
  b.Drop();
}

Tensor Sub(Operand a, Operand b) {
  const NodeRef node = MakeNode(a->tracer(), kSubBackward, {&*a, &*b});
  Tensor result = EmitElementwise(OpKind::kSub, {&*a, &*b}, Promote(a->dtype(), b->dtype()));
  if (node) node->SetHistory(result);
  Drop(a, b);
  return result;
}

Tensor Sub(Operand a, double number) {
  return WithGradient(OpKind::kSub, a, kSubBackward, Saves::kNothing, {.number = number});
}

Tensor Mul(Operand a, Operand b) {
  const NodeRef node = MakeNode(a->tracer(), kMulBackward, {&*a, &*b});
  if (node) {
    a->requires_grad() ? node->Save(*b) : node->SaveNothing();
    b->requires_grad() ? node->Save(*a) : node->SaveNothing();
  }
  Tensor result = EmitElementwise(OpKind::kMul, {&*a, &*b}, Promote(a->dtype(), b->dtype()));
  if (node) node->SetHistory(result);
  Drop(a, b);
  return result;
}

Tensor Mul(Operand a, double number) {
  return WithGradient(OpKind::kMul, a, kMulBackward, Saves::kNothing, {.number = number});
}

Tensor Div(Operand a, Operand b) {
  Tensor result = EmitElementwise(OpKind::kDiv, {&*a, &*b}, Promote(a->dtype(), b->dtype()));
  Drop(a, b);
  return result;
}

Tensor Div(Operand a, double number) {
  return WithGradient(OpKind::kDiv, a, kDivBackward, Saves::kNothing, {.number = number});
}

Tensor Neg(Operand a) { return WithGradient(OpKind::kNeg, a, kNegBackward, Saves::kNothing); }
Tensor Pow(Operand given, double exponent) {
  Operand a = CastToFloat(std::move(given));
  return WithGradient(OpKind::kPow, a, kPowBackward, Saves::kSelf, {.number = exponent});
}
Tensor Rsqrt(Operand given) {
  Operand a = CastToFloat(std::move(given));
  return WithGradient(OpKind::kRsqrt, a, kRsqrtBackward, Saves::kResult);
}
Tensor Tanh(Operand a) { return WithGradient(OpKind::kTanh, a, kTanhBackward, Saves::kResult); }
Tensor Relu(Operand a) { return WithGradient(OpKind::kRelu, a, kReluBackward, Saves::kResult); }
Tensor Gelu(Operand a) { return WithGradient(OpKind::kGelu, a, kGeluBackward, Saves::kSelf); }
Tensor GeluTanh(Operand a) { return WithGradient(OpKind::kGelu, a, kGeluBackward, Saves::kSelf, {.number = 1}); }
Tensor Silu(Operand a) { return WithGradient(OpKind::kSilu, a, kSiluBackward, Saves::kSelf); }

Tensor MaskedFill(Operand a, Operand mask, double value) {
  const NodeRef node = MakeNode(a->tracer(), kMaskedFillBackward, {&*a});
  if (node) node->Save(*mask);
  Tensor result = EmitElementwise(OpKind::kMaskedFill, {&*a, &*mask}, a->dtype(), {.number = value});
  if (node) node->SetHistory(result);
  Drop(a, mask);
  return result;
}

Tensor WhereOrNumber(Operand condition, Operand a, double otherwise) {
  Tracer& tracer = a->tracer();
  Tensor scalar = Full(tracer, a->dtype(), {}, otherwise);
  const NodeRef node = MakeNode(tracer, kWhereBackward, {&*a});
  if (node) node->Save(*condition);
  // The order of dimensions follows a: the condition is the output's first operand but has strides of its own only
  // where it isn't broadcast.
  const std::array layouts = {a->layout(), condition->layout()};
  Tensor result = tracer.Emit(OpKind::kWhere, {&*condition, &*a, &scalar}, {a->dtype(), ElementwiseLayout(layouts)});
  if (node) node->SetHistory(result);
  scalar.Reset();
  Drop(condition, a);
  return result;
}

Tensor Where(Operand condition, Operand a, Operand b) {
  const std::array layouts = {condition->layout(), a->layout(), b->layout()};
  Tensor result = a->tracer().Emit(OpKind::kWhere, {&*condition, &*a, &*b},
                                   {Promote(a->dtype(), b->dtype()), ElementwiseLayout(layouts)});
  Drop(condition, a, b);
  return result;
}

Tensor WhereNumbers(Operand condition, double a, double b) {
  Tracer& tracer = condition->tracer();
  Tensor first = Full(tracer, DType::kFloat32, {}, a);
  Tensor second = Full(tracer, DType::kFloat32, {}, b);
  Tensor result =
      tracer.Emit(OpKind::kWhere, {&*condition, &first, &second}, Contiguous(DType::kFloat32, condition->sizes()));
  second.Reset();
  first.Reset();
  condition.Drop();
  return result;
}

Tensor Clamp(Operand a, Operand low, Operand high) {
  const NodeRef node = MakeNode(a->tracer(), kClampBackward, {&*a});
  if (node) {
    for (const Operand* t : {&high, &low, &a}) node->Save(**t);
  }
  Tensor result = EmitElementwise(OpKind::kClamp, {&*a, &*low, &*high}, a->dtype());
  if (node) node->SetHistory(result);
  Drop(a, low, high);
  return result;
}

Tensor Dropout(Operand a, double p, bool training) {
  if (p == 0 || !training) return a.Take();
  Tracer& tracer = a->tracer();
  const NodeRef node = MakeNode(tracer, kNativeDropoutBackward, {&*a});
  const Layout layout = {a->sizes(),
                         IsDense(a->sizes(), a->strides()) ? a->strides() : DenseStridesLike(a->sizes(), a->strides())};
  const std::array types = {ResultType{DType::kBool, layout}, ResultType{a->dtype(), layout}};
  std::array<Tensor, 2> results;
  const std::array<const Tensor*, 1> inputs = {&*a};
  tracer.Emit(OpKind::kNativeDropout, inputs, types, results, {.number = p, .integer = {tracer.next_random++}});
  if (node) {
    node->data.number = p;
    node->Save(results[0], true);
    node->SetHistory(results[1]);
  }
  results[0].Reset();
  a.Drop();
  return std::move(results[1]);
}

Tensor Compare(Comparison how, Operand a, Operand b) {
  Tensor result = EmitElementwise(OpKind::kCompare, {&*a, &*b}, DType::kBool, {.integer = {static_cast<int64_t>(how)}});
  Drop(a, b);
  return result;
}

Tensor Compare(Comparison how, Operand a, double number) {
  const Attributes attributes = {.number = number, .integer = {static_cast<int64_t>(how)}};
  Tensor result = EmitElementwise(OpKind::kCompare, {&*a}, DType::kBool, attributes);
  a.Drop();
  return result;
}

Tensor Unary(OpKind kind, Operand a, std::optional<DType> dtype) {
  Tensor result = EmitElementwise(kind, {&*a}, dtype.value_or(a->dtype()));
  a.Drop();
  return result;
}

Tensor Binary(OpKind kind, Operand a, Operand b) {
  Tensor result = EmitElementwise(kind, {&*a, &*b}, Promote(a->dtype(), b->dtype()));
  Drop(a, b);
  return result;
}

}  // namespace tidemark
