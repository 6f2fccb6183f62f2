// torch.amp.GradScaler, and torch.nn.utils.clip_grad_norm_.
// Source: PyTorch 2.14, torch/amp/grad_scaler.py and torch/nn/utils/clip_grad.py.
#pragma once

#include "graph/module.h"
#include "graph/training/optimizer.h"

namespace tidemark {

// Finds no infinities: steps are never skipped. Disabled, it does nothing.
class GradScaler {
 public:
  GradScaler(Tracer& tracer, bool enabled) : tracer_(tracer), enabled_(enabled) {}
  Tensor Scale(const Tensor& loss);
  void Unscale(const Optimizer& optimizer);
  void Step(Optimizer& optimizer);
  void Update();

 private:
  void UnscaleBy(const Optimizer& optimizer, const Tensor& found, const Tensor& factor);
  Tensor Scalar(double value, DType dtype = DType::kFloat32);

  Tracer& tracer_;
  bool enabled_;
  bool unscaled_ = false;
  Tensor scale_;
  Tensor growth_tracker_;
  Tensor found_infinity_;  // of this step
};

void ClipGradNorm(Tracer& tracer, const std::vector<ParameterPtr>& parameters, double max_norm);

}  // namespace tidemark
