// Optimizer steps, and what surrounds them: norms for clipping, the scaler's bookkeeping. Lists are launched one tensor
// after the other.
#include <cmath>

#include "graph/training/rates.h"
#include "kernels/cuda/map.h"

namespace tidemark::cuda {
namespace {

std::span<const TensorSpan> List(std::span<const TensorSpan> all, size_t i, size_t n) { return all.subspan(i * n, n); }

// What a fused step gets from the scaler; null: nothing.
struct FromScaler {
  View found, scale;
  __device__ bool Skips() const { return found.data != nullptr && found.Load<float>(0) != 0; }
  __device__ float Factor() const { return scale.data == nullptr ? 1 : 1 / scale.Load<float>(0); }
};
FromScaler ScalerOf(const KernelCall& c) {
  const auto n = static_cast<size_t>(c.attributes.integer[1]);
  FromScaler scaler;
  if (n > 0) scaler.found = ViewOf(c.in[c.in.size() - n]);
  if (n > 1) scaler.scale = ViewOf(c.in[c.in.size() - 1]);
  return scaler;
}

// --- Adam

__device__ inline void Average(float g, float& average, float& square) {
  average += static_cast<float>(1 - kBeta1) * (g - average);
  square = static_cast<float>(kBeta2) * square + static_cast<float>(1 - kBeta2) * g * g;
}

__global__ void FusedAdamKernel(View p, View g, View m, View v, View step, FromScaler scaler, float decay,
                                bool decoupled) {
  if (scaler.Skips()) return;
  const double now = step.Load<double>(0) + 1;
  const auto rate = static_cast<float>(kLearningRate / (1 - std::pow(kBeta1, now)));
  const auto correction = static_cast<float>(std::sqrt(1 - std::pow(kBeta2, now)));
  for (int64_t i = FirstElement(); i < p.size; i += ElementStride()) {
    float parameter = p.Load<float>(i);
    float gradient = g.Load<float>(i) * scaler.Factor();
    float average = m.Load<float>(i);
    float square = v.Load<float>(i);
    if (decoupled) {
      parameter *= 1 - static_cast<float>(kLearningRate) * decay;
    } else {
      gradient += decay * parameter;
    }
    Average(gradient, average, square);
    p.Store<float>(i, parameter - rate * average / (std::sqrt(square) / correction + static_cast<float>(kAdamEpsilon)));
    m.Store<float>(i, average);
    v.Store<float>(i, square);
  }
}
__global__ void CountStepKernel(View step, FromScaler scaler) {
  if (!scaler.Skips()) step.Store<float>(0, step.Load<float>(0) + 1);
}

Status FusedAdam(const KernelCall& c, const Context& x) {
  const FromScaler scaler = ScalerOf(c);
  const size_t n = (c.in.size() - static_cast<size_t>(c.attributes.integer[1])) / 5;
  for (size_t i = 0; i < n; ++i) {
    const View p = ViewOf(List(c.in, 0, n)[i]);
    const View step = ViewOf(List(c.in, 4, n)[i]);
    Launch(x, Over(p.size), &FusedAdamKernel, p, ViewOf(List(c.in, 1, n)[i]), ViewOf(List(c.in, 2, n)[i]),
           ViewOf(List(c.in, 3, n)[i]), step, scaler, static_cast<float>(c.attributes.number),
           c.attributes.integer[0] != 0);
    Launch(x, {.threads = 1}, &CountStepKernel, step, scaler);
  }
  return {};
}

__global__ void AverageKernel(View m, View g, View v) {
  for (int64_t i = FirstElement(); i < m.size; i += ElementStride()) {
    float average = m.Load<float>(i);
    float square = v.Load<float>(i);
    Average(g.Load<float>(i), average, square);
    m.Store<float>(i, average);
    v.Store<float>(i, square);
  }
}
Status AverageInto(const KernelCall& c, const Context& x) {
  const View m = ViewOf(c.in[0]);
  Launch(x, Over(m.size), &AverageKernel, m, ViewOf(c.in[1]), ViewOf(c.in[2]));
  return {};
}

// p = p * kept - rate * average / (root / divisor + epsilon)
struct UpdateOf {
  float kept, rate, divisor;
  template <typename T>
  __device__ T operator()(T p, T average, T root) const {
    return p * T(kept) - T(rate) * average / (root / T(divisor) + T(kAdamEpsilon));
  }
};
UpdateOf UpdateFor(const Attributes& a, double divisor) {
  const auto step = static_cast<double>(a.integer[0]);
  return {static_cast<float>(1 - kLearningRate * a.number),
          static_cast<float>(kLearningRate / (1 - std::pow(kBeta1, step))), static_cast<float>(divisor)};
}
Status ForeachAdam(const KernelCall& c, const Context& x) {
  const size_t n = c.in.size() / 3;
  const double divisor = std::sqrt(1 - std::pow(kBeta2, static_cast<double>(c.attributes.integer[0])));
  for (size_t i = 0; i < n; ++i) {
    const TensorSpan& p = List(c.in, 0, n)[i];
    RETURN_IF_ERROR(Map<3>({p, List(c.in, 1, n)[i], List(c.in, 2, n)[i]}, p, UpdateFor(c.attributes, divisor), x));
  }
  return {};
}
Status AdamUpdate(const KernelCall& c, const Context& x) {
  return Map<3>({c.in[0], c.in[1], c.in[2]}, c.in[0], UpdateFor(c.attributes, 1), x);
}

// --- SGD

__global__ void SgdKernel(View p, View g, View buffer, FromScaler scaler, float momentum, float decay, bool is_new,
                          bool nesterov) {
  if (scaler.Skips()) return;
  for (int64_t i = FirstElement(); i < p.size; i += ElementStride()) {
    const float parameter = p.Load<float>(i);
    float gradient = g.Load<float>(i) * scaler.Factor() + decay * parameter;
    if (buffer.data != nullptr) {
      const float sum = is_new ? gradient : momentum * buffer.Load<float>(i) + gradient;
      buffer.Store<float>(i, sum);
      gradient = nesterov ? gradient + momentum * sum : sum;
    }
    p.Store<float>(i, parameter - static_cast<float>(kLearningRate) * gradient);
  }
}
Status SgdStep(const KernelCall& c, const Context& x) {
  const size_t lists = c.attributes.number != 0 ? 3 : 2;
  const size_t n = (c.in.size() - static_cast<size_t>(c.attributes.integer[1])) / lists;
  for (size_t i = 0; i < n; ++i) {
    const View p = ViewOf(List(c.in, 0, n)[i]);
    Launch(x, Over(p.size), &SgdKernel, p, ViewOf(List(c.in, 1, n)[i]),
           lists == 3 ? ViewOf(List(c.in, 2, n)[i]) : View{}, ScalerOf(c), static_cast<float>(c.attributes.number),
           static_cast<float>(c.attributes.second), c.attributes.integer[0] != 0, c.attributes.integer[2] != 0);
  }
  return {};
}

// --- RMSprop and Adagrad

struct SquaresOf {
  float kept, added;
  template <typename T>
  __device__ T operator()(T sum, T g) const {
    return T(kept) * sum + T(added) * g * g;
  }
};
Status SquaresInto(const KernelCall& c, const Context& x) {
  const SquaresOf squares = {static_cast<float>(c.attributes.number), static_cast<float>(c.attributes.second)};
  return Map<2>({c.in[0], c.in[1]}, c.in[0], squares, x);
}
struct ScaledSumOf {
  float kept;
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return T(kept) * a + b;
  }
};
Status ScaledSumInto(const KernelCall& c, const Context& x) {
  return Map<2>({c.in[0], c.in[1]}, c.in[0], ScaledSumOf{static_cast<float>(c.attributes.number)}, x);
}

__global__ void RootUpdateKernel(View p, View g, View root, View buffer, float epsilon, float momentum, float rate) {
  for (int64_t i = FirstElement(); i < p.size; i += ElementStride()) {
    float update = g.Load<float>(i) / (root.Load<float>(i) + epsilon);
    if (buffer.data != nullptr) {
      update += momentum * buffer.Load<float>(i);
      buffer.Store<float>(i, update);
    }
    p.Store<float>(i, p.Load<float>(i) + rate * update);
  }
}
Status RootUpdate(const KernelCall& c, const Context& x) {
  const View p = ViewOf(c.in[0]);
  const float rate = c.attributes.integer[0] != 0 ? 1 : static_cast<float>(-kLearningRate);
  Launch(x, Over(p.size), &RootUpdateKernel, p, ViewOf(c.in[1]), ViewOf(c.in[2]),
         c.in.size() == 4 ? ViewOf(c.in[3]) : View{}, static_cast<float>(c.attributes.number),
         static_cast<float>(c.attributes.second), rate);
  return {};
}

__global__ void FusedAdagradKernel(View p, View g, View sums, FromScaler scaler, float decay) {
  if (scaler.Skips()) return;
  for (int64_t i = FirstElement(); i < p.size; i += ElementStride()) {
    const float parameter = p.Load<float>(i);
    const float gradient = g.Load<float>(i) * scaler.Factor() + decay * parameter;
    const float sum = sums.Load<float>(i) + gradient * gradient;
    sums.Store<float>(i, sum);
    const float root = std::sqrt(sum) + static_cast<float>(kAdagradEpsilon);
    p.Store<float>(i, parameter - static_cast<float>(kLearningRate) * gradient / root);
  }
}
Status FusedAdagrad(const KernelCall& c, const Context& x) {
  const FromScaler scaler = ScalerOf(c);
  const size_t n = (c.in.size() - static_cast<size_t>(c.attributes.integer[1])) / 4;
  for (size_t i = 0; i < n; ++i) {
    const View p = ViewOf(List(c.in, 0, n)[i]);
    Launch(x, Over(p.size), &FusedAdagradKernel, p, ViewOf(List(c.in, 1, n)[i]), ViewOf(List(c.in, 2, n)[i]), scaler,
           static_cast<float>(c.attributes.number));
    Launch(x, {.threads = 1}, &CountStepKernel, ViewOf(List(c.in, 3, n)[i]), scaler);
  }
  return {};
}

// --- Lists

// One block a tensor.
__global__ void NormKernel(View in, View out) {
  double mine = 0;
  for (int64_t i = ThreadInBlock(); i < in.size; i += ThreadsInBlock()) {
    const double v = in.Load<double>(i);
    mine += v * v;
  }
  const double sum = BlockSum(mine, reinterpret_cast<double*>(SharedFloats()));
  if (ThreadInBlock() == 0) out.Store<double>(0, std::sqrt(sum));
}
constexpr unsigned kNormThreads = 1024;
constexpr Shape kOneBlock = {.threads = kNormThreads, .shared_floats = 2 * kNormThreads, .barriers = true};

Status ForeachNorm(const KernelCall& c, const Context& x) {
  for (size_t i = 0; i < c.in.size(); ++i) Launch(x, kOneBlock, &NormKernel, ViewOf(c.in[i]), ViewOf(c.out[i]));
  return {};
}

struct Times {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a * b;
  }
};
struct TimesNumber {
  double factor;
  template <typename T>
  __device__ T operator()(T a) const {
    return a * T(factor);
  }
};
Status ForeachMul(const KernelCall& c, const Context& x) {
  for (size_t i = 0; i < c.in.size(); ++i) {
    RETURN_IF_ERROR(Map<1>({c.in[i]}, c.out[i], TimesNumber{c.attributes.number}, x));
  }
  return {};
}
Status ForeachMulInto(const KernelCall& c, const Context& x) {
  for (const TensorSpan& t : c.in.first(c.in.size() - 1)) RETURN_IF_ERROR(Map<2>({t, c.in.back()}, t, Times{}, x));
  return {};
}
struct RootOf {
  template <typename T>
  __device__ T operator()(T a) const {
    return std::sqrt(a);
  }
};
Status ForeachSqrt(const KernelCall& c, const Context& x) {
  for (size_t i = 0; i < c.in.size(); ++i) RETURN_IF_ERROR(Map<1>({c.in[i]}, c.out[i], RootOf{}, x));
  return {};
}
struct AddScaled {
  double factor;
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b * T(factor);
  }
};
Status ForeachAdd(const KernelCall& c, const Context& x) {
  const size_t n = c.out.size();
  for (size_t i = 0; i < n; ++i) {
    RETURN_IF_ERROR(Map<2>({c.in[i], c.in[n + i]}, c.out[i], AddScaled{c.attributes.number}, x));
  }
  return {};
}
Status ForeachClone(const KernelCall& c, const Context& x) {
  for (size_t i = 0; i < c.in.size(); ++i) RETURN_IF_ERROR(Copy(c.in[i], c.out[i], x));
  return {};
}

// --- The scaler

__global__ void UnscaleKernel(View g, View found, View factor) {
  for (int64_t i = FirstElement(); i < g.size; i += ElementStride()) {
    const float v = g.Load<float>(i);
    if (!std::isfinite(v)) found.Store<float>(0, 1);  // whoever writes, writes the same
    g.Store<float>(i, v * factor.Load<float>(0));
  }
}
Status UnscaleGradients(const KernelCall& c, const Context& x) {
  const size_t n = c.in.size() - 2;
  for (size_t i = 0; i < n; ++i) {
    const View g = ViewOf(c.in[i]);
    Launch(x, Over(g.size), &UnscaleKernel, g, ViewOf(c.in[n]), ViewOf(c.in[n + 1]));
  }
  return {};
}

__global__ void UpdateScaleKernel(View scale, View growth, View found) {
  double factor = 1;
  double good_steps = 0;
  if (found.Load<float>(0) != 0) {
    factor = kScaleBackoff;
  } else {
    good_steps = growth.Load<double>(0) + 1;
    if (good_steps == kScaleGrowthInterval) {
      if (std::isfinite(scale.Load<float>(0) * static_cast<float>(kScaleGrowth))) factor = kScaleGrowth;
      good_steps = 0;
    }
  }
  scale.Store<double>(0, scale.Load<double>(0) * factor);
  growth.Store<double>(0, good_steps);
}
Status UpdateScale(const KernelCall& c, const Context& x) {
  Launch(x, {.threads = 1}, &UpdateScaleKernel, ViewOf(c.in[0]), ViewOf(c.in[1]), ViewOf(c.in[2]));
  return {};
}

// --- Adafactor

struct SquareOver {
  float divisor;
  template <typename T>
  __device__ T operator()(T a) const {
    return a * a / T(divisor);
  }
};
struct Lerp {
  float weight;
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + T(weight) * (b - a);
  }
};
struct DivideByAtLeast {
  double least;
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a / (b < T(least) ? T(least) : b);
  }
};
struct OverRootOfAtLeast {
  double least;
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return b / std::sqrt(a < T(least) ? T(least) : a);
  }
};
Status SquareInto(const KernelCall& c, const Context& x) {
  return Map<1>({c.in[0]}, c.out[0], SquareOver{static_cast<float>(c.attributes.number)}, x);
}
Status LerpInto(const KernelCall& c, const Context& x) {
  return Map<2>({c.in[0], c.in[1]}, c.out[0], Lerp{static_cast<float>(c.attributes.number)}, x);
}
Status DivInto(const KernelCall& c, const Context& x) {
  return Map<2>({c.in[0], c.in[1]}, c.out[0], DivideByAtLeast{c.attributes.number}, x);
}
Status RsqrtMulInto(const KernelCall& c, const Context& x) {
  return Map<2>({c.in[0], c.in[1]}, c.out[0], OverRootOfAtLeast{c.attributes.number}, x);
}

__device__ inline double BlockRootMeanSquare(const View& t, double factor) {
  double mine = 0;
  for (int64_t i = ThreadInBlock(); i < t.size; i += ThreadsInBlock()) {
    const double v = static_cast<double>(t.Load<float>(i) * static_cast<float>(factor));
    mine += v * v;
  }
  return std::sqrt(BlockSum(mine, reinterpret_cast<double*>(SharedFloats())) / static_cast<double>(t.size));
}
// One block: the rates follow from norms of the whole tensors.
__global__ void AdafactorKernel(View p, View update, double kept, double rate) {
  constexpr double kLeastScale = 1e-3;
  const double of_parameter = BlockRootMeanSquare(p, kept);
  const double of_update = BlockRootMeanSquare(update, 1);
  const double scale = of_parameter < kLeastScale ? kLeastScale : of_parameter;
  const auto factor = static_cast<float>(rate * scale / (of_update < 1 ? 1 : of_update));
  for (int64_t i = ThreadInBlock(); i < p.size; i += ThreadsInBlock()) {
    p.Store<float>(i, p.Load<float>(i) * static_cast<float>(kept) - factor * update.Load<float>(i));
  }
}
Status AdafactorUpdate(const KernelCall& c, const Context& x) {
  const double rate = std::min(kLearningRate, 1 / std::sqrt(static_cast<double>(c.attributes.integer[0])));
  Launch(x, kOneBlock, &AdafactorKernel, ViewOf(c.in[0]), ViewOf(c.in[1]), 1 - kLearningRate * c.attributes.number,
         rate);
  return {};
}

constexpr KernelEntry kEntries[] = {
    {OpKind::kFusedAdam, &FusedAdam},
    {OpKind::kForeachAdam, &ForeachAdam},
    {OpKind::kAverageInto, &AverageInto},
    {OpKind::kAdamUpdate, &AdamUpdate},
    {OpKind::kSgdStep, &SgdStep},
    {OpKind::kSquaresInto, &SquaresInto},
    {OpKind::kScaledSumInto, &ScaledSumInto},
    {OpKind::kRootUpdate, &RootUpdate},
    {OpKind::kFusedAdagrad, &FusedAdagrad},
    {OpKind::kForeachMul, &ForeachMul},
    {OpKind::kForeachNorm, &ForeachNorm},
    {OpKind::kForeachMulInto, &ForeachMulInto},
    {OpKind::kForeachSqrt, &ForeachSqrt},
    {OpKind::kForeachAdd, &ForeachAdd},
    {OpKind::kForeachClone, &ForeachClone},
    {OpKind::kUnscaleGradients, &UnscaleGradients},
    {OpKind::kUpdateScale, &UpdateScale},
    {OpKind::kSquareInto, &SquareInto},
    {OpKind::kLerpInto, &LerpInto},
    {OpKind::kDivInto, &DivInto},
    {OpKind::kRsqrtMulInto, &RsqrtMulInto},
    {OpKind::kAdafactorUpdate, &AdafactorUpdate},
};

}  // namespace

std::span<const KernelEntry> OptimizerKernels() { return kEntries; }

}  // namespace tidemark::cuda
