#include "graph/models/transformers/layers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace tidemark::transformers {

RmsNorm::RmsNorm(Module& parent, const std::string& name, int64_t width, double epsilon)
    : Layer(parent, name), epsilon_(epsilon), weight_(AddParameter("weight", {width})) {}

Tensor RmsNorm::Forward(const Tensor& x) const {
  Tensor variance, hidden;
  hidden = To(x, DType::kFloat32);
  variance = MeanLast(Pow(hidden, 2));
  hidden = Mul(hidden, Rsqrt(Add(variance, epsilon_)));
  return Mul(weight_->tensor, To(hidden, x.dtype()));
}

Tensor GemmaRmsNorm::Forward(const Tensor& x) const {
  Tensor output;
  {
    const Tensor hidden = To(x, DType::kFloat32);
    output = Mul(hidden, Rsqrt(Add(MeanLast(Pow(hidden, 2)), epsilon())));
  }
  Operand scale = Add(To(weight(), DType::kFloat32), 1);
  output = Mul(output, std::move(scale));
  return To(output, x.dtype());
}

ScaledEmbedding::ScaledEmbedding(Module& parent, const std::string& name, int64_t rows, int64_t width)
    : EmbeddingLayer(parent, name, rows, width),
      scale_(AddBuffer("embed_scale", dtype(), {},
                       {.data = HostData::kConstant, .number = std::sqrt(static_cast<double>(width))})) {}

Tensor ScaledEmbedding::Forward(const Tensor& indices) const {
  return Mul(EmbeddingLayer::Forward(indices), To(scale_->tensor, weight()->dtype));
}

Tensor NewGelu(const Tensor& x) {
  static const double kScale = std::sqrt(2 / std::numbers::pi);
  Operand half = Mul(x, 0.5);
  Tensor inner = Add(x, Mul(Pow(x, 3), 0.044715));
  Operand factor = Add(Tanh(Mul(std::move(inner), kScale)), 1);
  return Mul(std::move(half), std::move(factor));
}

namespace {
struct ActivationName {
  std::string_view name;
  Activation activation;
};
constexpr std::array kActivations = {
    ActivationName{"gelu", Activation::kGelu},
    ActivationName{"gelu_new", Activation::kGeluNew},
    ActivationName{"gelu_pytorch_tanh", Activation::kGeluTanh},
    ActivationName{"relu", Activation::kRelu},
    ActivationName{"silu", Activation::kSilu},
    ActivationName{"swish", Activation::kSilu},
    ActivationName{"tanh", Activation::kTanh},
};
}  // namespace

Result<Activation> ParseActivation(std::string_view name, std::string_view key) {
  const auto found = std::ranges::find(kActivations, name, &ActivationName::name);
  if (found != kActivations.end()) return found->activation;
  std::string known;
  for (const ActivationName& a : kActivations) known += (known.empty() ? "" : ", ") + std::string(a.name);
  return InvalidInput(std::string(key) + ": \"" + std::string(name) + "\" can't be simulated; known: " + known);
}

Tensor Activate(Activation activation, Operand x) {
  switch (activation) {
    case Activation::kGelu:
      return Gelu(std::move(x));
    case Activation::kGeluNew: {
      Tensor result = NewGelu(*x);
      x.Drop();
      return result;
    }
    case Activation::kGeluTanh:
      return GeluTanh(std::move(x));
    case Activation::kRelu:
      return Relu(std::move(x));
    case Activation::kSilu:
      return Silu(std::move(x));
    case Activation::kTanh:
      return Tanh(std::move(x));
  }
  return {};
}

}  // namespace tidemark::transformers
