// Phantom GPU: the CUDA runtime API: registration, launches, errors, entry points. What is in no cudart*.cc is a
// default stub (gen_stubs.py); the per-thread-default-stream variants (_ptsz, _ptds) are generated jumps.
#include "cudart.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>

using namespace ph;

namespace {

struct Fatbin {
  void* handle[4];  // what __cudaRegisterFatBinary hands out is the address of this
  const void* data;
};
struct Var {
  const char* name;
  size_t size;
  uint64_t address;
  void* managed;
};
struct Registry {
  std::mutex mu;
  std::unordered_map<const void*, Kernel*> kernels;
  std::unordered_map<const void*, Var> vars;
};
Registry& reg() {
  static Registry* r = new Registry;
  return *r;
}

// A kernel by the address of its host stub, or by a handle that is a kernel already.
Kernel* find_kernel(const void* f) {
  if (!f) return nullptr;
  {
    Registry& r = reg();
    std::lock_guard<std::mutex> l(r.mu);
    auto it = r.kernels.find(f);
    if (it != r.kernels.end()) return it->second;
  }
  return phantom_is_kernel(f) ? const_cast<Kernel*>(static_cast<const Kernel*>(f)) : nullptr;
}
Kernel* resolved_kernel(const void* f) {
  Kernel* k = find_kernel(f);
  if (k && !k->arch) {
    const Fatbin* b = static_cast<const Fatbin*>(k->module);
    phantom_kernel_resolve(k, k->host_fun && b ? b->data : nullptr);
  }
  return k;
}

void* alloc_symbol(Var& v) {
  if (v.managed) return v.managed;
  if (!v.address) phantom_static_address(&v.address, v.size);
  return reinterpret_cast<void*>(v.address);
}
struct CallConfig {
  dim3 grid, block;
  size_t smem;
  void* stream;
};
thread_local CallConfig t_calls[16];
thread_local int t_ncalls = 0;

inline cudaError_t launch(const Kernel* k, const void* f, const dim3& g, const dim3& b, size_t smem,
                          const void* stream) {
  const unsigned grid[3] = {g.x, g.y, g.z}, block[3] = {b.x, b.y, b.z};
  phantom_launch(stream, k, f, grid, block, smem);
  return cudaSuccess;
}
inline const Kernel* name_of(const void* f) {
  return __builtin_expect(phantom_wants_kernel_names(), 0) ? find_kernel(f) : nullptr;
}

}  // namespace

namespace ph {

void* symbol(const void* s, size_t* size) {
  Registry& r = reg();
  std::lock_guard<std::mutex> l(r.mu);
  auto it = r.vars.find(s);
  if (it == r.vars.end()) return nullptr;
  if (size) *size = it->second.size;
  return alloc_symbol(it->second);
}

}  // namespace ph

// --- registration, called by the code that nvcc generates

EXPORT void** __cudaRegisterFatBinary(void* data) {
  Fatbin* b = new Fatbin{};
  b->data = data;
  b->handle[0] = b;
  return b->handle;
}
EXPORT void __cudaRegisterFatBinaryEnd(void**) {}
EXPORT void __cudaUnregisterFatBinary(void**) {}
EXPORT void __cudaRegisterFunction(void** handle, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*,
                                   dim3*, int*) {
  Kernel* k = new Kernel{kKernelMagic};
  k->name = name;
  k->host_fun = host;
  k->module = handle ? handle[0] : nullptr;
  Registry& r = reg();
  std::lock_guard<std::mutex> l(r.mu);
  r.kernels[host] = k;
}
EXPORT void __cudaRegisterVar(void**, char* host, char*, const char* name, int, size_t size, int, int) {
  Registry& r = reg();
  std::lock_guard<std::mutex> l(r.mu);
  r.vars[host] = Var{name, size, 0, nullptr};
}
EXPORT void __cudaRegisterManagedVar(void**, void** host, char*, const char* name, int, size_t size, int, int) {
  void* p = calloc(1, size ? size : 1);
  *host = p;
  Registry& r = reg();
  std::lock_guard<std::mutex> l(r.mu);
  r.vars[p] = Var{name, size, 0, p};
}
EXPORT void __cudaRegisterHostVar(void**, const char*, char*, size_t) {}
EXPORT char __cudaInitModule(void**) { return 0; }
EXPORT unsigned __cudaPushCallConfiguration(dim3 g, dim3 b, size_t smem, cudaStream_t s) {
  if (t_ncalls >= 16) return 1;
  t_calls[t_ncalls++] = CallConfig{g, b, smem, s};
  return 0;
}
EXPORT cudaError_t __cudaPopCallConfiguration(dim3* g, dim3* b, size_t* smem, void* s) {
  if (!t_ncalls) return cudaErrorMissingConfiguration;
  const CallConfig& c = t_calls[--t_ncalls];
  *g = c.grid;
  *b = c.block;
  *smem = c.smem;
  *static_cast<void**>(s) = c.stream;
  return cudaSuccess;
}
EXPORT cudaError_t __cudaGetKernel(cudaKernel_t* out, const void* f) {
  Kernel* k = find_kernel(f);
  if (!k) return done(cudaErrorInvalidDeviceFunction);
  *out = reinterpret_cast<cudaKernel_t>(k);
  return cudaSuccess;
}
EXPORT cudaError_t __cudaLaunchKernel(cudaKernel_t k, dim3 g, dim3 b, void**, size_t smem, cudaStream_t s) {
  const Kernel* x = reinterpret_cast<const Kernel*>(k);
  return launch(x, x, g, b, smem, s);
}

// --- launches and functions

EXPORT cudaError_t cudaLaunchKernel(const void* f, dim3 g, dim3 b, void**, size_t smem, cudaStream_t s) {
  return launch(name_of(f), f, g, b, smem, s);
}
EXPORT cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void* f, void**) {
  return launch(name_of(f), f, c->gridDim, c->blockDim, c->dynamicSmemBytes, c->stream);
}
EXPORT cudaError_t cudaLaunchCooperativeKernel(const void* f, dim3 g, dim3 b, void**, size_t smem, cudaStream_t s) {
  return launch(name_of(f), f, g, b, smem, s);
}
EXPORT cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t f, void* data) {
  int status = 0;
  phantom_capture_info(s, &status, nullptr, nullptr);
  if (status)
    phantom_capture_node(s, 3);
  else
    f(data);
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamAddCallback(cudaStream_t s, cudaStreamCallback_t f, void* data, unsigned) {
  f(s, cudaSuccess, data);
  return cudaSuccess;
}
EXPORT cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, const void* f) {
  if (cudaError_t e = ready()) return e;
  Kernel* k = resolved_kernel(f);
  if (!k) return done(cudaErrorInvalidDeviceFunction);
  memset(a, 0, sizeof *a);
  a->maxThreadsPerBlock = 1024;
  a->numRegs = k->regs;
  a->sharedSizeBytes = static_cast<size_t>(k->static_smem);
  a->ptxVersion = k->ptx;
  a->binaryVersion = k->arch;
  a->maxDynamicSharedSizeBytes = k->max_dynamic_smem;
  a->preferredShmemCarveout = k->carveout;
  return cudaSuccess;
}
EXPORT cudaError_t cudaFuncSetAttribute(const void* f, cudaFuncAttribute a, int v) {
  Kernel* k = find_kernel(f);
  if (!k) return done(cudaErrorInvalidDeviceFunction);
  switch (static_cast<int>(a)) {
    case 8:
      if (v < 0 || v > phantom_limit(97)) return done(cudaErrorInvalidValue);
      k->max_dynamic_smem = v;
      break;
    case 9:
      k->carveout = v;
      break;
    case 10:
    case 11:
    case 12:
    case 13:
      break;
    case 14:
      k->non_portable_cluster = v;
      break;
    default:
      break;
  }
  return cudaSuccess;
}
EXPORT cudaError_t cudaFuncSetCacheConfig(const void*, cudaFuncCache) { return cudaSuccess; }
EXPORT cudaError_t cudaFuncGetName(const char** name, const void* f) {
  Kernel* k = find_kernel(f);
  if (!k) return done(cudaErrorInvalidDeviceFunction);
  *name = k->name;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGetFuncBySymbol(cudaFunction_t* out, const void* f) {
  Kernel* k = find_kernel(f);
  if (!k) return done(cudaErrorInvalidDeviceFunction);
  *out = reinterpret_cast<cudaFunction_t>(k);
  return cudaSuccess;
}
EXPORT cudaError_t cudaGetKernel(cudaKernel_t* out, const void* f) {
  Kernel* k = find_kernel(f);
  if (!k) return done(cudaErrorInvalidDeviceFunction);
  *out = reinterpret_cast<cudaKernel_t>(k);
  return cudaSuccess;
}
EXPORT cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t k, cudaFuncAttribute a, int v, int) {
  Kernel* x = reinterpret_cast<Kernel*>(k);
  if (static_cast<int>(a) == 8) {
    if (v < 0 || v > phantom_limit(97)) return done(cudaErrorInvalidValue);
    x->max_dynamic_smem = v;
  }
  return cudaSuccess;
}
EXPORT cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n, const void* f, int block, size_t smem) {
  Kernel* k = resolved_kernel(f);
  if (!k) return done(cudaErrorInvalidDeviceFunction);
  *n = phantom_occupancy(k, block, smem);
  return cudaSuccess;
}
EXPORT cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, const void* f, int block, size_t smem,
                                                                          unsigned) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(n, f, block, smem);
}
EXPORT cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(size_t* s, const void*, int blocks, int) {
  if (blocks <= 0) return done(cudaErrorInvalidValue);
  *s = static_cast<size_t>(phantom_limit(81) / blocks) - 1024;
  if (*s > static_cast<size_t>(phantom_limit(97))) *s = static_cast<size_t>(phantom_limit(97));
  return cudaSuccess;
}
EXPORT cudaError_t cudaOccupancyMaxActiveClusters(int* n, const void*, const cudaLaunchConfig_t*) {
  *n = 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaOccupancyMaxPotentialClusterSize(int* n, const void*, const cudaLaunchConfig_t*) {
  *n = 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGetSymbolAddress(void** p, const void* s) {
  if (cudaError_t e = ready()) return e;
  *p = symbol(s, nullptr);
  return *p ? cudaSuccess : done(cudaErrorInvalidSymbol);
}
EXPORT cudaError_t cudaGetSymbolSize(size_t* n, const void* s) {
  return symbol(s, n) ? cudaSuccess : done(cudaErrorInvalidSymbol);
}

// --- errors

EXPORT cudaError_t cudaGetLastError() {
  cudaError_t e = t_last;
  t_last = cudaSuccess;
  return e;
}
EXPORT cudaError_t cudaPeekAtLastError() { return t_last; }
EXPORT const char* cudaGetErrorName(cudaError_t e) {
  const char* s = phantom_error_name(e, true);
  return s ? s : "unrecognized error code";
}
EXPORT const char* cudaGetErrorString(cudaError_t e) {
  const char* s = phantom_error_string(e);
  return s ? s : "unrecognized error code";
}

// --- entry points of the driver, and libraries by way of the driver's

EXPORT cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** out, unsigned version,
                                                    unsigned long long flags, cudaDriverEntryPointQueryResult* status) {
  int st = 0;
  *out = phantom_get_proc(name, static_cast<int>(version), (flags & cudaEnablePerThreadDefaultStream) != 0, &st);
  if (status)
    *status = static_cast<cudaDriverEntryPointQueryResult>(st);
  else if (!*out)
    return done(cudaErrorSymbolNotFound);
  return cudaSuccess;
}
EXPORT cudaError_t cudaGetDriverEntryPoint(const char* name, void** out, unsigned long long flags,
                                           cudaDriverEntryPointQueryResult* status) {
  return cudaGetDriverEntryPointByVersion(name, out, CUDART_VERSION, flags, status);
}

namespace {
template <class R, class... A>
cudaError_t driver(const char* name, A... a) {
  int st = 0;
  void* f = phantom_get_proc(name, CUDART_VERSION, false, &st);
  if (!f) return done(cudaErrorSymbolNotFound);
  return done(static_cast<int>(reinterpret_cast<R (*)(A...)>(f)(a...)));
}
}  // namespace

EXPORT cudaError_t cudaLibraryLoadData(cudaLibrary_t* lib, const void* code, cudaJitOption*, void**, unsigned,
                                       cudaLibraryOption*, void**, unsigned) {
  if (cudaError_t e = ready()) return e;
  return driver<int>("cuLibraryLoadData", lib, code, static_cast<void*>(nullptr), static_cast<void*>(nullptr), 0u,
                     static_cast<void*>(nullptr), static_cast<void*>(nullptr), 0u);
}
EXPORT cudaError_t cudaLibraryLoadFromFile(cudaLibrary_t* lib, const char* file, cudaJitOption*, void**, unsigned,
                                           cudaLibraryOption*, void**, unsigned) {
  if (cudaError_t e = ready()) return e;
  return driver<int>("cuLibraryLoadFromFile", lib, file, static_cast<void*>(nullptr), static_cast<void*>(nullptr), 0u,
                     static_cast<void*>(nullptr), static_cast<void*>(nullptr), 0u);
}
EXPORT cudaError_t cudaLibraryGetKernel(cudaKernel_t* k, cudaLibrary_t lib, const char* name) {
  return driver<int>("cuLibraryGetKernel", k, lib, name);
}
EXPORT cudaError_t cudaLibraryGetGlobal(void** p, size_t* bytes, cudaLibrary_t lib, const char* name) {
  return driver<int>("cuLibraryGetGlobal", p, bytes, lib, name);
}
EXPORT cudaError_t cudaLibraryGetKernelCount(unsigned* n, cudaLibrary_t lib) {
  return driver<int>("cuLibraryGetKernelCount", n, lib);
}
