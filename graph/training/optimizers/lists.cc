#include "graph/training/optimizers/optimizers.h"

namespace tidemark {

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

Pointers ScalarsOf(const GradScale& grad_scale) {
  Pointers scalars;
  if (grad_scale.found != nullptr) scalars.push_back(grad_scale.found);
  if (grad_scale.scale != nullptr) scalars.push_back(grad_scale.scale);
  return scalars;
}

Pointers Joined(std::initializer_list<const Pointers*> lists) {
  Pointers all;
  for (const auto* list : lists) all.insert(all.end(), list->begin(), list->end());
  return all;
}

Pointers PointersTo(const std::vector<Tensor>& tensors) {
  Pointers pointers;
  for (const Tensor& t : tensors) pointers.push_back(&t);
  return pointers;
}

ResultType Like(const Tensor& t) { return {t.dtype(), t.layout()}; }

void TemporaryList::Clear() {
  while (!tensors_.empty()) tensors_.pop_back();
}

TemporaryList& TemporaryList::operator=(TemporaryList&& other) noexcept {
  TemporaryList old(std::move(tensors_));
  tensors_ = std::move(other.tensors_);
  return *this;
}

TemporaryList ForeachLike(Tracer& tracer, OpKind kind, const Pointers& inputs, const Pointers& like,
                          const Attributes& attributes) {
  std::vector<ResultType> types;
  for (const Tensor* t : like) types.push_back(Like(*t));
  std::vector<Tensor> results(types.size());
  tracer.Emit(kind, inputs, types, results, attributes);
  return TemporaryList(std::move(results));
}

}  // namespace tidemark
