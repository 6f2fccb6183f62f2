#include "graph/training/grad_scaler.h"

#include "graph/training/optimizers/optimizers.h"
#include "graph/training/rates.h"

namespace tidemark {

Tensor GradScaler::Scalar(double value, DType dtype) { return Full(tracer_, dtype, {}, value, Role::kScalar); }

Tensor GradScaler::Scale(const Tensor& loss) {
  if (!enabled_) return loss;
  if (!scale_.defined()) {
    scale_ = Tensor(Scalar(kInitialScale), HolderKind::kOptimizer);
    growth_tracker_ = Tensor(Scalar(0, DType::kInt32), HolderKind::kOptimizer);
  }
  return Mul(loss, scale_);
}

void GradScaler::Unscale(const Optimizer& optimizer) {
  if (!enabled_) return;
  unscaled_ = true;
  Tensor found, inverse;
  // 1 / scale in double precision, as a float again.
  inverse = To(Unary(OpKind::kReciprocal, To(scale_, DType::kFloat64)), DType::kFloat32);
  found = Scalar(0);
  // A copy of each for the (only) device.
  const Tensor device_found = tracer_.Emit(OpKind::kClone, {&found}, Contiguous(DType::kFloat32, {}, Role::kScalar));
  const Tensor device_inverse =
      tracer_.Emit(OpKind::kClone, {&inverse}, Contiguous(DType::kFloat32, {}, Role::kScalar));
  UnscaleBy(optimizer, device_found, device_inverse);
}

// Looks for gradients that aren't finite, and multiplies all of them.
void GradScaler::UnscaleBy(const Optimizer& optimizer, const Tensor& found, const Tensor& factor) {
  std::vector<const Tensor*> operands;
  for (const ParameterGroup& group : optimizer.groups()) {
    for (const ParameterPtr& p : group.parameters) {
      if (p->tensor.impl()->grad.defined()) operands.push_back(&p->tensor.impl()->grad);
    }
  }
  std::vector<const Tensor*> changed = operands;
  operands.push_back(&found);
  operands.push_back(&factor);
  changed.push_back(&found);
  tracer_.EmitInPlace(OpKind::kUnscaleGradients, operands, changed);
  found_infinity_ = Tensor(found, HolderKind::kOptimizer);
}

void GradScaler::Step(Optimizer& optimizer) {
  if (!enabled_) {
    optimizer.Step();
    return;
  }
  tracer_.Assume(
      "GradScaler reads from the device whether a gradient is infinite: assumed that none is, so that no step is "
      "skipped");
  if (!optimizer.TakesGradScale()) {
    if (!unscaled_) Unscale(optimizer);
    optimizer.Step();
    return;
  }
  Tensor grad_scale;
  const bool was_unscaled = unscaled_;
  if (!was_unscaled) {  // looks for infinities without unscaling
    Tensor dummy = Scalar(1);
    Tensor found = Scalar(0);
    const Tensor device_found = tracer_.Emit(OpKind::kClone, {&found}, Contiguous(DType::kFloat32, {}, Role::kScalar));
    const Tensor device_dummy = tracer_.Emit(OpKind::kClone, {&dummy}, Contiguous(DType::kFloat32, {}, Role::kScalar));
    UnscaleBy(optimizer, device_found, device_dummy);
  }
  const Tensor sum = tracer_.Emit(OpKind::kClone, {&found_infinity_}, Contiguous(DType::kFloat32, {}, Role::kScalar));
  if (!was_unscaled) {
    grad_scale = tracer_.Emit(OpKind::kClone, {&scale_}, Contiguous(DType::kFloat32, {}, Role::kScalar));
  }
  optimizer.SetGradScale({&sum, grad_scale.defined() ? &grad_scale : nullptr});
  optimizer.Step();
  optimizer.SetGradScale({});
}

void GradScaler::Update() {
  if (!enabled_) return;
  tracer_.EmitInPlace(OpKind::kUpdateScale, {&scale_, &growth_tracker_, &found_infinity_}, {&scale_, &growth_tracker_});
  found_infinity_.Reset();
  unscaled_ = false;
}

void ClipGradNorm(Tracer& tracer, const std::vector<ParameterPtr>& parameters, double max_norm) {
  std::vector<const Tensor*> gradients;
  for (const ParameterPtr& p : parameters) {
    if (p->tensor.impl()->grad.defined()) gradients.push_back(&p->tensor.impl()->grad);
  }
  if (gradients.empty()) return;
  const DType dtype = gradients[0]->dtype();
  const ResultType scalar = Contiguous(dtype, {}, Role::kScalar);
  Tensor total;
  {
    std::vector<Tensor> results(gradients.size());
    const std::vector<ResultType> types(gradients.size(), scalar);
    tracer.Emit(OpKind::kForeachNorm, gradients, types, results);
    const TemporaryList norms(std::move(results));
    const Dims sizes = {static_cast<int64_t>(gradients.size())};
    const Tensor stacked = tracer.Emit(OpKind::kStack, norms.pointers(), Contiguous(dtype, sizes, Role::kScalar));
    total = tracer.Emit(OpKind::kNorm, {&stacked}, scalar);
  }
  Tensor coefficient;
  {
    const Tensor shifted = Add(total, 1e-6);
    const Tensor reciprocal = Unary(OpKind::kReciprocal, shifted);
    coefficient = Mul(reciprocal, max_norm);
  }
  const Tensor clamped = tracer.Emit(OpKind::kClamp, {&coefficient}, scalar, {.number = 1});
  coefficient.Reset();
  std::vector<const Tensor*> operands = gradients;
  operands.push_back(&clamped);
  tracer.EmitInPlace(OpKind::kForeachMulInto, operands, gradients);
}

}  // namespace tidemark
