// Elementwise kernels: each a function of numbers.
#include <array>
#include <atomic>
#include <cmath>

#include "kernels/host/kernel.h"
#include "kernels/host/map.h"
#include "kernels/random.h"

namespace tidemark::host {
namespace {

// T of an auto parameter, for constants.
#define AS(x) static_cast<decltype(a)>(x)

template <typename F>
Result<RunOutcome> Unary(const KernelCall& c, const F& f) {
  return Map<1>({c.in[0]}, c.out[0], f);
}
template <typename F>
Result<RunOutcome> Binary(const KernelCall& c, const F& f) {
  return Map<2>({c.in[0], c.in[1]}, c.out[0], f);
}
// With one operand, the attribute is the other.
template <typename F>
Result<RunOutcome> WithNumber(const KernelCall& c, const F& f) {
  if (c.in.size() > 1) return Binary(c, f);
  return Unary(c, [&f, number = c.attributes.number](auto a) { return f(a, AS(number)); });
}

Result<RunOutcome> Add(const KernelCall& c) {
  if (c.in.size() == 1) return WithNumber(c, [](auto a, auto b) { return a + b; });
  return Binary(c, [factor = c.attributes.number](auto a, auto b) { return a + b * AS(factor); });
}
Result<RunOutcome> Sub(const KernelCall& c) {
  return WithNumber(c, [](auto a, auto b) { return a - b; });
}
Result<RunOutcome> Mul(const KernelCall& c) {
  return WithNumber(c, [](auto a, auto b) { return a * b; });
}
Result<RunOutcome> Div(const KernelCall& c) {
  return WithNumber(c, [](auto a, auto b) { return a / b; });
}
Result<RunOutcome> Pow(const KernelCall& c) {
  const double exponent = c.attributes.number;
  if (exponent == 2) return Unary(c, [](auto a) { return a * a; });
  if (exponent == 3) return Unary(c, [](auto a) { return a * a * a; });
  return WithNumber(c, [](auto a, auto b) { return std::pow(a, b); });
}

Result<RunOutcome> Neg(const KernelCall& c) {
  return Unary(c, [](auto a) { return -a; });
}
Result<RunOutcome> Abs(const KernelCall& c) {
  return Unary(c, [](auto a) { return std::abs(a); });
}
Result<RunOutcome> Log(const KernelCall& c) {
  return Unary(c, [](auto a) { return std::log(a); });
}
Result<RunOutcome> Sqrt(const KernelCall& c) {
  return Unary(c, [](auto a) { return std::sqrt(a); });
}
Result<RunOutcome> Rsqrt(const KernelCall& c) {
  return Unary(c, [](auto a) { return 1 / std::sqrt(a); });
}
Result<RunOutcome> Reciprocal(const KernelCall& c) {
  return Unary(c, [](auto a) { return 1 / a; });
}
Result<RunOutcome> Sin(const KernelCall& c) {
  return Unary(c, [](auto a) { return std::sin(a); });
}
Result<RunOutcome> Cos(const KernelCall& c) {
  return Unary(c, [](auto a) { return std::cos(a); });
}
Result<RunOutcome> Tanh(const KernelCall& c) {
  return Unary(c, [](auto a) { return std::tanh(a); });
}
Result<RunOutcome> TanhBackward(const KernelCall& c) {
  return Binary(c, [](auto a, auto result) { return a * (1 - result * result); });
}
Result<RunOutcome> Relu(const KernelCall& c) {
  return Unary(c, [](auto a) { return a < 0 ? AS(0) : a; });
}
Result<RunOutcome> ReluBackward(const KernelCall& c) {
  return Binary(c, [](auto a, auto result) { return result <= 0 ? AS(0) : a; });
}

constexpr double kInverseOfRootOfTwo = 0.70710678118654752440;
constexpr double kInverseOfRootOfTwoPi = 0.39894228040143267794;

constexpr double kTanhScale = 0.79788456080286535588;  // root of 2 / pi
constexpr double kTanhCube = 0.044715;

Result<RunOutcome> Gelu(const KernelCall& c) {
  if (c.attributes.number == 1) {
    return Unary(
        c, [](auto a) { return AS(0.5) * a * (1 + std::tanh(AS(kTanhScale) * (a + AS(kTanhCube) * a * a * a))); });
  }
  return Unary(c, [](auto a) { return a * AS(0.5) * (1 + std::erf(a * AS(kInverseOfRootOfTwo))); });
}
Result<RunOutcome> GeluBackward(const KernelCall& c) {
  if (c.attributes.number == 1) {
    return Binary(c, [](auto a, auto x) {
      const auto tanh = std::tanh(AS(kTanhScale) * (x + AS(kTanhCube) * x * x * x));
      const auto inner = AS(kTanhScale) * (1 + 3 * AS(kTanhCube) * x * x);
      return a * (AS(0.5) * (1 + tanh) + AS(0.5) * x * (1 - tanh * tanh) * inner);
    });
  }
  return Binary(c, [](auto a, auto x) {
    const auto distribution = AS(0.5) * (1 + std::erf(x * AS(kInverseOfRootOfTwo)));
    const auto density = std::exp(x * x * AS(-0.5)) * AS(kInverseOfRootOfTwoPi);
    return a * (distribution + x * density);
  });
}
Result<RunOutcome> Silu(const KernelCall& c) {
  return Unary(c, [](auto a) { return a / (1 + std::exp(-a)); });
}
Result<RunOutcome> SiluBackward(const KernelCall& c) {
  return Binary(c, [](auto a, auto x) {
    const auto sigmoid = 1 / (1 + std::exp(-x));
    return a * sigmoid * (1 + x * (1 - sigmoid));
  });
}

Result<RunOutcome> Clamp(const KernelCall& c) {
  if (c.in.size() == 1) {
    return Unary(c, [most = c.attributes.number](auto a) { return a > AS(most) ? AS(most) : a; });
  }
  return Map<3>({c.in[0], c.in[1], c.in[2]}, c.out[0], [](auto a, auto least, auto most) {
    return a < least ? least : a > most ? most : a;
  });
}
// A NaN wins.
Result<RunOutcome> Minimum(const KernelCall& c) {
  return Binary(c, [](auto a, auto b) { return b >= a ? a : b; });
}
Result<RunOutcome> Where(const KernelCall& c) {
  return Map<3>({c.in[0], c.in[1], c.in[2]}, c.out[0],
                [](auto condition, auto a, auto b) { return condition != 0 ? a : b; });
}
Result<RunOutcome> MaskedFill(const KernelCall& c) {
  return Binary(c, [number = c.attributes.number](auto a, auto mask) { return mask != 0 ? AS(number) : a; });
}

Result<RunOutcome> Compare(const KernelCall& c) {
  switch (static_cast<Comparison>(c.attributes.integer[0])) {
    case Comparison::kEqual:
      return WithNumber(c, [](auto a, auto b) { return AS(a == b); });
    case Comparison::kNotEqual:
      return WithNumber(c, [](auto a, auto b) { return AS(a != b); });
    case Comparison::kLess:
      return WithNumber(c, [](auto a, auto b) { return AS(a < b); });
    case Comparison::kLessEqual:
      return WithNumber(c, [](auto a, auto b) { return AS(a <= b); });
    case Comparison::kGreater:
      return WithNumber(c, [](auto a, auto b) { return AS(a > b); });
    case Comparison::kGreaterEqual:
      return WithNumber(c, [](auto a, auto b) { return AS(a >= b); });
  }
  return InvalidInput("no such comparison");
}
Result<RunOutcome> LogicalAnd(const KernelCall& c) {
  return Binary(c, [](auto a, auto b) { return AS(a != 0 && b != 0); });
}
Result<RunOutcome> LogicalOr(const KernelCall& c) {
  return Binary(c, [](auto a, auto b) { return AS(a != 0 || b != 0); });
}
Result<RunOutcome> IsInf(const KernelCall& c) {
  return Unary(c, [](auto a) { return AS(std::isinf(a)); });
}
Result<RunOutcome> IsNegInf(const KernelCall& c) {
  return Unary(c, [](auto a) { return AS(std::isinf(a) && a < 0); });
}

Result<RunOutcome> NativeDropout(const KernelCall& c) {
  const double rate = c.attributes.number;
  const auto in_units = static_cast<int64_t>(rate * kProbabilityUnit);
  const auto factor = static_cast<float>(1 / (1 - rate));
  const Elements source(c.in[0]);
  const Elements mask(c.out[0]);
  const Elements result(c.out[1]);
  ParallelChunks(source.size(), kChunk, [&](int64_t begin, int64_t n) {
    std::array<float, kChunk> values, kept;
    source.Load(begin, n, values.data());
    for (int64_t i = 0; i < n; ++i) {
      const auto u = static_cast<size_t>(i);
      kept[u] = Survives(c.attributes.integer[0], begin + i, in_units) ? 1.0F : 0.0F;
      values[u] = kept[u] * values[u] * factor;
    }
    mask.Store(begin, n, kept.data());
    result.Store(begin, n, values.data());
  });
  return RunOutcome::kDone;
}
Result<RunOutcome> DropoutBackward(const KernelCall& c) {
  return Binary(c, [factor = 1 / (1 - c.attributes.number)](auto a, auto mask) { return a * mask * AS(factor); });
}

Result<RunOutcome> ToCopy(const KernelCall& c) {
  return Unary(c, [](auto a) { return a; });
}
Result<RunOutcome> CopyInto(const KernelCall& c) {
  return Map<1>({c.in[1]}, c.out[0], [](auto a) { return a; });
}

#undef AS

}  // namespace

std::span<const KernelEntry> ElementwiseKernels() {
  static constexpr std::array kEntries = {
      KernelEntry{OpKind::kAdd, &Add},
      KernelEntry{OpKind::kSub, &Sub},
      KernelEntry{OpKind::kMul, &Mul},
      KernelEntry{OpKind::kDiv, &Div},
      KernelEntry{OpKind::kNeg, &Neg},
      KernelEntry{OpKind::kAbs, &Abs},
      KernelEntry{OpKind::kLog, &Log},
      KernelEntry{OpKind::kPow, &Pow},
      KernelEntry{OpKind::kSqrt, &Sqrt},
      KernelEntry{OpKind::kRsqrt, &Rsqrt},
      KernelEntry{OpKind::kReciprocal, &Reciprocal},
      KernelEntry{OpKind::kSin, &Sin},
      KernelEntry{OpKind::kCos, &Cos},
      KernelEntry{OpKind::kTanh, &Tanh},
      KernelEntry{OpKind::kTanhBackward, &TanhBackward},
      KernelEntry{OpKind::kRelu, &Relu},
      KernelEntry{OpKind::kReluBackward, &ReluBackward},
      KernelEntry{OpKind::kGelu, &Gelu},
      KernelEntry{OpKind::kGeluBackward, &GeluBackward},
      KernelEntry{OpKind::kSilu, &Silu},
      KernelEntry{OpKind::kSiluBackward, &SiluBackward},
      KernelEntry{OpKind::kClamp, &Clamp},
      KernelEntry{OpKind::kMinimum, &Minimum},
      KernelEntry{OpKind::kWhere, &Where},
      KernelEntry{OpKind::kMaskedFill, &MaskedFill},
      KernelEntry{OpKind::kCompare, &Compare},
      KernelEntry{OpKind::kLogicalAnd, &LogicalAnd},
      KernelEntry{OpKind::kLogicalOr, &LogicalOr},
      KernelEntry{OpKind::kIsInf, &IsInf},
      KernelEntry{OpKind::kIsNegInf, &IsNegInf},
      KernelEntry{OpKind::kNativeDropout, &NativeDropout},
      KernelEntry{OpKind::kDropoutBackward, &DropoutBackward},
      KernelEntry{OpKind::kToCopy, &ToCopy},
      KernelEntry{OpKind::kClone, &ToCopy},
      KernelEntry{OpKind::kCopyInto, &CopyInto},
  };
  return kEntries;
}

}  // namespace tidemark::host
