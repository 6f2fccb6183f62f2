// Source: PyTorch 2.14, torch/optim/sgd.py.
#include "graph/training/optimizers/optimizers.h"

namespace tidemark {
namespace {

class Sgd : public Optimizer {
 public:
  Sgd(Tracer& tracer, std::vector<ParameterGroup> groups, const OptimizerConfig& config)
      : Optimizer(tracer, std::move(groups)),
        how_(config.implementation),
        momentum_(config.momentum),
        nesterov_(config.nesterov) {}

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
    TemporaryList decayed;
    Pointers gradients = lists.gradients;
    if (how_ == OptimizerImplementation::kForeach && weight_decay != 0) {
      decayed = ForeachLike(tracer_, OpKind::kForeachAdd, Joined({&lists.gradients, &lists.parameters}),
                            lists.gradients, {.number = weight_decay});
      gradients = decayed.pointers();
    }
    const bool first = momentum_ != 0 && buffers.empty();
    if (first) {
      for (size_t i = 0; i < gradients.size(); ++i) buffers.push_back(NewBuffer(*gradients[i], *lists.owners[i]));
    }
    const Pointers buffer_list = PointersTo(buffers);
    const Pointers scalars = ScalarsOf(grad_scale_);
    const double decay = how_ == OptimizerImplementation::kFused ? weight_decay : 0;  // else the gradients have it
    tracer_.EmitInPlace(OpKind::kSgdStep, Joined({&lists.parameters, &gradients, &buffer_list, &scalars}),
                        Joined({&lists.parameters, &buffer_list}),
                        {.number = momentum_,
                         .second = decay,
                         .integer = {first ? 1 : 0, static_cast<int64_t>(scalars.size()), nesterov_ ? 1 : 0}});
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
      if (nesterov_) {
        if (!first)
          tracer_.EmitInPlace(OpKind::kScaledSumInto, {&buffers[i], &gradient}, {&buffers[i]}, {.number = momentum_});
        gradient = tracer_.Emit(OpKind::kAdd, {&gradient, &buffers[i]}, Like(gradient), {.number = momentum_});
        tracer_.EmitInPlace(OpKind::kSgdStep, {&parameter, &gradient}, {&parameter});
        continue;
      }
      tracer_.EmitInPlace(OpKind::kSgdStep, {&parameter, &gradient, &buffers[i]}, {&parameter, &buffers[i]},
                          {.number = momentum_, .integer = {first ? 1 : 0}});
      gradient = buffers[i];  // the buffer takes the gradient's name
    }
  }

  Tensor NewBuffer(const Tensor& gradient, const Parameter& owner) {
    return State(tracer_.Emit(OpKind::kClone, {&gradient}, Like(gradient)), owner, "momentum_buffer");
  }

  OptimizerImplementation how_;
  double momentum_;
  bool nesterov_;
  std::vector<std::vector<Tensor>> buffers_;  // by group and parameter
};

}  // namespace

std::unique_ptr<Optimizer> MakeSgd(Tracer& tracer, std::vector<ParameterGroup> groups, const OptimizerConfig& config) {
  return std::make_unique<Sgd>(tracer, std::move(groups), config);
}

}  // namespace tidemark
