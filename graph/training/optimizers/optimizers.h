// The optimizers' constructors, for the table in graph/training/optimizer.cc, and what their steps share.
#pragma once

#include <memory>
#include <vector>

#include "graph/training/optimizer.h"

namespace tidemark {

std::unique_ptr<Optimizer> MakeAdam(Tracer& tracer, std::vector<ParameterGroup> groups, const OptimizerConfig& config);
std::unique_ptr<Optimizer> MakeSgd(Tracer& tracer, std::vector<ParameterGroup> groups, const OptimizerConfig& config);
std::unique_ptr<Optimizer> MakeRmsprop(Tracer& tracer, std::vector<ParameterGroup> groups,
                                       const OptimizerConfig& config);
std::unique_ptr<Optimizer> MakeAdagrad(Tracer& tracer, std::vector<ParameterGroup> groups,
                                       const OptimizerConfig& config);
std::unique_ptr<Optimizer> MakeAdafactor(Tracer& tracer, std::vector<ParameterGroup> groups,
                                         const OptimizerConfig& config);

using Pointers = std::vector<const Tensor*>;

// Parameters of a group that have a gradient, as operand lists.
struct Lists {
  std::vector<Parameter*> owners;
  Pointers parameters;
  Pointers gradients;
};
Lists ListsOf(const ParameterGroup& group);

// Found and scale, those that there are: the last operands of fused ops.
Pointers ScalarsOf(const GradScale& grad_scale);
Pointers Joined(std::initializer_list<const Pointers*> lists);
Pointers PointersTo(const std::vector<Tensor>& tensors);
ResultType Like(const Tensor& t);

// A list of temporaries; Python drops a list's elements last to first.
class TemporaryList {
 public:
  TemporaryList() = default;
  explicit TemporaryList(std::vector<Tensor> tensors) : tensors_(std::move(tensors)) {}
  TemporaryList(TemporaryList&&) noexcept = default;
  TemporaryList& operator=(TemporaryList&& other) noexcept;  // the old list goes once the new one is there
  ~TemporaryList() { Clear(); }
  void Clear();
  void Append(Tensor t) { tensors_.push_back(std::move(t)); }
  Pointers pointers() const { return PointersTo(tensors_); }

 private:
  std::vector<Tensor> tensors_;
};

// One op over lists: result i is like `like`[i].
TemporaryList ForeachLike(Tracer& tracer, OpKind kind, const Pointers& inputs, const Pointers& like,
                          const Attributes& attributes = {});

}  // namespace tidemark
