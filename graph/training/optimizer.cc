#include "graph/training/optimizer.h"

#include <array>

#include "graph/training/optimizers/optimizers.h"

namespace tidemark {
namespace {

// The decay that the constructor has by default.
double DefaultDecay(OptimizerKind kind) { return kind == OptimizerKind::kAdamw ? 0.01 : 0.0; }

std::vector<ParameterGroup> GroupsOf(const Module& model, const TrainingConfig& t) {
  const std::vector<ParameterPtr> parameters = model.Parameters();
  const OptimizerConfig& o = t.optimizer;
  if (t.loop == Loop::kPlain) return {{parameters, o.weight_decay.value_or(DefaultDecay(o.kind))}};
  // The groups' own values: the constructor's don't reach them.
  ParameterGroup matrices{{}, o.kind == OptimizerKind::kSgd ? 0.0 : 0.1};
  ParameterGroup vectors{{}, 0};
  for (const ParameterPtr& p : parameters) (p->sizes.size() >= 2 ? matrices : vectors).parameters.push_back(p);
  return {std::move(matrices), std::move(vectors)};
}

}  // namespace

void Optimizer::ZeroGrad() {
  for (const ParameterGroup& group : groups_) {
    for (const ParameterPtr& p : group.parameters) p->tensor.impl()->grad.Reset();
  }
}

Tensor Optimizer::State(Tensor t, const Parameter& of, const char* name) {
  tracer_.SetRole(t, Role::kOptimizerState);
  tracer_.SetName(t, tracer_.AddScope(of.name + "." + name));
  return Tensor(t, HolderKind::kOptimizer);
}

std::span<const OptimizerInfo> Optimizers() {
  static constexpr std::string_view kDecay = "weight_decay";
  static constexpr std::array kOptimizers = {
      OptimizerInfo{OptimizerKind::kAdamw, "adamw", "Adam with decoupled weight decay", true, kDecay, &MakeAdam},
      OptimizerInfo{OptimizerKind::kAdam, "adam", "averages of gradients and of their squares", true, kDecay,
                    &MakeAdam},
      OptimizerInfo{OptimizerKind::kSgd, "sgd", "gradient descent, with momentum if asked for", true,
                    "momentum, nesterov, weight_decay", &MakeSgd},
      OptimizerInfo{OptimizerKind::kRmsprop, "rmsprop", "averages of squares", false, "momentum, weight_decay",
                    &MakeRmsprop},
      OptimizerInfo{OptimizerKind::kAdagrad, "adagrad", "sums of squares", true, kDecay, &MakeAdagrad},
      OptimizerInfo{OptimizerKind::kAdafactor, "adafactor", "averages of squares by row and column", false, kDecay,
                    &MakeAdafactor},
  };
  return kOptimizers;
}

Result<std::unique_ptr<Optimizer>> MakeOptimizer(const Module& model, const TrainingConfig& training) {
  const OptimizerConfig& config = training.optimizer;
  for (const OptimizerInfo& info : Optimizers()) {
    if (info.kind != config.kind) continue;
    if (config.implementation == OptimizerImplementation::kFused && !info.has_fused) {
      return InvalidInput("training.optimizer.implementation: " + std::string(info.name) +
                          " has no fused implementation; it has foreach and for-loop");
    }
    return info.make(model.tracer(), GroupsOf(model, training), config);
  }
  return InvalidInput("training.optimizer.name: this optimizer can't be simulated yet");
}

}  // namespace tidemark
