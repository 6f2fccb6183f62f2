#include "graph/autocast.h"

#include "graph/functional.h"

namespace tidemark {

AutocastRegion::AutocastRegion(Tracer& tracer, bool enabled, DType dtype)
    : tracer_(tracer), outer_enabled_(tracer.autocast.enabled), outer_dtype_(tracer.autocast.dtype) {
  tracer.autocast.enabled = enabled;
  tracer.autocast.dtype = dtype;
  ++tracer.autocast.depth;
}

AutocastRegion::~AutocastRegion() {
  Autocast& state = tracer_.autocast;
  state.enabled = outer_enabled_;
  state.dtype = outer_dtype_;
  if (--state.depth > 0) return;
  if (state.cached_owner.size() > 1) {
    tracer_.Assume(
        "leaving autocast, PyTorch frees its cached casts in the order of a hash of host addresses: assumed that it is "
        "the order of casting (no allocation lies between, so nothing else depends on it)");
  }
  for (Tensor& owner : state.cached_owner) owner.impl()->cast.Reset();
  state.cached_owner.clear();
}

Tensor CastToHalf(Operand t) {
  Tracer& tracer = t->tracer();
  Autocast& state = tracer.autocast;
  if (!state.enabled || !IsFloating(t->dtype()) || t->dtype() == state.dtype) return t.Take();
  TensorImpl& impl = *t->impl();
  const bool cacheable = impl.dtype == DType::kFloat32 && impl.requires_grad && !impl.grad_fn && !impl.base.defined();
  if (!cacheable) return To(std::move(t), state.dtype);
  if (!impl.cast.defined()) {
    Tensor cast = To(*t, state.dtype);
    tracer.SetRole(cast, Role::kWeightCast);
    tracer.SetName(cast, tracer.graph().storages[impl.storage].name);
    if (tracer.functional) return cast;
    impl.cast = Tensor(cast, HolderKind::kCastCache);
    state.cached_owner.push_back(*t);
    t.Drop();
    return cast;
  }
  Tensor cast = impl.cast;
  t.Drop();
  return cast;
}

Tensor CastToFloat(Operand t) {
  Tracer& tracer = t->tracer();
  if (!tracer.autocast.enabled || !IsHalf(t->dtype())) return t.Take();
  return To(std::move(t), DType::kFloat32);
}

}  // namespace tidemark
