// Source: PyTorch 2.14, torch/optim/adam.py (AdamW is Adam with decoupled decay) and optimizer.py.
#include <cmath>

#include "graph/training/optimizers/optimizers.h"
#include "graph/training/rates.h"

namespace tidemark {
namespace {

class Adam : public Optimizer {
 public:
  Adam(Tracer& tracer, std::vector<ParameterGroup> groups, OptimizerImplementation how, bool decoupled_decay)
      : Optimizer(tracer, std::move(groups)), how_(how), decoupled_decay_(decoupled_decay) {}

  bool TakesGradScale() const override { return how_ == OptimizerImplementation::kFused; }

  void Step() override {
    ++step_;
    states_.resize(groups_.size());
    for (size_t i = 0; i < groups_.size(); ++i) {
      const Lists lists = ListsOf(groups_[i]);
      if (lists.owners.empty()) continue;
      if (states_[i].empty()) MakeStates(lists, states_[i]);
      Update(lists, states_[i], groups_[i].weight_decay);
    }
  }

 private:
  struct AdamState {
    Tensor step;  // on the device for the fused one only
    Tensor average;
    Tensor average_of_squares;
  };

  void MakeStates(const Lists& lists, std::vector<AdamState>& states) {
    states.resize(lists.owners.size());
    for (size_t i = 0; i < lists.owners.size(); ++i) {
      const Parameter& p = *lists.owners[i];
      if (how_ == OptimizerImplementation::kFused) {
        states[i].step = State(Full(tracer_, DType::kFloat32, {}, 0), p, "step");
      }
      const ResultType zeros = Like(p.tensor);
      states[i].average = State(tracer_.Emit(OpKind::kFull, {}, zeros), p, "exp_avg");
      states[i].average_of_squares = State(tracer_.Emit(OpKind::kFull, {}, zeros), p, "exp_avg_sq");
    }
  }

  void Update(const Lists& lists, const std::vector<AdamState>& states, double weight_decay) {
    Pointers steps, averages, squares;
    for (const AdamState& s : states) {
      if (s.step.defined()) steps.push_back(&s.step);
      averages.push_back(&s.average);
      squares.push_back(&s.average_of_squares);
    }
    switch (how_) {
      case OptimizerImplementation::kFused: {
        const auto changed = Joined({&lists.parameters, &averages, &squares, &steps});
        const Pointers scalars = ScalarsOf(grad_scale_);
        tracer_.EmitInPlace(
            OpKind::kFusedAdam, Joined({&lists.parameters, &lists.gradients, &averages, &squares, &steps, &scalars}),
            changed,
            {.number = weight_decay, .integer = {decoupled_decay_ ? 1 : 0, static_cast<int64_t>(scalars.size())}});
        break;
      }
      case OptimizerImplementation::kForeach:
        Foreach(lists, averages, squares, weight_decay);
        break;
      case OptimizerImplementation::kForLoop:
        ForLoop(lists, averages, squares, weight_decay);
        break;
    }
  }

  void Foreach(const Lists& lists, const Pointers& averages, const Pointers& squares, double weight_decay) {
    TemporaryList decayed;
    Pointers gradients = lists.gradients;
    if (!decoupled_decay_ && weight_decay != 0) {
      decayed = ForeachLike(tracer_, OpKind::kForeachAdd, Joined({&lists.gradients, &lists.parameters}),
                            lists.gradients, {.number = weight_decay});
      gradients = decayed.pointers();
    }
    for (size_t i = 0; i < averages.size(); ++i) {
      tracer_.EmitInPlace(OpKind::kAverageInto, {averages[i], gradients[i], squares[i]}, {averages[i], squares[i]});
    }
    decayed.Clear();
    const TemporaryList roots = ForeachLike(tracer_, OpKind::kForeachSqrt, squares, squares);
    const Pointers root_list = roots.pointers();
    tracer_.EmitInPlace(OpKind::kForeachAdam, Joined({&lists.parameters, &averages, &root_list}), lists.parameters,
                        UpdateAttributes(weight_decay));
  }

  // Per parameter a root and a quotient; the quotient's name lives until the next one is there.
  void ForLoop(const Lists& lists, const Pointers& averages, const Pointers& squares, double weight_decay) {
    Tensor denominator, gradient;
    for (size_t i = 0; i < lists.parameters.size(); ++i) {
      const Tensor& parameter = *lists.parameters[i];
      gradient = *lists.gradients[i];
      if (!decoupled_decay_ && weight_decay != 0) {
        gradient = tracer_.Emit(OpKind::kAdd, {&gradient, &parameter}, Like(gradient), {.number = weight_decay});
      }
      tracer_.EmitInPlace(OpKind::kAverageInto, {averages[i], &gradient, squares[i]}, {averages[i], squares[i]});
      const double correction = std::sqrt(1 - std::pow(kBeta2, static_cast<double>(step_)));
      denominator = Div(Unary(OpKind::kSqrt, *squares[i]), correction);
      tracer_.EmitInPlace(OpKind::kAdamUpdate, {&parameter, averages[i], &denominator}, {&parameter},
                          UpdateAttributes(weight_decay));
    }
  }

  Attributes UpdateAttributes(double weight_decay) const {
    return {.number = decoupled_decay_ ? weight_decay : 0, .integer = {step_}};
  }

  OptimizerImplementation how_;
  bool decoupled_decay_;
  int64_t step_ = 0;
  std::vector<std::vector<AdamState>> states_;  // by group and parameter
};

}  // namespace

std::unique_ptr<Optimizer> MakeAdam(Tracer& tracer, std::vector<ParameterGroup> groups, const OptimizerConfig& config) {
  return std::make_unique<Adam>(tracer, std::move(groups), config.implementation, config.kind == OptimizerKind::kAdamw);
}

}  // namespace tidemark
