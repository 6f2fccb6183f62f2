// Phantom GPU: the CUDA driver API: devices, contexts, errors, entry points. What is in no driver*.cc is a default stub
// (gen_stubs.py).
#include "driver.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace ph;

namespace {

std::atomic<int> g_init{0};
std::atomic<int> g_retained{0};
std::atomic<unsigned> g_flags{0};
thread_local std::vector<CUcontext>* t_stack = nullptr;

std::vector<CUcontext>& stack() {
  if (!t_stack) t_stack = new std::vector<CUcontext>;
  return *t_stack;
}
}  // namespace

// --- initialisation and devices

EXPORT CUresult cuInit(unsigned) {
  CUresult e = ready();
  if (!e) g_init = 1;
  return e;
}
EXPORT CUresult cuDriverGetVersion(int* v) {
  *v = CUDA_VERSION;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetCount(int* n) {
  *n = 0;
  CUresult e = ready();
  if (e && e != CUDA_ERROR_NO_DEVICE) return e;
  *n = e ? 0 : 1;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGet(CUdevice* d, int ordinal) {
  if (CUresult e = ready()) return e;
  if (ordinal != 0) return CUDA_ERROR_INVALID_DEVICE;
  *d = 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetName(char* name, int len, CUdevice d) {
  if (d) return CUDA_ERROR_INVALID_DEVICE;
  snprintf(name, static_cast<size_t>(len), "%s", phantom_config()->name);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetUuid(CUuuid* id, CUdevice) {
  static const unsigned char bytes[16] = {0x50, 0x48, 0x41, 0x4e, 0x54, 0x4f, 0x4d, 0, 0x40, 0x70, 0, 0, 0, 0, 0, 1};
  memcpy(id->bytes, bytes, 16);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetLuid(char*, unsigned*, CUdevice) { return CUDA_ERROR_NOT_SUPPORTED; }
EXPORT CUresult cuDeviceTotalMem(size_t* bytes, CUdevice d) {
  if (d) return CUDA_ERROR_INVALID_DEVICE;
  *bytes = phantom_config()->total;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetAttribute(int* v, CUdevice_attribute a, CUdevice d) {
  if (d) return CUDA_ERROR_INVALID_DEVICE;
  RET(phantom_attribute(static_cast<int>(a), v));
}
EXPORT CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice) {
  phantom_attribute(75, major);
  phantom_attribute(76, minor);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetPCIBusId(char* s, int len, CUdevice) {
  snprintf(s, static_cast<size_t>(len), "0000:01:00.0");
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetByPCIBusId(CUdevice* d, const char*) {
  *d = 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceCanAccessPeer(int* v, CUdevice, CUdevice) {
  *v = 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetP2PAttribute(int* v, CUdevice_P2PAttribute, CUdevice, CUdevice) {
  *v = 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* p, CUdevice) {
  *p = static_cast<CUmemoryPool>(phantom_pool_default());
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetMemPool(CUmemoryPool* p, CUdevice) {
  *p = static_cast<CUmemoryPool>(phantom_pool_current());
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceSetMemPool(CUdevice, CUmemoryPool p) { RET(phantom_pool_set_current(p)); }
EXPORT CUresult cuDeviceGetGraphMemAttribute(CUdevice, CUgraphMem_attribute, void* v) {
  *static_cast<uint64_t*>(v) = 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetExecAffinitySupport(int* v, CUexecAffinityType, CUdevice) {
  *v = 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetTexture1DLinearMaxWidth(size_t* v, CUarray_format, unsigned, CUdevice) {
  *v = 268435456;
  return CUDA_SUCCESS;
}

// --- contexts

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* c, CUdevice d) {
  if (CUresult e = ready()) return e;
  if (d) return CUDA_ERROR_INVALID_DEVICE;
  g_retained++;
  phantom_activate();
  *c = primary();
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice) {
  if (g_retained > 0) g_retained--;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxReset(CUdevice) { return CUDA_SUCCESS; }
EXPORT CUresult cuDevicePrimaryCtxSetFlags(CUdevice, unsigned f) {
  g_flags = f;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice d, unsigned* flags, int* active) {
  if (d) return CUDA_ERROR_INVALID_DEVICE;
  *flags = g_flags;
  *active = phantom_active();
  return CUDA_SUCCESS;
}
static CUresult make_context(CUcontext* c) {
  if (CUresult e = ready()) return e;
  phantom_activate();
  *c = reinterpret_cast<CUcontext>(new char[64]());
  stack().push_back(*c);
  return CUDA_SUCCESS;
}
#undef cuCtxCreate
EXPORT CUresult cuCtxCreate(CUcontext* c, unsigned, CUdevice) { return make_context(c); }
EXPORT CUresult cuCtxCreate_v2(CUcontext* c, unsigned, CUdevice) { return make_context(c); }
EXPORT CUresult cuCtxCreate_v3(CUcontext* c, CUexecAffinityParam*, int, unsigned, CUdevice) { return make_context(c); }
EXPORT CUresult cuCtxCreate_v4(CUcontext* c, CUctxCreateParams*, unsigned, CUdevice) { return make_context(c); }
EXPORT CUresult cuCtxDestroy(CUcontext c) {
  auto& s = stack();
  if (!s.empty() && s.back() == c) s.pop_back();
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxPushCurrent(CUcontext c) {
  if (!c) return CUDA_ERROR_INVALID_CONTEXT;
  stack().push_back(c);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxPopCurrent(CUcontext* c) {
  auto& s = stack();
  if (s.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (c) *c = s.back();
  s.pop_back();
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxSetCurrent(CUcontext c) {
  auto& s = stack();
  if (!s.empty()) s.pop_back();
  if (c) s.push_back(c);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetCurrent(CUcontext* c) {
  if (CUresult e = ready()) return e;
  auto& s = stack();
  // A runtime call makes the primary context current in its thread.
  *c = !s.empty() ? s.back() : phantom_active() ? primary() : nullptr;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetDevice(CUdevice* d) {
  *d = 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetDevice_v2(CUdevice* d, CUcontext) {
  *d = 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetFlags(unsigned* f) {
  *f = g_flags;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetId(CUcontext, unsigned long long* id) {
  *id = 1;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetApiVersion(CUcontext, unsigned* v) {
  *v = 3020;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxSynchronize() { RET(phantom_device_sync()); }
EXPORT CUresult cuCtxSynchronize_v2(CUcontext) { RET(phantom_device_sync()); }
EXPORT CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetLimit(size_t* v, CUlimit l) {
  switch (static_cast<int>(l)) {
    case 0:
      *v = 1024;
      break;
    case 1:
      *v = 1 << 20;
      break;
    case 2:
      *v = 8 << 20;
      break;
    case 3:
      *v = 2;
      break;
    case 4:
      *v = 2048;
      break;
    case 5:
      *v = 64;
      break;
    default:
      *v = 0;
      break;
  }
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetCacheConfig(CUfunc_cache* c) {
  *c = CU_FUNC_CACHE_PREFER_NONE;
  return CUDA_SUCCESS;
}

// --- errors and entry points

EXPORT CUresult cuGetErrorString(CUresult e, const char** s) {
  *s = phantom_error_string(e);
  return *s ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
EXPORT CUresult cuGetErrorName(CUresult e, const char** s) {
  *s = phantom_error_name(e, false);
  return *s ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
EXPORT CUresult cuGetProcAddress_v2(const char* name, void** out, int version, cuuint64_t flags,
                                    CUdriverProcAddressQueryResult* status) {
  int st = 0;
  *out = phantom_get_proc(name, version, (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0, &st);
  if (status) *status = static_cast<CUdriverProcAddressQueryResult>(st);
  return *out ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
#undef cuGetProcAddress
EXPORT CUresult cuGetProcAddress(const char* name, void** out, int version, cuuint64_t flags) {
  return cuGetProcAddress_v2(name, out, version, flags, nullptr);
}
// The private tables that a statically linked runtime asks for. Without them such a library
// reports that CUDA can't be initialised, which is what it does on a machine without a GPU.
EXPORT CUresult cuGetExportTable(const void** table, const CUuuid*) {
  if (table) *table = nullptr;
  return CUDA_ERROR_NOT_FOUND;
}
