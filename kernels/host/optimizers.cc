// Optimizer steps, and what surrounds them: norms for clipping, the scaler's bookkeeping.
#include <array>
#include <atomic>
#include <cmath>

#include "graph/training/rates.h"
#include "kernels/host/kernel.h"
#include "kernels/host/map.h"

namespace tidemark::host {
namespace {

// Spans of list i of lists of n tensors.
std::span<const TensorSpan> List(std::span<const TensorSpan> all, size_t i, size_t n) { return all.subspan(i * n, n); }

double ScalarOf(const TensorSpan& t) { return LoadNumber(t.dtype, t.data); }

// What a fused step gets from the scaler: the last operands.
struct FromScaler {
  bool skip = false;
  float inverse_scale = 1;
  static FromScaler Of(const KernelCall& c) {
    const auto n = static_cast<size_t>(c.attributes.integer[1]);
    FromScaler result;
    if (n > 0) result.skip = ScalarOf(c.in[c.in.size() - n]) != 0;
    if (n > 1) result.inverse_scale = static_cast<float>(1 / ScalarOf(c.in[c.in.size() - 1]));
    return result;
  }
};

// Calls update(values of each tensor at one place…) for all elements; tensors are changed but `gradient`.
template <size_t kTensors, typename F>
void UpdateAll(const std::array<TensorSpan, kTensors>& tensors, std::array<bool, kTensors> changed, const F& update) {
  std::vector<Elements> elements;
  for (const TensorSpan& t : tensors) elements.emplace_back(t);
  ParallelChunks(elements[0].size(), kChunk, [&](int64_t begin, int64_t n) {
    std::array<std::array<float, kChunk>, kTensors> values;
    for (size_t k = 0; k < kTensors; ++k) elements[k].Load(begin, n, values[k].data());
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      [&]<size_t... kIndex>(std::index_sequence<kIndex...>) { update(values[kIndex][i]...); }
      (std::make_index_sequence<kTensors>());
    }
    for (size_t k = 0; k < kTensors; ++k) {
      if (changed[k]) elements[k].Store(begin, n, values[k].data());
    }
  });
}

Result<RunOutcome> FusedAdam(const KernelCall& c) {
  const FromScaler scaler = FromScaler::Of(c);
  if (scaler.skip) return RunOutcome::kDone;
  const size_t n = (c.in.size() - static_cast<size_t>(c.attributes.integer[1])) / 5;
  const bool decoupled = c.attributes.integer[0] != 0;
  const auto decay = static_cast<float>(c.attributes.number);
  const auto kept = static_cast<float>(1 - kLearningRate * c.attributes.number);
  for (size_t i = 0; i < n; ++i) {
    const TensorSpan& step_tensor = List(c.in, 4, n)[i];
    const double step = ScalarOf(step_tensor) + 1;
    StoreNumber(step_tensor.dtype, step_tensor.data, step);
    const auto rate = static_cast<float>(kLearningRate / (1 - std::pow(kBeta1, step)));
    const auto correction = static_cast<float>(std::sqrt(1 - std::pow(kBeta2, step)));
    UpdateAll<4>({List(c.in, 0, n)[i], List(c.in, 1, n)[i], List(c.in, 2, n)[i], List(c.in, 3, n)[i]},
                 {true, false, true, true}, [&](float& p, float g, float& average, float& square) {
                   g *= scaler.inverse_scale;
                   if (decoupled) {
                     p *= kept;
                   } else {
                     g += decay * p;
                   }
                   average += static_cast<float>(1 - kBeta1) * (g - average);
                   square = static_cast<float>(kBeta2) * square + static_cast<float>(1 - kBeta2) * g * g;
                   p -= rate * average / (std::sqrt(square) / correction + static_cast<float>(kAdamEpsilon));
                 });
  }
  return RunOutcome::kDone;
}

Result<RunOutcome> AverageInto(const KernelCall& c) {
  UpdateAll<3>({c.in[0], c.in[1], c.in[2]}, {true, false, true}, [](float& average, float g, float& square) {
    average += static_cast<float>(1 - kBeta1) * (g - average);
    square = static_cast<float>(kBeta2) * square + static_cast<float>(1 - kBeta2) * g * g;
  });
  return RunOutcome::kDone;
}

// p = p * (1 - rate * decay) - rate / (1 - beta1^step) * average / (root / correction + epsilon)
void UpdateParameter(const Attributes& a, const TensorSpan& parameter, const TensorSpan& average,
                     const TensorSpan& root, double correction) {
  const auto step = static_cast<double>(a.integer[0]);
  const auto kept = static_cast<float>(1 - kLearningRate * a.number);
  const auto rate = static_cast<float>(kLearningRate / (1 - std::pow(kBeta1, step)));
  const auto divisor = static_cast<float>(correction);
  UpdateAll<3>({parameter, average, root}, {true, false, false}, [&](float& p, float m, float r) {
    p = p * kept - rate * m / (r / divisor + static_cast<float>(kAdamEpsilon));
  });
}

Result<RunOutcome> ForeachAdam(const KernelCall& c) {
  const size_t n = c.in.size() / 3;
  const double correction = std::sqrt(1 - std::pow(kBeta2, static_cast<double>(c.attributes.integer[0])));
  for (size_t i = 0; i < n; ++i) {
    UpdateParameter(c.attributes, List(c.in, 0, n)[i], List(c.in, 1, n)[i], List(c.in, 2, n)[i], correction);
  }
  return RunOutcome::kDone;
}
Result<RunOutcome> AdamUpdate(const KernelCall& c) {
  UpdateParameter(c.attributes, c.in[0], c.in[1], c.in[2], 1);
  return RunOutcome::kDone;
}

Result<RunOutcome> SgdStep(const KernelCall& c) {
  const FromScaler scaler = FromScaler::Of(c);
  if (scaler.skip) return RunOutcome::kDone;
  const auto momentum = static_cast<float>(c.attributes.number);
  const auto decay = static_cast<float>(c.attributes.second);
  const bool is_new = c.attributes.integer[0] != 0;
  const size_t lists = c.attributes.number != 0 ? 3 : 2;
  const size_t n = (c.in.size() - static_cast<size_t>(c.attributes.integer[1])) / lists;
  const bool nesterov = c.attributes.integer[2] != 0;
  const auto rate = static_cast<float>(kLearningRate);
  for (size_t i = 0; i < n; ++i) {
    const TensorSpan& p = List(c.in, 0, n)[i];
    const TensorSpan& g = List(c.in, 1, n)[i];
    const auto gradient = [&](float parameter, float value) {
      return value * scaler.inverse_scale + decay * parameter;
    };
    if (lists == 2) {
      UpdateAll<2>({p, g}, {true, false},
                   [&](float& parameter, float value) { parameter -= rate * gradient(parameter, value); });
      continue;
    }
    UpdateAll<3>({p, g, List(c.in, 2, n)[i]}, {true, false, true}, [&](float& parameter, float value, float& buffer) {
      const float now = gradient(parameter, value);
      buffer = is_new ? now : momentum * buffer + now;
      parameter -= rate * (nesterov ? now + momentum * buffer : buffer);
    });
  }
  return RunOutcome::kDone;
}

Result<RunOutcome> SquaresInto(const KernelCall& c) {
  const auto kept = static_cast<float>(c.attributes.number);
  const auto added = static_cast<float>(c.attributes.second);
  UpdateAll<2>({c.in[0], c.in[1]}, {true, false}, [&](float& sum, float g) { sum = kept * sum + added * g * g; });
  return RunOutcome::kDone;
}
Result<RunOutcome> ScaledSumInto(const KernelCall& c) {
  const auto kept = static_cast<float>(c.attributes.number);
  UpdateAll<2>({c.in[0], c.in[1]}, {true, false}, [&](float& a, float b) { a = kept * a + b; });
  return RunOutcome::kDone;
}
Result<RunOutcome> RootUpdate(const KernelCall& c) {
  const auto epsilon = static_cast<float>(c.attributes.number);
  const auto momentum = static_cast<float>(c.attributes.second);
  const float rate = c.attributes.integer[0] != 0 ? 1 : static_cast<float>(-kLearningRate);
  if (c.in.size() == 3) {
    UpdateAll<3>({c.in[0], c.in[1], c.in[2]}, {true, false, false},
                 [&](float& p, float g, float root) { p += rate * (g / (root + epsilon)); });
  } else {
    UpdateAll<4>({c.in[0], c.in[1], c.in[2], c.in[3]}, {true, false, false, true},
                 [&](float& p, float g, float root, float& buffer) {
                   buffer = momentum * buffer + g / (root + epsilon);
                   p += rate * buffer;
                 });
  }
  return RunOutcome::kDone;
}
Result<RunOutcome> FusedAdagrad(const KernelCall& c) {
  const FromScaler scaler = FromScaler::Of(c);
  if (scaler.skip) return RunOutcome::kDone;
  const size_t n = (c.in.size() - static_cast<size_t>(c.attributes.integer[1])) / 4;
  const auto decay = static_cast<float>(c.attributes.number);
  const auto rate = static_cast<float>(kLearningRate);
  for (size_t i = 0; i < n; ++i) {
    const TensorSpan& step = List(c.in, 3, n)[i];
    StoreNumber(step.dtype, step.data, ScalarOf(step) + 1);
    UpdateAll<3>({List(c.in, 0, n)[i], List(c.in, 1, n)[i], List(c.in, 2, n)[i]}, {true, false, true},
                 [&](float& p, float g, float& sum) {
                   g = g * scaler.inverse_scale + decay * p;
                   sum += g * g;
                   p -= rate * g / (std::sqrt(sum) + static_cast<float>(kAdagradEpsilon));
                 });
  }
  return RunOutcome::kDone;
}

double SumOfSquares(const TensorSpan& t) {
  const Elements elements(t);
  double sum = 0;
  std::array<float, kChunk> values;
  for (int64_t begin = 0; begin < elements.size(); begin += kChunk) {
    const int64_t n = std::min(kChunk, elements.size() - begin);
    elements.Load(begin, n, values.data());
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    }
  }
  return sum;
}

double RootMeanSquare(const TensorSpan& t) {
  return std::sqrt(SumOfSquares(t) / static_cast<double>(NumElements(t.sizes)));
}

Result<RunOutcome> ForeachNorm(const KernelCall& c) {
  for (size_t i = 0; i < c.in.size(); ++i) {
    StoreNumber(c.out[i].dtype, c.out[i].data, std::sqrt(SumOfSquares(c.in[i])));
  }
  return RunOutcome::kDone;
}
Result<RunOutcome> ForeachMulInto(const KernelCall& c) {
  const auto factor = static_cast<float>(ScalarOf(c.in.back()));
  for (const TensorSpan& t : c.in.first(c.in.size() - 1)) UpdateAll<1>({t}, {true}, [&](float& v) { v *= factor; });
  return RunOutcome::kDone;
}
Result<RunOutcome> ForeachSqrt(const KernelCall& c) {
  for (size_t i = 0; i < c.in.size(); ++i) Map<1>({c.in[i]}, c.out[i], [](auto a) { return std::sqrt(a); });
  return RunOutcome::kDone;
}
Result<RunOutcome> ForeachAdd(const KernelCall& c) {
  const size_t n = c.out.size();
  for (size_t i = 0; i < n; ++i) {
    Map<2>({c.in[i], c.in[n + i]}, c.out[i],
           [&](auto a, auto b) { return a + b * static_cast<decltype(a)>(c.attributes.number); });
  }
  return RunOutcome::kDone;
}
Result<RunOutcome> ForeachMul(const KernelCall& c) {
  for (size_t i = 0; i < c.in.size(); ++i) {
    Map<1>({c.in[i]}, c.out[i], [&](auto a) { return a * static_cast<decltype(a)>(c.attributes.number); });
  }
  return RunOutcome::kDone;
}
Result<RunOutcome> ForeachClone(const KernelCall& c) {
  for (size_t i = 0; i < c.in.size(); ++i) Map<1>({c.in[i]}, c.out[i], [](auto a) { return a; });
  return RunOutcome::kDone;
}

Result<RunOutcome> UnscaleGradients(const KernelCall& c) {
  const size_t n = c.in.size() - 2;
  const auto factor = static_cast<float>(ScalarOf(c.in[n + 1]));
  std::atomic<bool> finite = true;
  for (size_t i = 0; i < n; ++i) {
    UpdateAll<1>({c.in[i]}, {true}, [&](float& v) {
      if (!std::isfinite(v)) finite = false;
      v *= factor;
    });
  }
  if (!finite) StoreNumber(c.in[n].dtype, c.in[n].data, 1);
  return RunOutcome::kDone;
}

Result<RunOutcome> UpdateScale(const KernelCall& c) {
  const double scale = ScalarOf(c.in[0]);
  double good_steps = ScalarOf(c.in[1]);
  double next = scale;
  if (ScalarOf(c.in[2]) != 0) {
    next = scale * kScaleBackoff;
    good_steps = 0;
  } else if (++good_steps == kScaleGrowthInterval) {
    next = std::isfinite(static_cast<float>(scale * kScaleGrowth)) ? scale * kScaleGrowth : scale;
    good_steps = 0;
  }
  StoreNumber(c.in[0].dtype, c.in[0].data, next);
  StoreNumber(c.in[1].dtype, c.in[1].data, good_steps);
  return RunOutcome::kDone;
}

// --- Adafactor

Result<RunOutcome> SquareInto(const KernelCall& c) {
  const auto divisor = static_cast<float>(c.attributes.number);
  UpdateAll<1>({c.in[0]}, {true}, [&](float& v) { v = v * v / divisor; });
  return RunOutcome::kDone;
}
Result<RunOutcome> LerpInto(const KernelCall& c) {
  const auto weight = static_cast<float>(c.attributes.number);
  UpdateAll<2>({c.in[0], c.in[1]}, {true, false}, [&](float& a, float b) { a += weight * (b - a); });
  return RunOutcome::kDone;
}
Result<RunOutcome> DivInto(const KernelCall& c) {
  return Map<2>({c.in[0], c.in[1]}, c.out[0], [&](auto a, auto b) {
    const auto least = static_cast<decltype(a)>(c.attributes.number);
    return a / (b < least ? least : b);
  });
}
Result<RunOutcome> RsqrtMulInto(const KernelCall& c) {
  return Map<2>({c.in[0], c.in[1]}, c.out[0], [&](auto a, auto b) {
    const auto least = static_cast<decltype(a)>(c.attributes.number);
    return b / std::sqrt(a < least ? least : a);
  });
}
Result<RunOutcome> AdafactorUpdate(const KernelCall& c) {
  constexpr double kLeastScale = 1e-3;
  const auto kept = static_cast<float>(1 - kLearningRate * c.attributes.number);
  UpdateAll<1>({c.in[0]}, {true}, [&](float& v) { v *= kept; });
  const double rate = std::min(kLearningRate, 1 / std::sqrt(static_cast<double>(c.attributes.integer[0])));
  const double factor = rate * std::max(kLeastScale, RootMeanSquare(c.in[0])) / std::max(1.0, RootMeanSquare(c.in[1]));
  UpdateAll<2>({c.in[0], c.in[1]}, {true, false}, [&](float& p, float u) { p -= static_cast<float>(factor) * u; });
  return RunOutcome::kDone;
}

}  // namespace

std::span<const KernelEntry> OptimizerKernels() {
  static constexpr std::array kEntries = {
      KernelEntry{OpKind::kFusedAdam, &FusedAdam},
      KernelEntry{OpKind::kForeachAdam, &ForeachAdam},
      KernelEntry{OpKind::kAverageInto, &AverageInto},
      KernelEntry{OpKind::kAdamUpdate, &AdamUpdate},
      KernelEntry{OpKind::kSgdStep, &SgdStep},
      KernelEntry{OpKind::kSquaresInto, &SquaresInto},
      KernelEntry{OpKind::kScaledSumInto, &ScaledSumInto},
      KernelEntry{OpKind::kRootUpdate, &RootUpdate},
      KernelEntry{OpKind::kFusedAdagrad, &FusedAdagrad},
      KernelEntry{OpKind::kForeachMul, &ForeachMul},
      KernelEntry{OpKind::kForeachNorm, &ForeachNorm},
      KernelEntry{OpKind::kForeachMulInto, &ForeachMulInto},
      KernelEntry{OpKind::kForeachSqrt, &ForeachSqrt},
      KernelEntry{OpKind::kForeachAdd, &ForeachAdd},
      KernelEntry{OpKind::kForeachClone, &ForeachClone},
      KernelEntry{OpKind::kUnscaleGradients, &UnscaleGradients},
      KernelEntry{OpKind::kUpdateScale, &UpdateScale},
      KernelEntry{OpKind::kSquareInto, &SquareInto},
      KernelEntry{OpKind::kLerpInto, &LerpInto},
      KernelEntry{OpKind::kDivInto, &DivInto},
      KernelEntry{OpKind::kRsqrtMulInto, &RsqrtMulInto},
      KernelEntry{OpKind::kAdafactorUpdate, &AdafactorUpdate},
  };
  return kEntries;
}

}  // namespace tidemark::host
