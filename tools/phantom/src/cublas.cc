// Phantom GPU: cuBLAS. Every routine that computes is a default stub that succeeds; here is what
// keeps state. The device memory that the real library takes for itself isn't modelled, except
// for an amount per handle (PHANTOM_CUBLAS_HANDLE_MIB).
#include <cublas_v2.h>

#include <cstdio>

#include "core.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
struct Handle {
  cudaStream_t stream = nullptr;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  cublasPointerMode_t pointer = CUBLAS_POINTER_MODE_HOST;
  cublasAtomicsMode_t atomics = CUBLAS_ATOMICS_NOT_ALLOWED;
  int sm_target = 0;
  int emulation = 0;
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
  uint64_t own = 0;
};
Handle* get(cublasHandle_t h) { return reinterpret_cast<Handle*>(h); }
}  // namespace

EXPORT cublasStatus_t cublasCreate_v2(cublasHandle_t* h) {
  if (phantom_init()) return CUBLAS_STATUS_NOT_INITIALIZED;
  phantom_activate();
  Handle* x = new Handle;
  if (uint64_t bytes = phantom_config()->cublas_handle)
    if (phantom_malloc(&x->own, bytes, "cublasHandle")) {
      delete x;
      return CUBLAS_STATUS_ALLOC_FAILED;
    }
  phantom_log("cublasCreate", 0, reinterpret_cast<uint64_t>(x), "");
  *h = reinterpret_cast<cublasHandle_t>(x);
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasDestroy_v2(cublasHandle_t h) {
  Handle* x = get(h);
  if (!x) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (x->own) phantom_free(x->own, "cublasHandleFree");
  delete x;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int* v) {
  *v = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasGetProperty(libraryPropertyType t, int* v) {
  *v = t == MAJOR_VERSION ? CUBLAS_VER_MAJOR : t == MINOR_VERSION ? CUBLAS_VER_MINOR : CUBLAS_VER_PATCH;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT size_t cublasGetCudartVersion() { return CUDART_VERSION; }
EXPORT cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t h, void* p, size_t bytes) {
  get(h)->workspace = p;
  get(h)->workspace_bytes = bytes;
  char t[64];
  snprintf(t, sizeof t, "handle=%p", static_cast<void*>(h));
  phantom_log("cublasSetWorkspace", bytes, reinterpret_cast<uint64_t>(p), t);
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasSetStream_v2(cublasHandle_t h, cudaStream_t s) {
  // As the real one does, back to the default workspace.
  get(h)->stream = s;
  get(h)->workspace = nullptr;
  get(h)->workspace_bytes = 0;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasGetStream_v2(cublasHandle_t h, cudaStream_t* s) {
  *s = get(h)->stream;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t h, cublasPointerMode_t* m) {
  *m = get(h)->pointer;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t h, cublasPointerMode_t m) {
  get(h)->pointer = m;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasGetAtomicsMode(cublasHandle_t h, cublasAtomicsMode_t* m) {
  *m = get(h)->atomics;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasSetAtomicsMode(cublasHandle_t h, cublasAtomicsMode_t m) {
  get(h)->atomics = m;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasGetMathMode(cublasHandle_t h, cublasMath_t* m) {
  *m = get(h)->math;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasSetMathMode(cublasHandle_t h, cublasMath_t m) {
  get(h)->math = m;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasGetSmCountTarget(cublasHandle_t h, int* n) {
  *n = get(h)->sm_target;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasSetSmCountTarget(cublasHandle_t h, int n) {
  get(h)->sm_target = n;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasGetEmulationStrategy(cublasHandle_t h, cublasEmulationStrategy_t* s) {
  *s = static_cast<cublasEmulationStrategy_t>(get(h)->emulation);
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasSetEmulationStrategy(cublasHandle_t h, cublasEmulationStrategy_t s) {
  get(h)->emulation = s;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT const char* cublasGetStatusName(cublasStatus_t s) {
  return s ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_SUCCESS";
}
EXPORT const char* cublasGetStatusString(cublasStatus_t s) {
  return s ? "the requested functionality is not supported" : "the operation completed successfully";
}
