// Phantom GPU: cuBLASLt. Descriptors keep what is set on them; a matmul does nothing.
#include <cublasLt.h>

#include <cstring>
#include <map>
#include <string>

#include "core.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
// A descriptor that this library allocated is a bag of attributes. One that the caller holds
// (the Init_internal functions) is left zeroed; setting on it succeeds and is forgotten.
constexpr uint64_t kMagic = 0x5048424147303031ull;
struct Bag {
  uint64_t magic = kMagic;
  std::map<int, std::string> values;
};
Bag* bag(void* p) {
  Bag* b = static_cast<Bag*>(p);
  return b && b->magic == kMagic ? b : nullptr;
}
template <class T>
void preset(Bag* b, int attr, T v) {
  b->values[attr] = std::string(reinterpret_cast<const char*>(&v), sizeof v);
}
cublasStatus_t put(void* d, int attr, const void* buf, size_t n) {
  if (!d || !buf) return CUBLAS_STATUS_INVALID_VALUE;
  if (Bag* b = bag(d)) b->values[attr] = std::string(static_cast<const char*>(buf), n);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t take(void* d, int attr, void* buf, size_t n, size_t* written) {
  Bag* b = bag(d);
  auto it = b ? b->values.find(attr) : std::map<int, std::string>::iterator();
  bool have = b && it != b->values.end();
  if (buf) {
    memset(buf, 0, n);
    if (have) memcpy(buf, it->second.data(), n < it->second.size() ? n : it->second.size());
  }
  if (written) *written = have ? it->second.size() : n;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t drop(void* d) {
  if (Bag* b = bag(d)) {
    b->magic = 0;
    delete b;
  }
  return CUBLAS_STATUS_SUCCESS;
}
template <class D>
cublasStatus_t make(D* out, Bag* b) {
  *out = reinterpret_cast<D>(b);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t zero(void* p, size_t n) {
  memset(p, 0, n);
  return CUBLAS_STATUS_SUCCESS;
}
}  // namespace

EXPORT cublasStatus_t cublasLtCreate(cublasLtHandle_t* h) {
  if (phantom_init()) return CUBLAS_STATUS_NOT_INITIALIZED;
  phantom_activate();
  *h = reinterpret_cast<cublasLtHandle_t>(new char[64]());
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) {
  delete[] reinterpret_cast<char*>(h);
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT const char* cublasLtGetStatusName(cublasStatus_t s) {
  return s ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_SUCCESS";
}
EXPORT const char* cublasLtGetStatusString(cublasStatus_t s) {
  return s ? "the requested functionality is not supported" : "the operation completed successfully";
}
EXPORT size_t cublasLtGetVersion() { return CUBLAS_VERSION; }
EXPORT size_t cublasLtGetCudartVersion() { return CUDART_VERSION; }
EXPORT cublasStatus_t cublasLtGetProperty(libraryPropertyType t, int* v) {
  *v = t == MAJOR_VERSION ? CUBLAS_VER_MAJOR : t == MINOR_VERSION ? CUBLAS_VER_MINOR : CUBLAS_VER_PATCH;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtHeuristicsCacheGetCapacity(size_t* n) {
  *n = 8192;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* d, cudaDataType type, uint64_t rows,
                                                 uint64_t cols, int64_t ld) {
  Bag* b = new Bag;
  preset(b, CUBLASLT_MATRIX_LAYOUT_TYPE, static_cast<uint32_t>(type));
  preset(b, CUBLASLT_MATRIX_LAYOUT_ROWS, rows);
  preset(b, CUBLASLT_MATRIX_LAYOUT_COLS, cols);
  preset(b, CUBLASLT_MATRIX_LAYOUT_LD, ld);
  return make(d, b);
}
EXPORT cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t d, size_t n, cudaDataType, uint64_t,
                                                        uint64_t, int64_t) {
  return zero(d, n);
}
EXPORT cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t d) { return drop(d); }
EXPORT cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t d, cublasLtMatrixLayoutAttribute_t a,
                                                       const void* buf, size_t n) {
  return put(d, a, buf, n);
}
EXPORT cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t d, cublasLtMatrixLayoutAttribute_t a,
                                                       void* buf, size_t n, size_t* w) {
  return take(d, a, buf, n, w);
}

EXPORT cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* d, cublasComputeType_t c, cudaDataType_t s) {
  Bag* b = new Bag;
  preset(b, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, static_cast<int32_t>(c));
  preset(b, CUBLASLT_MATMUL_DESC_SCALE_TYPE, static_cast<int32_t>(s));
  return make(d, b);
}
EXPORT cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t d, size_t n, cublasComputeType_t,
                                                      cudaDataType_t) {
  return zero(d, n);
}
EXPORT cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) { return drop(d); }
EXPORT cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t a,
                                                     const void* buf, size_t n) {
  return put(d, a, buf, n);
}
EXPORT cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t a,
                                                     void* buf, size_t n, size_t* w) {
  return take(d, a, buf, n, w);
}

EXPORT cublasStatus_t cublasLtMatrixTransformDescCreate(cublasLtMatrixTransformDesc_t* d, cudaDataType) {
  return make(d, new Bag);
}
EXPORT cublasStatus_t cublasLtMatrixTransformDescInit_internal(cublasLtMatrixTransformDesc_t d, size_t n,
                                                               cudaDataType) {
  return zero(d, n);
}
EXPORT cublasStatus_t cublasLtMatrixTransformDescDestroy(cublasLtMatrixTransformDesc_t d) { return drop(d); }
EXPORT cublasStatus_t cublasLtMatrixTransformDescSetAttribute(cublasLtMatrixTransformDesc_t d,
                                                              cublasLtMatrixTransformDescAttributes_t a,
                                                              const void* buf, size_t n) {
  return put(d, a, buf, n);
}
EXPORT cublasStatus_t cublasLtMatrixTransformDescGetAttribute(cublasLtMatrixTransformDesc_t d,
                                                              cublasLtMatrixTransformDescAttributes_t a, void* buf,
                                                              size_t n, size_t* w) {
  return take(d, a, buf, n, w);
}

EXPORT cublasStatus_t cublasLtEmulationDescCreate(cublasLtEmulationDesc_t* d) { return make(d, new Bag); }
EXPORT cublasStatus_t cublasLtEmulationDescInit_internal(cublasLtEmulationDesc_t d, size_t n) { return zero(d, n); }
EXPORT cublasStatus_t cublasLtEmulationDescDestroy(cublasLtEmulationDesc_t d) { return drop(d); }
EXPORT cublasStatus_t cublasLtEmulationDescSetAttribute(cublasLtEmulationDesc_t d, cublasLtEmulationDescAttributes_t a,
                                                        const void* buf, size_t n) {
  return put(d, a, buf, n);
}
EXPORT cublasStatus_t cublasLtEmulationDescGetAttribute(cublasLtEmulationDesc_t d, cublasLtEmulationDescAttributes_t a,
                                                        void* buf, size_t n, size_t* w) {
  return take(d, a, buf, n, w);
}

EXPORT cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* d) { return make(d, new Bag); }
EXPORT cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t d, size_t n) {
  return zero(d, n);
}
EXPORT cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t d) { return drop(d); }
EXPORT cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t d,
                                                           cublasLtMatmulPreferenceAttributes_t a, const void* buf,
                                                           size_t n) {
  return put(d, a, buf, n);
}
EXPORT cublasStatus_t cublasLtMatmulPreferenceGetAttribute(cublasLtMatmulPreference_t d,
                                                           cublasLtMatmulPreferenceAttributes_t a, void* buf, size_t n,
                                                           size_t* w) {
  return take(d, a, buf, n, w);
}

EXPORT cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                                     cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                                     cublasLtMatrixLayout_t, cublasLtMatmulPreference_t pref,
                                                     int requested, cublasLtMatmulHeuristicResult_t results[],
                                                     int* returned) {
  if (requested < 1) return CUBLAS_STATUS_INVALID_VALUE;
  uint64_t limit = 0;
  take(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &limit, sizeof limit, nullptr);
  memset(&results[0], 0, sizeof results[0]);
  results[0].algo.data[0] = 1;
  uint64_t want = phantom_config()->lt_workspace;
  results[0].workspaceSize = want < limit ? want : limit;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  results[0].wavesCount = 1.0f;
  *returned = 1;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtMatmulAlgoGetIds(cublasLtHandle_t, cublasComputeType_t, cudaDataType_t, cudaDataType_t,
                                               cudaDataType_t, cudaDataType_t, cudaDataType_t, int n, int ids[],
                                               int* returned) {
  if (n > 0) ids[0] = 1;
  *returned = n > 0 ? 1 : 0;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtMatmulAlgoInit(cublasLtHandle_t, cublasComputeType_t, cudaDataType_t, cudaDataType_t,
                                             cudaDataType_t, cudaDataType_t, cudaDataType_t, int id,
                                             cublasLtMatmulAlgo_t* algo) {
  memset(algo, 0, sizeof *algo);
  algo->data[0] = static_cast<uint64_t>(id);
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              const cublasLtMatmulAlgo_t* algo, cublasLtMatmulHeuristicResult_t* r) {
  memset(r, 0, sizeof *r);
  r->algo = *algo;
  r->wavesCount = 1.0f;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t*, cublasLtMatmulAlgoCapAttributes_t,
                                                        void* buf, size_t n, size_t* w) {
  if (buf) memset(buf, 0, n);
  if (w) *w = n;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t*,
                                                           cublasLtMatmulAlgoConfigAttributes_t, void* buf, size_t n,
                                                           size_t* w) {
  if (buf) memset(buf, 0, n);
  if (w) *w = n;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*, const void*,
                                     cublasLtMatrixLayout_t, const void*, cublasLtMatrixLayout_t, const void*,
                                     const void*, cublasLtMatrixLayout_t, void*, cublasLtMatrixLayout_t,
                                     const cublasLtMatmulAlgo_t*, void* workspace, size_t bytes, cudaStream_t s) {
  const unsigned one[3] = {1, 1, 1};
  static const ph::Kernel k = [] {
    ph::Kernel x{ph::kKernelMagic};
    x.name = "cublasLtMatmul";
    return x;
  }();
  phantom_launch(s, &k, nullptr, one, one, 0);
  if (phantom_wants_kernel_names())
    phantom_log("cublasLtMatmul", bytes, reinterpret_cast<uint64_t>(workspace), "workspace");
  return CUBLAS_STATUS_SUCCESS;
}
