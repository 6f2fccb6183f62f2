// torch.optim's optimizers: state, and what a step allocates. Each is a file in optimizers/ and a row of the table.
// Source: PyTorch 2.14, torch/optim.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "graph/base/result.h"
#include "graph/module.h"
#include "graph/run_config.h"

namespace tidemark {

// What the scaler leaves to a fused optimizer. Null: nothing.
struct GradScale {
  const Tensor* found = nullptr;  // whether a gradient isn't finite
  const Tensor* scale = nullptr;  // gradients are still times this
};

struct ParameterGroup {
  std::vector<ParameterPtr> parameters;
  double weight_decay = 0;
};

class Optimizer {
 public:
  Optimizer(Tracer& tracer, std::vector<ParameterGroup> groups) : tracer_(tracer), groups_(std::move(groups)) {}
  virtual ~Optimizer() = default;
  // Updates every parameter that has a gradient, group by group. State is born with the first step, unless Construct()
  // makes it.
  virtual void Step() = 0;
  // State that the constructor makes. Call once, with the parameters on the device.
  virtual void Construct() {}
  // set_to_none=True: gradients go, in the order of the groups.
  void ZeroGrad();
  // Whether step() takes the scaler's factor and skips by itself (fused ones).
  virtual bool TakesGradScale() const { return false; }
  // For the steps from here on. REQUIRES: TakesGradScale().
  void SetGradScale(const GradScale& grad_scale) { grad_scale_ = grad_scale; }
  const std::vector<ParameterGroup>& groups() const { return groups_; }

 protected:
  // A tensor of state, held by the optimizer: "h.0.ln_1.weight.exp_avg".
  Tensor State(Tensor t, const Parameter& of, const char* name);

  Tracer& tracer_;
  std::vector<ParameterGroup> groups_;
  GradScale grad_scale_;
};

struct OptimizerInfo {
  OptimizerKind kind;
  std::string_view name;         // as a run file writes it
  std::string_view description;  // one line
  bool has_fused;                // foreach and for-loop there are always
  std::string_view options;      // what a run file may set beside these
  std::unique_ptr<Optimizer> (*make)(Tracer& tracer, std::vector<ParameterGroup> groups, const OptimizerConfig& config);
};

// Every optimizer there is, in the order of `list optimizers`.
std::span<const OptimizerInfo> Optimizers();

// What the run's loop would construct: nanoGPT's two groups (matrices decay, vectors don't), or one.
// Errors: an implementation that the optimizer doesn't have.
Result<std::unique_ptr<Optimizer>> MakeOptimizer(const Module& model, const TrainingConfig& training);

}  // namespace tidemark
