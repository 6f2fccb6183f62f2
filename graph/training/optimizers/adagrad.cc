// Source: PyTorch 2.14, torch/optim/adagrad.py. The only optimizer whose state is there before the first step.
#include <algorithm>

#include "graph/training/optimizers/optimizers.h"
#include "graph/training/rates.h"

namespace tidemark {
namespace {

class Adagrad : public Optimizer {
 public:
  Adagrad(Tracer& tracer, std::vector<ParameterGroup> groups, OptimizerImplementation how)
      : Optimizer(tracer, std::move(groups)), how_(how) {}

  bool TakesGradScale() const override { return how_ == OptimizerImplementation::kFused; }

  void Construct() override {
    for (const ParameterGroup& group : groups_) {
      for (const ParameterPtr& p : group.parameters) {
        AdagradState& state = states_.emplace_back();
        state.owner = p.get();
        if (how_ == OptimizerImplementation::kFused) {
          state.step = State(Full(tracer_, DType::kFloat32, {}, 0), *p, "step");
        }
        state.sum = State(tracer_.Emit(OpKind::kFull, {}, Like(p->tensor)), *p, "sum");
      }
    }
  }

  void Step() override {
    for (const ParameterGroup& group : groups_) {
      const Lists lists = ListsOf(group);
      if (lists.owners.empty()) continue;
      Pointers sums, steps;
      CollectStates(lists, sums, steps);
      switch (how_) {
        case OptimizerImplementation::kFused:
          Fused(lists, sums, steps, group.weight_decay);
          break;
        case OptimizerImplementation::kForeach:
          Foreach(lists, sums, group.weight_decay);
          break;
        case OptimizerImplementation::kForLoop:
          ForLoop(lists, sums, group.weight_decay);
          break;
      }
    }
  }

 private:
  struct AdagradState {
    const Parameter* owner = nullptr;
    Tensor step;  // on the device for the fused one only
    Tensor sum;
  };

  // Of the parameters that have a gradient; both are in the order of the groups.
  void CollectStates(const Lists& lists, Pointers& sums, Pointers& steps) const {
    auto state = states_.begin();
    for (const Parameter* owner : lists.owners) {
      state = std::find_if(state, states_.end(), [&](const AdagradState& s) { return s.owner == owner; });
      sums.push_back(&state->sum);
      if (state->step.defined()) steps.push_back(&state->step);
    }
  }

  void Fused(const Lists& lists, const Pointers& sums, const Pointers& steps, double weight_decay) {
    const Pointers scalars = ScalarsOf(grad_scale_);
    tracer_.EmitInPlace(OpKind::kFusedAdagrad, Joined({&lists.parameters, &lists.gradients, &sums, &steps, &scalars}),
                        Joined({&lists.parameters, &sums, &steps}),
                        {.number = weight_decay, .integer = {0, static_cast<int64_t>(scalars.size())}});
  }

  // The gradients times the rate are a list of their own, or overwrite those with decay.
  void Foreach(const Lists& lists, const Pointers& sums, double weight_decay) {
    TemporaryList numerators, roots;
    const bool decays = weight_decay != 0;
    if (decays) {
      numerators = ForeachLike(tracer_, OpKind::kForeachAdd, Joined({&lists.gradients, &lists.parameters}),
                               lists.gradients, {.number = weight_decay});
    }
    const Pointers gradients = decays ? numerators.pointers() : lists.gradients;
    for (size_t i = 0; i < sums.size(); ++i) AddSquares(*sums[i], *gradients[i]);
    roots = ForeachLike(tracer_, OpKind::kForeachSqrt, sums, sums);
    if (!decays) {
      numerators = ForeachLike(tracer_, OpKind::kForeachMul, gradients, gradients, {.number = -kLearningRate});
    }
    const Pointers numerator_list = numerators.pointers();
    const Pointers root_list = roots.pointers();
    for (size_t i = 0; i < sums.size(); ++i) {
      Update(*lists.parameters[i], *numerator_list[i], *root_list[i], !decays);
    }
  }

  // A root per parameter, whose name lives until the next one is there.
  void ForLoop(const Lists& lists, const Pointers& sums, double weight_decay) {
    Tensor root, gradient;
    for (size_t i = 0; i < sums.size(); ++i) {
      const Tensor& parameter = *lists.parameters[i];
      gradient = *lists.gradients[i];
      if (weight_decay != 0) {
        gradient = tracer_.Emit(OpKind::kAdd, {&gradient, &parameter}, Like(gradient), {.number = weight_decay});
      }
      AddSquares(*sums[i], gradient);
      root = Unary(OpKind::kSqrt, *sums[i]);
      Update(parameter, gradient, root, false);
    }
  }

  void AddSquares(const Tensor& sum, const Tensor& gradient) {
    tracer_.EmitInPlace(OpKind::kSquaresInto, {&sum, &gradient}, {&sum}, {.number = 1, .second = 1});
  }

  void Update(const Tensor& parameter, const Tensor& gradient, const Tensor& root, bool is_scaled) {
    tracer_.EmitInPlace(OpKind::kRootUpdate, {&parameter, &gradient, &root}, {&parameter},
                        {.number = kAdagradEpsilon, .integer = {is_scaled ? 1 : 0}});
  }

  OptimizerImplementation how_;
  std::vector<AdagradState> states_;  // in the order of the groups
};

}  // namespace

std::unique_ptr<Optimizer> MakeAdagrad(Tracer& tracer, std::vector<ParameterGroup> groups,
                                       const OptimizerConfig& config) {
  return std::make_unique<Adagrad>(tracer, std::move(groups), config.implementation);
}

}  // namespace tidemark
