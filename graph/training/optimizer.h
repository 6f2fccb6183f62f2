// torch.optim's optimizers: state, and what a step allocates.
// Source: PyTorch 2.14, torch/optim/{adam,sgd,_adafactor}.py.
#pragma once

#include <memory>
#include <vector>

#include "graph/module.h"
#include "graph/run_config.h"

namespace tidemark {

struct ParameterGroup {
  std::vector<ParameterPtr> parameters;
  double weight_decay = 0;
};

class Optimizer {
 public:
  Optimizer(Tracer& tracer, std::vector<ParameterGroup> groups) : tracer_(tracer), groups_(std::move(groups)) {}
  virtual ~Optimizer() = default;
  // Updates every parameter that has a gradient. State is born with the first step.
  virtual void Step() = 0;
  // set_to_none=True: gradients go, in the order of the groups.
  void ZeroGrad();
  // Whether step() takes the scaler's factor and skips by itself (fused ones).
  virtual bool TakesGradScale() const { return false; }
  const std::vector<ParameterGroup>& groups() const { return groups_; }

 protected:
  Tracer& tracer() { return tracer_; }
  // A tensor of state, held by the optimizer: "h.0.ln_1.weight.exp_avg".
  Tensor State(Tensor t, const Parameter& of, const char* name);

  Tracer& tracer_;
  std::vector<ParameterGroup> groups_;
};

// What the run's loop would construct: nanoGPT's two groups (matrices decay, vectors don't), or one.
std::unique_ptr<Optimizer> MakeOptimizer(const Module& model, const TrainingConfig& training);

}  // namespace tidemark
