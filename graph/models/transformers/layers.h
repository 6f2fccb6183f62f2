// Small modules and functions that several of transformers' models share.
#pragma once

#include <string_view>

#include "graph/base/result.h"
#include "graph/module.h"

namespace tidemark::transformers {

// LlamaRMSNorm and its copies: computed in fp32, scaled in the input's dtype.
class RmsNorm : public Layer {
 public:
  RmsNorm(Module& parent, const std::string& name, int64_t width, double epsilon);

 protected:
  Tensor Forward(const Tensor& x) const override;

 protected:
  double epsilon() const { return epsilon_; }
  const Tensor& weight() const { return weight_->tensor; }

 private:
  double epsilon_;
  ParameterPtr weight_;
};

// GemmaRMSNorm: computed and scaled by 1 + weight in fp32.
class GemmaRmsNorm : public RmsNorm {
 public:
  using RmsNorm::RmsNorm;

 protected:
  Tensor Forward(const Tensor& x) const override;
};

// GemmaTextScaledWordEmbedding: times sqrt(width), a buffer.
class ScaledEmbedding : public EmbeddingLayer {
 public:
  ScaledEmbedding(Module& parent, const std::string& name, int64_t rows, int64_t width);

 protected:
  Tensor Forward(const Tensor& indices) const override;

 private:
  ParameterPtr scale_;
};

// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), written out as transformers' NewGELUActivation does.
Tensor NewGelu(const Tensor& x);

// hidden_act: the activations of transformers' ACT2FN that are known here.
enum class Activation : uint8_t { kGelu, kGeluNew, kGeluTanh, kRelu, kSilu, kTanh };
Result<Activation> ParseActivation(std::string_view name, std::string_view key);
Tensor Activate(Activation activation, Operand x);

}  // namespace tidemark::transformers
