// Source: PyTorch 2.14, torch/optim/rmsprop.py.
#include "graph/training/optimizers/optimizers.h"
#include "graph/training/rates.h"

namespace tidemark {
namespace {

class Rmsprop : public Optimizer {
 public:
  Rmsprop(Tracer& tracer, std::vector<ParameterGroup> groups, const OptimizerConfig& config)
      : Optimizer(tracer, std::move(groups)), how_(config.implementation), momentum_(config.momentum) {}

  void Step() override {
    states_.resize(groups_.size());
    for (size_t i = 0; i < groups_.size(); ++i) {
      const Lists lists = ListsOf(groups_[i]);
      if (lists.owners.empty()) continue;
      if (states_[i].empty()) MakeStates(lists, states_[i]);
      how_ == OptimizerImplementation::kForeach ? Foreach(lists, states_[i], groups_[i].weight_decay)
                                                : ForLoop(lists, states_[i], groups_[i].weight_decay);
    }
  }

 private:
  struct RmspropState {
    Tensor squares;
    Tensor buffer;  // with momentum
  };

  void MakeStates(const Lists& lists, std::vector<RmspropState>& states) {
    states.resize(lists.owners.size());
    for (size_t i = 0; i < states.size(); ++i) {
      const Parameter& p = *lists.owners[i];
      states[i].squares = State(tracer_.Emit(OpKind::kFull, {}, Like(p.tensor)), p, "square_avg");
      if (momentum_ == 0) continue;
      states[i].buffer = State(tracer_.Emit(OpKind::kFull, {}, Like(p.tensor)), p, "momentum_buffer");
    }
  }

  void Foreach(const Lists& lists, const std::vector<RmspropState>& states, double weight_decay) {
    Pointers squares;
    for (const RmspropState& s : states) squares.push_back(&s.squares);
    TemporaryList roots, decayed;
    Pointers gradients = lists.gradients;
    if (weight_decay != 0) {
      decayed = ForeachLike(tracer_, OpKind::kForeachAdd, Joined({&lists.gradients, &lists.parameters}),
                            lists.gradients, {.number = weight_decay});
      gradients = decayed.pointers();
    }
    for (size_t i = 0; i < squares.size(); ++i) Average(*squares[i], *gradients[i]);
    roots = ForeachLike(tracer_, OpKind::kForeachSqrt, squares, squares);
    const Pointers root_list = roots.pointers();
    for (size_t i = 0; i < squares.size(); ++i) {
      Update(*lists.parameters[i], *gradients[i], *root_list[i], states[i].buffer);
    }
  }

  // A root per parameter, whose name lives until the next one is there.
  void ForLoop(const Lists& lists, const std::vector<RmspropState>& states, double weight_decay) {
    Tensor root, gradient;
    for (size_t i = 0; i < states.size(); ++i) {
      const Tensor& parameter = *lists.parameters[i];
      gradient = *lists.gradients[i];
      if (weight_decay != 0) {
        gradient = tracer_.Emit(OpKind::kAdd, {&gradient, &parameter}, Like(gradient), {.number = weight_decay});
      }
      Average(states[i].squares, gradient);
      root = Unary(OpKind::kSqrt, states[i].squares);
      Update(parameter, gradient, root, states[i].buffer);
    }
  }

  void Average(const Tensor& squares, const Tensor& gradient) {
    tracer_.EmitInPlace(OpKind::kSquaresInto, {&squares, &gradient}, {&squares},
                        {.number = kRmspropAlpha, .second = 1 - kRmspropAlpha});
  }

  void Update(const Tensor& parameter, const Tensor& gradient, const Tensor& root, const Tensor& buffer) {
    const Attributes attributes = {.number = kRmspropEpsilon, .second = momentum_};
    if (buffer.defined()) {
      tracer_.EmitInPlace(OpKind::kRootUpdate, {&parameter, &gradient, &root, &buffer}, {&parameter, &buffer},
                          attributes);
    } else {
      tracer_.EmitInPlace(OpKind::kRootUpdate, {&parameter, &gradient, &root}, {&parameter}, attributes);
    }
  }

  OptimizerImplementation how_;
  double momentum_;
  std::vector<std::vector<RmspropState>> states_;  // by group and parameter
};

}  // namespace

std::unique_ptr<Optimizer> MakeRmsprop(Tracer& tracer, std::vector<ParameterGroup> groups,
                                       const OptimizerConfig& config) {
  return std::make_unique<Rmsprop>(tracer, std::move(groups), config);
}

}  // namespace tidemark
