// Elementwise kernels: each a function of numbers.
#include <cmath>

#include "kernels/cuda/map.h"
#include "kernels/random.h"

namespace tidemark::cuda {
namespace {

#define UNARY(Name, result)              \
  struct Name {                          \
    template <typename T>                \
    __device__ T operator()(T a) const { \
      return static_cast<T>(result);     \
    }                                    \
  };
#define BINARY(Name, result)                  \
  struct Name {                               \
    template <typename T>                     \
    __device__ T operator()(T a, T b) const { \
      return static_cast<T>(result);          \
    }                                         \
  };

constexpr double kInverseOfRootOfTwo = 0.70710678118654752440;
constexpr double kInverseOfRootOfTwoPi = 0.39894228040143267794;
constexpr double kTanhScale = 0.79788456080286535588;  // root of 2 / pi
constexpr double kTanhCube = 0.044715;

BINARY(AddOf, a + b)
BINARY(SubOf, a - b)
BINARY(MulOf, a* b)
BINARY(DivOf, a / b)
BINARY(PowOf, std::pow(a, b))
BINARY(MinimumOf, b >= a ? a : b)  // a NaN wins
BINARY(EqualOf, a == b)
BINARY(NotEqualOf, a != b)
BINARY(LessOf, a < b)
BINARY(LessEqualOf, a <= b)
BINARY(GreaterOf, a > b)
BINARY(GreaterEqualOf, a >= b)
BINARY(AndOf, a != 0 && b != 0)
BINARY(OrOf, a != 0 || b != 0)
UNARY(SquareOf, a* a)
UNARY(CubeOf, a* a* a)
UNARY(NegOf, -a)
UNARY(AbsOf, std::abs(a))
UNARY(LogOf, std::log(a))
UNARY(SqrtOf, std::sqrt(a))
UNARY(RsqrtOf, 1 / std::sqrt(a))
UNARY(ReciprocalOf, 1 / a)
UNARY(SinOf, std::sin(a))
UNARY(CosOf, std::cos(a))
UNARY(TanhOf, std::tanh(a))
UNARY(ReluOf, a < 0 ? T(0) : a)
UNARY(SiluOf, a / (1 + std::exp(-a)))
UNARY(IsInfOf, std::isinf(a))
UNARY(IsNegInfOf, std::isinf(a) && a < 0)
BINARY(TanhBackwardOf, a*(1 - b * b))
BINARY(ReluBackwardOf, b <= 0 ? T(0) : a)
UNARY(GeluOf, a* T(0.5) * (1 + std::erf(a * T(kInverseOfRootOfTwo))))
UNARY(GeluTanhOf, T(0.5) * a * (1 + std::tanh(T(kTanhScale) * (a + T(kTanhCube) * a * a * a))))

struct GeluBackwardOf {
  template <typename T>
  __device__ T operator()(T a, T x) const {
    const T distribution = T(0.5) * (1 + std::erf(x * T(kInverseOfRootOfTwo)));
    return a * (distribution + x * std::exp(x * x * T(-0.5)) * T(kInverseOfRootOfTwoPi));
  }
};
struct GeluTanhBackwardOf {
  template <typename T>
  __device__ T operator()(T a, T x) const {
    const T tanh = std::tanh(T(kTanhScale) * (x + T(kTanhCube) * x * x * x));
    const T inner = T(kTanhScale) * (1 + 3 * T(kTanhCube) * x * x);
    return a * (T(0.5) * (1 + tanh) + T(0.5) * x * (1 - tanh * tanh) * inner);
  }
};
struct SiluBackwardOf {
  template <typename T>
  __device__ T operator()(T a, T x) const {
    const T sigmoid = 1 / (1 + std::exp(-x));
    return a * sigmoid * (1 + x * (1 - sigmoid));
  }
};
struct AddScaledOf {
  double factor;
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b * T(factor);
  }
};
struct MaskedFillOf {
  double number;
  template <typename T>
  __device__ T operator()(T a, T mask) const {
    return mask != 0 ? T(number) : a;
  }
};
struct DropoutBackwardOf {
  double factor;
  template <typename T>
  __device__ T operator()(T a, T mask) const {
    return a * mask * T(factor);
  }
};
struct AtMostOf {
  double most;
  template <typename T>
  __device__ T operator()(T a) const {
    return a > T(most) ? T(most) : a;
  }
};
struct ClampOf {
  template <typename T>
  __device__ T operator()(T a, T least, T most) const {
    return a < least ? least : a > most ? most : a;
  }
};
struct WhereOf {
  template <typename T>
  __device__ T operator()(T condition, T a, T b) const {
    return condition != 0 ? a : b;
  }
};
// A function of two with the second one fixed.
template <typename F>
struct WithNumber {
  double number;
  F f;
  template <typename T>
  __device__ T operator()(T a) const {
    return f(a, T(number));
  }
};

template <typename F>
Status Unary(const KernelCall& c, const Context& x) {
  return Map<1>({c.in[0]}, c.out[0], F{}, x);
}
template <typename F>
Status Binary(const KernelCall& c, const Context& x) {
  return Map<2>({c.in[0], c.in[1]}, c.out[0], F{}, x);
}
template <typename F>
Status BinaryOrNumber(const KernelCall& c, const Context& x) {
  if (c.in.size() > 1) return Binary<F>(c, x);
  return Map<1>({c.in[0]}, c.out[0], WithNumber<F>{c.attributes.number, F{}}, x);
}

Status Add(const KernelCall& c, const Context& x) {
  if (c.in.size() == 1) return BinaryOrNumber<AddOf>(c, x);
  return Map<2>({c.in[0], c.in[1]}, c.out[0], AddScaledOf{c.attributes.number}, x);
}
Status Pow(const KernelCall& c, const Context& x) {
  if (c.attributes.number == 2) return Unary<SquareOf>(c, x);
  if (c.attributes.number == 3) return Unary<CubeOf>(c, x);
  return BinaryOrNumber<PowOf>(c, x);
}
Status Gelu(const KernelCall& c, const Context& x) {
  return c.attributes.number == 1 ? Unary<GeluTanhOf>(c, x) : Unary<GeluOf>(c, x);
}
Status GeluBackward(const KernelCall& c, const Context& x) {
  return c.attributes.number == 1 ? Binary<GeluTanhBackwardOf>(c, x) : Binary<GeluBackwardOf>(c, x);
}
Status Clamp(const KernelCall& c, const Context& x) {
  if (c.in.size() == 1) return Map<1>({c.in[0]}, c.out[0], AtMostOf{c.attributes.number}, x);
  return Map<3>({c.in[0], c.in[1], c.in[2]}, c.out[0], ClampOf{}, x);
}
Status Where(const KernelCall& c, const Context& x) {
  return Map<3>({c.in[0], c.in[1], c.in[2]}, c.out[0], WhereOf{}, x);
}
Status MaskedFill(const KernelCall& c, const Context& x) {
  return Map<2>({c.in[0], c.in[1]}, c.out[0], MaskedFillOf{c.attributes.number}, x);
}
Status Compare(const KernelCall& c, const Context& x) {
  switch (static_cast<Comparison>(c.attributes.integer[0])) {
    case Comparison::kEqual:
      return BinaryOrNumber<EqualOf>(c, x);
    case Comparison::kNotEqual:
      return BinaryOrNumber<NotEqualOf>(c, x);
    case Comparison::kLess:
      return BinaryOrNumber<LessOf>(c, x);
    case Comparison::kLessEqual:
      return BinaryOrNumber<LessEqualOf>(c, x);
    case Comparison::kGreater:
      return BinaryOrNumber<GreaterOf>(c, x);
    case Comparison::kGreaterEqual:
      return BinaryOrNumber<GreaterEqualOf>(c, x);
  }
  return InvalidInput("no such comparison");
}

__global__ void DropoutKernel(View in, View mask, View out, int64_t stream, int64_t rate, float factor) {
  for (int64_t i = FirstElement(); i < in.size; i += ElementStride()) {
    const float kept = Survives(stream, i, rate) ? 1.0F : 0.0F;
    mask.Store<float>(i, kept);
    out.Store<float>(i, kept * in.Load<float>(i) * factor);
  }
}
Status NativeDropout(const KernelCall& c, const Context& x) {
  const double rate = c.attributes.number;
  const View in = ViewOf(c.in[0]);
  Launch(x, Over(in.size), &DropoutKernel, in, ViewOf(c.out[0]), ViewOf(c.out[1]), c.attributes.integer[0],
         static_cast<int64_t>(rate * kProbabilityUnit), static_cast<float>(1 / (1 - rate)));
  return {};
}
Status DropoutBackward(const KernelCall& c, const Context& x) {
  return Map<2>({c.in[0], c.in[1]}, c.out[0], DropoutBackwardOf{1 / (1 - c.attributes.number)}, x);
}

Status CopyInto(const KernelCall& c, const Context& x) { return Copy(c.in[1], c.out[0], x); }

constexpr KernelEntry kEntries[] = {
    {OpKind::kAdd, &Add},
    {OpKind::kSub, &BinaryOrNumber<SubOf>},
    {OpKind::kMul, &BinaryOrNumber<MulOf>},
    {OpKind::kDiv, &BinaryOrNumber<DivOf>},
    {OpKind::kNeg, &Unary<NegOf>},
    {OpKind::kAbs, &Unary<AbsOf>},
    {OpKind::kLog, &Unary<LogOf>},
    {OpKind::kPow, &Pow},
    {OpKind::kSqrt, &Unary<SqrtOf>},
    {OpKind::kRsqrt, &Unary<RsqrtOf>},
    {OpKind::kReciprocal, &Unary<ReciprocalOf>},
    {OpKind::kSin, &Unary<SinOf>},
    {OpKind::kCos, &Unary<CosOf>},
    {OpKind::kTanh, &Unary<TanhOf>},
    {OpKind::kTanhBackward, &Binary<TanhBackwardOf>},
    {OpKind::kRelu, &Unary<ReluOf>},
    {OpKind::kReluBackward, &Binary<ReluBackwardOf>},
    {OpKind::kGelu, &Gelu},
    {OpKind::kGeluBackward, &GeluBackward},
    {OpKind::kSilu, &Unary<SiluOf>},
    {OpKind::kSiluBackward, &Binary<SiluBackwardOf>},
    {OpKind::kClamp, &Clamp},
    {OpKind::kMinimum, &Binary<MinimumOf>},
    {OpKind::kWhere, &Where},
    {OpKind::kMaskedFill, &MaskedFill},
    {OpKind::kCompare, &Compare},
    {OpKind::kLogicalAnd, &Binary<AndOf>},
    {OpKind::kLogicalOr, &Binary<OrOf>},
    {OpKind::kIsInf, &Unary<IsInfOf>},
    {OpKind::kIsNegInf, &Unary<IsNegInfOf>},
    {OpKind::kNativeDropout, &NativeDropout},
    {OpKind::kDropoutBackward, &DropoutBackward},
    {OpKind::kToCopy, &Unary<Same>},
    {OpKind::kClone, &Unary<Same>},
    {OpKind::kCopyInto, &CopyInto},
};

}  // namespace

std::span<const KernelEntry> ElementwiseKernels() { return kEntries; }

}  // namespace tidemark::cuda
