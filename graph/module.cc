#include "graph/module.h"

#include <algorithm>

#include "graph/autograd.h"

namespace tidemark {

Module::Module(Module& parent, const std::string& name)
    : tracer_(parent.tracer_),
      dtype_(parent.dtype_),
      path_(parent.path_.empty() ? name : parent.path_ + "." + name),
      scope_(tracer_.AddScope(path_)) {
  parent.children_.push_back(this);
}

ParameterPtr Module::AddParameter(const std::string& name, const Dims& sizes) {
  auto parameter = std::make_shared<Parameter>();
  parameter->sizes = sizes;
  parameter->dtype = dtype_;
  parameter->initial.data = HostData::kParameter;
  parameter->name = path_.empty() ? name : path_ + "." + name;
  parameters_.push_back(parameter);
  return parameter;
}

ParameterPtr Module::AddBuffer(const std::string& name, DType dtype, const Dims& sizes, const HostSource& initial) {
  ParameterPtr buffer = AddParameter(name, sizes);
  parameters_.pop_back();
  buffer->dtype = dtype;
  buffer->is_buffer = true;
  buffer->initial = initial;
  buffers_.push_back(buffer);
  return buffer;
}

void Module::MoveToDevice() {
  for (Module* child : children_) child->MoveToDevice();
  const InScope in_scope(tracer_, scope_);
  for (const auto* own : {&parameters_, &buffers_}) {
    for (const ParameterPtr& p : *own) {
      if (p->tensor.defined()) continue;
      const Role role = p->is_buffer ? Role::kBuffer : Role::kParameter;
      const Tensor moved = FromHost(tracer_, p->dtype, p->sizes, role, p->initial);
      p->tensor = Tensor(moved, HolderKind::kParameter);
      tracer_.SetName(p->tensor, tracer_.AddScope(p->name));
      if (p->is_buffer) continue;
      MakeParameter(p->tensor);
      tracer_.graph().parameters += NumElements(p->sizes);
    }
  }
}

void Module::ConvertBuffers() {
  for (Module* child : children_) child->ConvertBuffers();
  for (const ParameterPtr& buffer : buffers_) {
    if (IsFloating(buffer->dtype)) buffer->dtype = dtype_;
  }
}

void Module::Collect(std::vector<ParameterPtr> Module::*which, std::vector<ParameterPtr>& all) const {
  for (const ParameterPtr& p : this->*which) {
    if (std::ranges::find(all, p) == all.end()) all.push_back(p);
  }
  for (const Module* child : children_) child->Collect(which, all);
}

std::vector<ParameterPtr> Module::Parameters() const {
  std::vector<ParameterPtr> all;
  Collect(&Module::parameters_, all);
  return all;
}

std::vector<ParameterPtr> Module::Buffers() const {
  std::vector<ParameterPtr> all;
  Collect(&Module::buffers_, all);
  return all;
}

namespace {
const Tensor& TensorOf(const ParameterPtr& parameter) {
  static const Tensor kNone;
  return parameter == nullptr ? kNone : parameter->tensor;
}
}  // namespace

LinearLayer::LinearLayer(Module& parent, const std::string& name, int64_t in, int64_t out, bool bias,
                         ParameterPtr shared)
    : Layer(parent, name) {
  if (shared != nullptr) {
    weight_ = std::move(shared);
    Share(weight_);
  } else {
    weight_ = AddParameter("weight", {out, in});
  }
  if (bias) bias_ = AddParameter("bias", {out});
}
Tensor LinearLayer::Forward(const Tensor& x) const { return Linear(x, weight_->tensor, TensorOf(bias_)); }

LayerNormLayer::LayerNormLayer(Module& parent, const std::string& name, int64_t width, bool bias, double epsilon)
    : Layer(parent, name), epsilon_(epsilon) {
  weight_ = AddParameter("weight", {width});
  if (bias) bias_ = AddParameter("bias", {width});
}
Tensor LayerNormLayer::Forward(const Tensor& x) const {
  return LayerNorm(x, weight_->tensor, TensorOf(bias_), epsilon_);
}

EmbeddingLayer::EmbeddingLayer(Module& parent, const std::string& name, int64_t rows, int64_t width,
                               ParameterPtr shared)
    : Layer(parent, name) {
  if (shared != nullptr) {
    weight_ = std::move(shared);
    Share(weight_);
  } else {
    weight_ = AddParameter("weight", {rows, width});
  }
}
Tensor EmbeddingLayer::Forward(const Tensor& indices) const { return Embedding(weight_->tensor, indices); }

}  // namespace tidemark
