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

 private:
  double epsilon_;
  ParameterPtr weight_;
};

// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), written out as transformers' NewGELUActivation does.
Tensor NewGelu(const Tensor& x);

// hidden_act: the activations of transformers' ACT2FN that are known here.
enum class Activation : uint8_t { kGelu, kGeluNew, kGeluTanh, kRelu, kSilu, kTanh };
Result<Activation> ParseActivation(std::string_view name, std::string_view key);
Tensor Activate(Activation activation, Operand x);

}  // namespace tidemark::transformers
