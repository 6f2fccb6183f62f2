#include "graph/training/optimizer.h"

#include <array>

#include "graph/base/check.h"

namespace tidemark {
namespace {

// Parameters of a group that have a gradient, as operand lists.
struct Lists {
  std::vector<Parameter*> owners;
  std::vector<const Tensor*> parameters;
  std::vector<const Tensor*> gradients;
};

Lists ListsOf(const ParameterGroup& group) {
  Lists lists;
  for (const ParameterPtr& p : group.parameters) {
    if (!p->tensor.impl()->grad.defined()) continue;
    lists.owners.push_back(p.get());
    lists.parameters.push_back(&p->tensor);
    lists.gradients.push_back(&p->tensor.impl()->grad);
  }
  return lists;
}

std::vector<const Tensor*> Joined(std::initializer_list<const std::vector<const Tensor*>*> lists) {
  std::vector<const Tensor*> all;
  for (const auto* list : lists) all.insert(all.end(), list->begin(), list->end());
  return all;
}

ResultType Like(const Tensor& t, Role role = Role::kActivation) { return {t.dtype(), t.layout(), role}; }

std::vector<const Tensor*> Pointers(const std::vector<Tensor>& tensors) {
  std::vector<const Tensor*> pointers;
  for (const Tensor& t : tensors) pointers.push_back(&t);
  return pointers;
}

// A list of temporaries; Python drops a list's elements last to first.
class TemporaryList {
 public:
  explicit TemporaryList(std::vector<Tensor> tensors) : tensors_(std::move(tensors)) {}
  TemporaryList(TemporaryList&&) noexcept = default;
  ~TemporaryList() {
    while (!tensors_.empty()) tensors_.pop_back();
  }
  std::vector<const Tensor*> pointers() const { return Pointers(tensors_); }

 private:
  std::vector<Tensor> tensors_;
};

TemporaryList ForeachLike(Tracer& tracer, OpKind kind, const std::vector<const Tensor*>& inputs,
                          const std::vector<const Tensor*>& like, const Attributes& attributes = {}) {
  std::vector<ResultType> types;
  for (const Tensor* t : like) types.push_back(Like(*t));
  std::vector<Tensor> results(types.size());
  tracer.Emit(kind, inputs, types, results, attributes);
  return TemporaryList(std::move(results));
}

class Adam : public Optimizer {
 public:
  Adam(Tracer& tracer, std::vector<ParameterGroup> groups, OptimizerImplementation how, bool decoupled_decay)
      : Optimizer(tracer, std::move(groups)), how_(how), decoupled_decay_(decoupled_decay) {}

  bool TakesGradScale() const override { return how_ == OptimizerImplementation::kFused; }

  void Step() override {
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
    std::vector<const Tensor*> steps, averages, squares;
    for (const AdamState& s : states) {
      if (s.step.defined()) steps.push_back(&s.step);
      averages.push_back(&s.average);
      squares.push_back(&s.average_of_squares);
    }
    switch (how_) {
      case OptimizerImplementation::kFused: {
        const auto changed = Joined({&lists.parameters, &averages, &squares, &steps});
        tracer_.EmitInPlace(OpKind::kFusedAdam,
                            Joined({&lists.parameters, &lists.gradients, &averages, &squares, &steps}), changed,
                            {.number = weight_decay});
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

  void Foreach(const Lists& lists, const std::vector<const Tensor*>& averages,
               const std::vector<const Tensor*>& squares, double weight_decay) {
    std::vector<TemporaryList> temporaries;
    std::vector<const Tensor*> gradients = lists.gradients;
    if (!decoupled_decay_ && weight_decay != 0) {
      temporaries.push_back(ForeachLike(tracer_, OpKind::kForeachAdd, Joined({&lists.gradients, &lists.parameters}),
                                        lists.gradients, {.number = weight_decay}));
      gradients = temporaries.back().pointers();
    }
    for (size_t i = 0; i < averages.size(); ++i) {
      tracer_.EmitInPlace(OpKind::kAverageInto, {averages[i], gradients[i], squares[i]}, {averages[i], squares[i]});
    }
    // The gradients' list is replaced by the roots': its name goes first.
    std::vector<TemporaryList> roots;
    roots.push_back(ForeachLike(tracer_, OpKind::kForeachSqrt, squares, squares));
    tracer_.EmitInPlace(OpKind::kForeachAdam, Joined({&lists.parameters, &averages, &squares}), lists.parameters);
  }

  // Per parameter a root and a quotient; the quotient's name lives until the next one is there.
  void ForLoop(const Lists& lists, const std::vector<const Tensor*>& averages,
               const std::vector<const Tensor*>& squares, double weight_decay) {
    Tensor gradient, denominator;
    for (size_t i = 0; i < lists.parameters.size(); ++i) {
      const Tensor& parameter = *lists.parameters[i];
      gradient = *lists.gradients[i];
      if (!decoupled_decay_ && weight_decay != 0) {
        gradient = tracer_.Emit(OpKind::kAdd, {&gradient, &parameter}, Like(gradient), {.number = weight_decay});
      }
      tracer_.EmitInPlace(OpKind::kAverageInto, {averages[i], &gradient, squares[i]}, {averages[i], squares[i]});
      denominator = Div(Unary(OpKind::kSqrt, *squares[i]), 1.0);
      tracer_.EmitInPlace(OpKind::kAdamUpdate, {&parameter, averages[i], &denominator}, {&parameter});
    }
  }

  OptimizerImplementation how_;
  bool decoupled_decay_;
  std::vector<std::vector<AdamState>> states_;  // by group and parameter
};

class Sgd : public Optimizer {
 public:
  Sgd(Tracer& tracer, std::vector<ParameterGroup> groups, OptimizerImplementation how, double momentum)
      : Optimizer(tracer, std::move(groups)), how_(how), momentum_(momentum) {}

  bool TakesGradScale() const override { return how_ == OptimizerImplementation::kFused; }

  void Step() override {
    buffers_.resize(groups_.size());
    for (size_t i = 0; i < groups_.size(); ++i) {
      const Lists lists = ListsOf(groups_[i]);
      if (lists.owners.empty()) continue;
      if (how_ == OptimizerImplementation::kForLoop) {
        ForLoop(lists, buffers_[i], groups_[i].weight_decay);
      } else {
        AllAtOnce(lists, buffers_[i], groups_[i].weight_decay);
      }
    }
  }

 private:
  void AllAtOnce(const Lists& lists, std::vector<Tensor>& buffers, double weight_decay) {
    std::vector<TemporaryList> temporaries;
    std::vector<const Tensor*> gradients = lists.gradients;
    if (how_ == OptimizerImplementation::kForeach && weight_decay != 0) {
      temporaries.push_back(ForeachLike(tracer_, OpKind::kForeachAdd, Joined({&lists.gradients, &lists.parameters}),
                                        lists.gradients, {.number = weight_decay}));
      gradients = temporaries.back().pointers();
    }
    if (momentum_ != 0 && buffers.empty()) {
      for (size_t i = 0; i < gradients.size(); ++i) buffers.push_back(NewBuffer(*gradients[i], *lists.owners[i]));
    }
    const std::vector<const Tensor*> buffer_list = Pointers(buffers);
    tracer_.EmitInPlace(OpKind::kSgdStep, Joined({&lists.parameters, &gradients, &buffer_list}),
                        Joined({&lists.parameters, &buffer_list}), {.number = momentum_});
  }

  void ForLoop(const Lists& lists, std::vector<Tensor>& buffers, double weight_decay) {
    const bool first = momentum_ != 0 && buffers.empty();
    Tensor gradient;
    for (size_t i = 0; i < lists.parameters.size(); ++i) {
      const Tensor& parameter = *lists.parameters[i];
      gradient = *lists.gradients[i];
      if (weight_decay != 0) {
        gradient = tracer_.Emit(OpKind::kAdd, {&gradient, &parameter}, Like(gradient), {.number = weight_decay});
      }
      if (momentum_ == 0) {
        tracer_.EmitInPlace(OpKind::kSgdStep, {&parameter, &gradient}, {&parameter});
        continue;
      }
      if (first) buffers.push_back(NewBuffer(gradient, *lists.owners[i]));
      tracer_.EmitInPlace(OpKind::kSgdStep, {&parameter, &gradient, &buffers[i]}, {&parameter, &buffers[i]},
                          {.number = momentum_});
      gradient = buffers[i];  // the buffer takes the gradient's name
    }
  }

  Tensor NewBuffer(const Tensor& gradient, const Parameter& owner) {
    return State(tracer_.Emit(OpKind::kClone, {&gradient}, Like(gradient)), owner, "momentum_buffer");
  }

  OptimizerImplementation how_;
  double momentum_;
  std::vector<std::vector<Tensor>> buffers_;  // by group and parameter
};

std::vector<ParameterGroup> GroupsOf(const Module& model, const TrainingConfig& t) {
  const std::vector<ParameterPtr> parameters = model.Parameters();
  if (t.loop == Loop::kPlain) {
    return {{parameters, t.optimizer.weight_decay.value_or(t.optimizer.kind == OptimizerKind::kAdamw ? 0.01 : 0.0)}};
  }
  const double decay = t.optimizer.weight_decay.value_or(t.optimizer.kind == OptimizerKind::kSgd ? 0.0 : 0.1);
  ParameterGroup matrices{{}, decay};
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

std::unique_ptr<Optimizer> MakeOptimizer(const Module& model, const TrainingConfig& training) {
  Tracer& tracer = model.tracer();
  const OptimizerConfig& config = training.optimizer;
  std::vector<ParameterGroup> groups = GroupsOf(model, training);
  switch (config.kind) {
    case OptimizerKind::kAdamw:
    case OptimizerKind::kAdam:
      return std::make_unique<Adam>(tracer, std::move(groups), config.implementation,
                                    config.kind == OptimizerKind::kAdamw);
    case OptimizerKind::kSgd:
      return std::make_unique<Sgd>(tracer, std::move(groups), config.implementation, config.momentum);
    case OptimizerKind::kAdafactor:
      return nullptr;
  }
  return nullptr;
}

}  // namespace tidemark
