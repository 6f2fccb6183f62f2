// What the files of the driver's API share.
#pragma once

#include <cuda.h>

#include "core.h"

#define EXPORT extern "C" __attribute__((visibility("default")))
#define RET(e) return static_cast<CUresult>(e)

namespace ph {

// The primary context, and any other; a context is only an address here.
inline char g_primary[64] = "phantom primary context";
inline CUcontext primary() { return reinterpret_cast<CUcontext>(g_primary); }
inline CUresult ready() { RET(phantom_init()); }
inline uint64_t u(CUdeviceptr p) { return static_cast<uint64_t>(p); }
inline void* vp(CUdeviceptr p) { return reinterpret_cast<void*>(p); }

}  // namespace ph
