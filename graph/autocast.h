// torch.autocast: which operand is cast when, and the cache of weight casts.
// Source: PyTorch 2.14, aten/src/ATen/autocast_mode.cpp (cached_cast).
#pragma once

#include "graph/tracer.h"

namespace tidemark {

// While it lives, autocast is on (if `enabled`). Leaving the outermost region drops the cached casts.
class AutocastRegion {
 public:
  AutocastRegion(Tracer& tracer, bool enabled, DType dtype);
  ~AutocastRegion();
  AutocastRegion(const AutocastRegion&) = delete;
  AutocastRegion& operator=(const AutocastRegion&) = delete;

 private:
  Tracer& tracer_;
  bool outer_enabled_;
  DType outer_dtype_;
};

// Without autocast for a while, inside a region or not: what an operator does whose insides aren't cast.
class AutocastOff {
 public:
  explicit AutocastOff(Tracer& tracer) : tracer_(tracer), outer_(std::exchange(tracer.autocast.enabled, false)) {}
  ~AutocastOff() { tracer_.autocast.enabled = outer_; }
  AutocastOff(const AutocastOff&) = delete;
  AutocastOff& operator=(const AutocastOff&) = delete;

 private:
  Tracer& tracer_;
  bool outer_;
};

// What an operator of the 16-bit list gets for t: a cast of a floating tensor (a cached one for parameters in fp32).
Tensor CastToHalf(Operand t);
// What an operator of the fp32 list gets for t.
Tensor CastToFloat(Operand t);

}  // namespace tidemark
