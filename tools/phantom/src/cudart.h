// What the files of the runtime's API share.
#pragma once

#include <cuda_runtime_api.h>

#include "core.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace ph {

inline thread_local cudaError_t t_last = cudaSuccess;
inline thread_local int t_device = 0;

// Every failing call leaves its error behind; none of ours is sticky.
inline cudaError_t done(int e) {
  if (__builtin_expect(e != 0, 0)) t_last = static_cast<cudaError_t>(e);
  return static_cast<cudaError_t>(e);
}
inline cudaError_t ready() {
  int e = phantom_init();
  if (e) return done(e);
  phantom_activate();
  return cudaSuccess;
}

// The address of a variable of device code, by the address of its host shadow; null if there is none.
void* symbol(const void* s, size_t* size);

}  // namespace ph
