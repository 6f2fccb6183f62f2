// What the kernels of this folder share: tensors as device code sees them, numbers in every format, launches. The files
// are compiled by nvcc, and for tests by the host's compiler (emulation.h), so they use threads, blocks, shared memory
// and barriers, and nothing beyond. Every kernel gives the same bits in every run: no atomics.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/emulation.h"
#include "kernels/cuda/kernel.h"
#include "kernels/number.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace tidemark::cuda {

// --- Where a thread is

#ifdef __CUDACC__
__device__ inline unsigned ThreadInBlock() { return threadIdx.x; }
__device__ inline unsigned ThreadsInBlock() { return blockDim.x; }
__device__ inline unsigned BlockX() { return blockIdx.x; }
__device__ inline unsigned BlockY() { return blockIdx.y; }
__device__ inline unsigned BlocksX() { return gridDim.x; }
__device__ inline void Barrier() { __syncthreads(); }
__device__ inline float* SharedFloats() {
  extern __shared__ float shared[];
  return shared;
}
#else
inline unsigned ThreadInBlock() { return Emulation::Get().thread; }
inline unsigned ThreadsInBlock() { return Emulation::Get().block_threads; }
inline unsigned BlockX() { return Emulation::Get().block.x; }
inline unsigned BlockY() { return Emulation::Get().block.y; }
inline unsigned BlocksX() { return Emulation::Get().grid_blocks.x; }
inline void Barrier() { Emulation::Get().Barrier(); }
inline float* SharedFloats() { return reinterpret_cast<float*>(Emulation::Get().shared); }
#endif

// --- Launches

struct Grid {
  int64_t x = 1, y = 1;
};
struct Shape {
  Grid grid;
  unsigned threads = 256;
  size_t shared_floats = 0;
  bool barriers = false;
};

template <typename... Parameters, typename... Arguments>
void Launch(const Context& context, const Shape& shape, void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0) return;
#ifdef __CUDACC__
  const dim3 grid(static_cast<unsigned>(shape.grid.x), static_cast<unsigned>(shape.grid.y));
  kernel<<<grid, shape.threads, shape.shared_floats * sizeof(float), static_cast<cudaStream_t>(context.stream)>>>(
      Parameters(arguments)...);
#else
  static_cast<void>(context);
  Emulation::Get().Run({static_cast<unsigned>(shape.grid.x), static_cast<unsigned>(shape.grid.y)}, shape.threads,
                       shape.barriers, [&] { kernel(Parameters(arguments)...); });
#endif
}

// A grid whose threads go over n elements in strides of all of them.
inline Shape Over(int64_t n) {
  constexpr int64_t kMostBlocks = 4096;
  return {.grid = {std::min((n + 255) / 256, kMostBlocks)}};
}
__device__ inline int64_t FirstElement() { return static_cast<int64_t>(BlockX()) * ThreadsInBlock() + ThreadInBlock(); }
__device__ inline int64_t ElementStride() { return static_cast<int64_t>(BlocksX()) * ThreadsInBlock(); }

// --- Numbers

template <typename T>
__device__ inline T LoadAs(const void* data, DType dtype, int64_t at) {
  switch (dtype) {
    case DType::kFloat32:
      return static_cast<T>(static_cast<const float*>(data)[at]);
    case DType::kFloat64:
      return static_cast<T>(static_cast<const double*>(data)[at]);
    case DType::kInt64:
      return static_cast<T>(static_cast<const int64_t*>(data)[at]);
    case DType::kUInt64:
      return static_cast<T>(static_cast<const uint64_t*>(data)[at]);
    case DType::kInt32:
      return static_cast<T>(static_cast<const int32_t*>(data)[at]);
    case DType::kUInt8:
    case DType::kBool:
      return static_cast<T>(static_cast<const uint8_t*>(data)[at]);
#ifdef __CUDACC__
    case DType::kFloat16:
      return static_cast<T>(__half2float(static_cast<const __half*>(data)[at]));
    case DType::kBFloat16:
      return static_cast<T>(__bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]));
#else
    case DType::kFloat16:
      return static_cast<T>(FloatOfFloat16(static_cast<const uint16_t*>(data)[at]));
    case DType::kBFloat16:
      return static_cast<T>(FloatOfBfloat16(static_cast<const uint16_t*>(data)[at]));
#endif
  }
  return T{};
}

template <typename T>
__device__ inline void StoreAs(void* data, DType dtype, int64_t at, T value) {
  switch (dtype) {
    case DType::kFloat32:
      static_cast<float*>(data)[at] = static_cast<float>(value);
      return;
    case DType::kFloat64:
      static_cast<double*>(data)[at] = static_cast<double>(value);
      return;
    case DType::kInt64:
      static_cast<int64_t*>(data)[at] = IntegerOf<int64_t>(value);
      return;
    case DType::kUInt64:
      static_cast<uint64_t*>(data)[at] = IntegerOf<uint64_t>(value);
      return;
    case DType::kInt32:
      static_cast<int32_t*>(data)[at] = IntegerOf<int32_t>(value);
      return;
    case DType::kUInt8:
      static_cast<uint8_t*>(data)[at] = IntegerOf<uint8_t>(value);
      return;
    case DType::kBool:
      static_cast<uint8_t*>(data)[at] = value != T{} ? 1 : 0;
      return;
#ifdef __CUDACC__
    case DType::kFloat16:
      static_cast<__half*>(data)[at] = __float2half_rn(static_cast<float>(value));
      return;
    case DType::kBFloat16:
      static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16_rn(static_cast<float>(value));
      return;
#else
    case DType::kFloat16:
      static_cast<uint16_t*>(data)[at] = Float16Of(static_cast<float>(value));
      return;
    case DType::kBFloat16:
      static_cast<uint16_t*>(data)[at] = Bfloat16Of(static_cast<float>(value));
      return;
#endif
  }
}

// --- Tensors

// The elements of a tensor, row-major, whatever its strides are. Neighbouring dimensions that are one run are merged.
struct View {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  int dims = 0;
  int64_t size = 1;
  int64_t sizes[Dims::kMaxDims] = {};
  int64_t strides[Dims::kMaxDims] = {};

  __device__ int64_t OffsetOf(int64_t i) const {
    int64_t offset = 0;
    for (int d = dims - 1; d > 0; --d) {
      offset += i % sizes[d] * strides[d];
      i /= sizes[d];
    }
    return offset + i * strides[0];
  }
  template <typename T>
  __device__ T Load(int64_t i) const {
    return LoadAs<T>(data, dtype, OffsetOf(i));
  }
  template <typename T>
  __device__ void Store(int64_t i, T value) const {
    StoreAs<T>(data, dtype, OffsetOf(i), value);
  }
};

inline int64_t CountOf(const Dims& sizes) {
  int64_t n = 1;
  for (const int64_t size : sizes) n *= size;
  return n;
}

// The tensor broadcast to `sizes`.
inline View ViewOf(const TensorSpan& t, const Dims& sizes) {
  View view;
  view.data = t.data;
  view.dtype = t.dtype;
  view.size = CountOf(sizes);
  const int leading = sizes.size() - t.sizes.size();
  for (int i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 1) continue;
    const bool stretched = i < leading || t.sizes[i - leading] == 1;
    const int64_t stride = stretched ? 0 : t.strides[i - leading];
    if (view.dims > 0 && view.strides[view.dims - 1] == stride * sizes[i]) {
      view.sizes[view.dims - 1] *= sizes[i];
      view.strides[view.dims - 1] = stride;
    } else {
      view.sizes[view.dims] = sizes[i];
      view.strides[view.dims++] = stride;
    }
  }
  if (view.dims == 0) {
    view.dims = 1;
    view.sizes[0] = 1;
  }
  return view;
}
inline View ViewOf(const TensorSpan& t) { return ViewOf(t, t.sizes); }

// Whether fp32 doesn't hold the numbers of this format.
inline bool IsWide(DType dtype) {
  return dtype == DType::kFloat64 || dtype == DType::kInt64 || dtype == DType::kUInt64 || dtype == DType::kInt32;
}

// --- Sums over a block

// The sum of each thread's value, for every thread. REQUIRES: `scratch` has room for a value of each thread; a power of
// two of threads, all of them here.
template <typename T>
__device__ inline T BlockSum(T value, T* scratch) {
  const unsigned thread = ThreadInBlock();
  Barrier();
  scratch[thread] = value;
  for (unsigned half = ThreadsInBlock() / 2; half > 0; half /= 2) {
    Barrier();
    if (thread < half) scratch[thread] += scratch[thread + half];
  }
  Barrier();
  return scratch[0];
}

template <typename T>
__device__ inline T BlockMax(T value, T* scratch) {
  const unsigned thread = ThreadInBlock();
  Barrier();
  scratch[thread] = value;
  for (unsigned half = ThreadsInBlock() / 2; half > 0; half /= 2) {
    Barrier();
    if (thread < half && !(scratch[thread + half] <= scratch[thread])) scratch[thread] = scratch[thread + half];
  }
  Barrier();
  return scratch[0];
}

constexpr unsigned kRowThreads = 128;  // of kernels that give a block to each row

}  // namespace tidemark::cuda
