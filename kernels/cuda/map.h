// Applies a function object to the elements of tensors, which are broadcast to the result.
#pragma once

#include "kernels/cuda/device.h"

namespace tidemark::cuda {

template <int kInputs>
struct Inputs {
  View view[kInputs];
};

template <typename T, int kInputs, typename F>
__global__ void MapKernel(Inputs<kInputs> in, View out, F f) {
  for (int64_t i = FirstElement(); i < out.size; i += ElementStride()) {
    if constexpr (kInputs == 1) out.Store<T>(i, f(in.view[0].template Load<T>(i)));
    if constexpr (kInputs == 2) out.Store<T>(i, f(in.view[0].template Load<T>(i), in.view[1].template Load<T>(i)));
    if constexpr (kInputs == 3) {
      out.Store<T>(i,
                   f(in.view[0].template Load<T>(i), in.view[1].template Load<T>(i), in.view[2].template Load<T>(i)));
    }
  }
}

// out = f(in…) in fp32, or in double precision where an operand or the result needs it.
template <int kInputs, typename F>
Status Map(const std::array<TensorSpan, static_cast<size_t>(kInputs)>& in, const TensorSpan& out, const F& f,
           const Context& context) {
  Inputs<kInputs> inputs;
  bool wide = IsWide(out.dtype);
  for (int k = 0; k < kInputs; ++k) {
    const TensorSpan& t = in[static_cast<size_t>(k)];
    inputs.view[k] = ViewOf(t, out.sizes);
    wide = wide || IsWide(t.dtype);
  }
  const View result = ViewOf(out);
  if (wide) {
    Launch(context, Over(result.size), &MapKernel<double, kInputs, F>, inputs, result, f);
  } else {
    Launch(context, Over(result.size), &MapKernel<float, kInputs, F>, inputs, result, f);
  }
  return {};
}

struct Same {
  template <typename T>
  __device__ T operator()(T a) const {
    return a;
  }
};

inline Status Copy(const TensorSpan& from, const TensorSpan& to, const Context& context) {
  return Map<1>({from}, to, Same{}, context);
}

// to = value everywhere.
struct Constant {
  double value = 0;
  __device__ double operator()(int64_t) const { return value; }
};
template <typename F>
__global__ void GenerateKernel(View out, F f) {
  for (int64_t i = FirstElement(); i < out.size; i += ElementStride()) out.Store<double>(i, f(i));
}
template <typename F>
Status Generate(const TensorSpan& out, const F& f, const Context& context) {
  const View view = ViewOf(out);
  Launch(context, Over(view.size), &GenerateKernel<F>, view, f);
  return {};
}

}  // namespace tidemark::cuda
