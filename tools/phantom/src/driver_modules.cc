// Phantom GPU: the driver API: modules, libraries, kernels.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>

#include "driver.h"

using namespace ph;

namespace {

struct Module {
  uint32_t magic = kModuleMagic;
  const void* image = nullptr;
  std::mutex mu;
  std::map<std::string, Kernel*> kernels;
  std::map<std::string, uint64_t> globals;
};

Kernel* module_kernel(Module* m, const char* name) {
  std::lock_guard<std::mutex> l(m->mu);
  Kernel*& k = m->kernels[name];
  if (!k) {
    k = phantom_kernel_new(strdup(name), m);
    phantom_kernel_resolve(k, m->image);
  }
  return k;
}
uint64_t module_global(Module* m, const char* name, size_t bytes) {
  std::lock_guard<std::mutex> l(m->mu);
  uint64_t& a = m->globals[name];
  if (!a) phantom_static_address(&a, bytes);
  return a;
}
Kernel* as_kernel(CUfunction f) {
  Kernel* k = reinterpret_cast<Kernel*>(f);
  return k && k->magic == kKernelMagic ? k : nullptr;
}
CUresult func_attr(int* v, CUfunction_attribute a, Kernel* k) {
  if (!k) return CUDA_ERROR_INVALID_HANDLE;
  switch (static_cast<int>(a)) {
    case 0:
      *v = 1024;
      break;
    case 1:
      *v = k->static_smem;
      break;
    case 2:
    case 3:
      *v = 0;
      break;
    case 4:
      *v = k->regs;
      break;
    case 5:
      *v = k->ptx ? k->ptx : phantom_config()->cc;
      break;
    case 6:
      *v = k->arch ? k->arch : phantom_config()->cc;
      break;
    case 7:
      *v = 0;
      break;
    case 8:
      *v = k->max_dynamic_smem;
      break;
    case 9:
      *v = k->carveout;
      break;
    case 10:
      *v = 0;
      break;
    case 11:
    case 12:
    case 13:
      *v = k->cluster[static_cast<int>(a) - 11];
      break;
    case 14:
      *v = k->non_portable_cluster;
      break;
    case 15:
      *v = 0;
      break;
    default:
      *v = 0;
      return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}
CUresult set_func_attr(Kernel* k, int a, int v) {
  if (!k) return CUDA_ERROR_INVALID_HANDLE;
  switch (a) {
    case 8:
      if (v < 0 || v > phantom_limit(97)) return CUDA_ERROR_INVALID_VALUE;
      k->max_dynamic_smem = v;
      break;
    case 9:
      k->carveout = v;
      break;
    case 11:
    case 12:
    case 13:
      k->cluster[a - 11] = v;
      break;
    case 14:
      k->non_portable_cluster = v;
      break;
    default:
      break;
  }
  return CUDA_SUCCESS;
}

}  // namespace

// --- modules and kernels

// The caller may free its image, so a cubin or a fat binary is copied; kernels are looked up later.
static const void* copy_image(const void* image) {
  const unsigned char* p = static_cast<const unsigned char*>(image);
  uint64_t size = 0;
  if (!p) return nullptr;
  uint32_t magic;
  memcpy(&magic, p, 4);
  if (magic == 0x466243b1) return image;  // nvcc's wrapper: part of a program
  if (magic == 0xba55ed50) {
    uint16_t header;
    memcpy(&header, p + 6, 2);
    memcpy(&size, p + 8, 8);
    size += header;
  } else if (memcmp(p, "\177ELF", 4) == 0) {
    uint64_t shoff;
    uint16_t entsize, num;
    memcpy(&shoff, p + 40, 8);
    memcpy(&entsize, p + 58, 2);
    memcpy(&num, p + 60, 2);
    size = shoff + static_cast<uint64_t>(entsize) * num;
    for (unsigned i = 0; i < num; ++i) {
      const unsigned char* s = p + shoff + static_cast<uint64_t>(i) * entsize;
      uint32_t type;
      uint64_t offset, bytes;
      memcpy(&type, s + 4, 4);
      memcpy(&offset, s + 24, 8);
      memcpy(&bytes, s + 32, 8);
      if (type != 8 && offset + bytes > size) size = offset + bytes;  // 8: no bits in the file
    }
  } else {
    return nullptr;  // PTX
  }
  if (size > (1ull << 32)) return nullptr;
  void* c = malloc(size);
  if (c) memcpy(c, image, size);
  return c;
}
static Module* new_module(const void* image) {
  Module* m = new Module;
  m->image = copy_image(image);
  return m;
}
EXPORT CUresult cuModuleLoadData(CUmodule* m, const void* image) {
  phantom_activate();
  *m = reinterpret_cast<CUmodule>(new_module(image));
  return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleLoadDataEx(CUmodule* m, const void* image, unsigned, CUjit_option*, void**) {
  return cuModuleLoadData(m, image);
}
EXPORT CUresult cuModuleLoadFatBinary(CUmodule* m, const void* image) { return cuModuleLoadData(m, image); }
EXPORT CUresult cuModuleLoad(CUmodule* m, const char*) {
  phantom_activate();
  *m = reinterpret_cast<CUmodule>(new_module(nullptr));
  return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* m) {
  *m = CU_MODULE_LAZY_LOADING;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleGetFunction(CUfunction* f, CUmodule m, const char* name) {
  Module* x = reinterpret_cast<Module*>(m);
  if (!x || x->magic != kModuleMagic) return CUDA_ERROR_INVALID_HANDLE;
  *f = reinterpret_cast<CUfunction>(module_kernel(x, name));
  return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleGetGlobal(CUdeviceptr* p, size_t* bytes, CUmodule m, const char* name) {
  Module* x = reinterpret_cast<Module*>(m);
  if (!x || x->magic != kModuleMagic) return CUDA_ERROR_INVALID_HANDLE;
  if (p) *p = module_global(x, name, 4096);
  if (bytes) *bytes = 4096;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLibraryLoadData(CUlibrary* l, const void* code, CUjit_option*, void**, unsigned, CUlibraryOption*,
                                  void**, unsigned) {
  phantom_activate();
  *l = reinterpret_cast<CUlibrary>(new_module(code));
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLibraryLoadFromFile(CUlibrary* l, const char*, CUjit_option*, void**, unsigned, CUlibraryOption*,
                                      void**, unsigned) {
  phantom_activate();
  *l = reinterpret_cast<CUlibrary>(new_module(nullptr));
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLibraryGetKernel(CUkernel* k, CUlibrary l, const char* name) {
  Module* x = reinterpret_cast<Module*>(l);
  if (!x || x->magic != kModuleMagic) return CUDA_ERROR_INVALID_HANDLE;
  *k = reinterpret_cast<CUkernel>(module_kernel(x, name));
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLibraryGetModule(CUmodule* m, CUlibrary l) {
  *m = reinterpret_cast<CUmodule>(l);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLibraryGetGlobal(CUdeviceptr* p, size_t* bytes, CUlibrary l, const char* name) {
  return cuModuleGetGlobal(p, bytes, reinterpret_cast<CUmodule>(l), name);
}
EXPORT CUresult cuLibraryGetKernelCount(unsigned* n, CUlibrary l) {
  Module* x = reinterpret_cast<Module*>(l);
  *n = static_cast<unsigned>(x->kernels.size());
  return CUDA_SUCCESS;
}
EXPORT CUresult cuKernelGetFunction(CUfunction* f, CUkernel k) {
  *f = reinterpret_cast<CUfunction>(k);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuKernelGetName(const char** n, CUkernel k) {
  *n = reinterpret_cast<Kernel*>(k)->name;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncGetName(const char** n, CUfunction f) {
  *n = reinterpret_cast<Kernel*>(f)->name;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncGetModule(CUmodule* m, CUfunction f) {
  *m = reinterpret_cast<CUmodule>(const_cast<void*>(reinterpret_cast<Kernel*>(f)->module));
  return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncIsLoaded(CUfunctionLoadingState* s, CUfunction) {
  *s = CU_FUNCTION_LOADING_STATE_LOADED;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncGetAttribute(int* v, CUfunction_attribute a, CUfunction f) {
  return func_attr(v, a, as_kernel(f));
}
EXPORT CUresult cuKernelGetAttribute(int* v, CUfunction_attribute a, CUkernel k, CUdevice) {
  return func_attr(v, a, as_kernel(reinterpret_cast<CUfunction>(k)));
}
EXPORT CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute a, int v) {
  return set_func_attr(as_kernel(f), a, v);
}
EXPORT CUresult cuKernelSetAttribute(CUfunction_attribute a, int v, CUkernel k, CUdevice) {
  return set_func_attr(as_kernel(reinterpret_cast<CUfunction>(k)), a, v);
}
EXPORT CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                               unsigned bz, unsigned smem, CUstream s, void**, void**) {
  const unsigned g[3] = {gx, gy, gz}, b[3] = {bx, by, bz};
  phantom_launch(s, phantom_wants_kernel_names() ? as_kernel(f) : nullptr, f, g, b, smem);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig* c, CUfunction f, void**, void**) {
  const unsigned g[3] = {c->gridDimX, c->gridDimY, c->gridDimZ}, b[3] = {c->blockDimX, c->blockDimY, c->blockDimZ};
  phantom_launch(c->hStream, phantom_wants_kernel_names() ? as_kernel(f) : nullptr, f, g, b, c->sharedMemBytes);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                          unsigned bz, unsigned smem, CUstream s, void**) {
  return cuLaunchKernel(f, gx, gy, gz, bx, by, bz, smem, s, nullptr, nullptr);
}
EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, CUfunction f, int block, size_t smem) {
  Kernel* k = as_kernel(f);
  *n = phantom_occupancy(k, block, smem);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, CUfunction f, int block, size_t smem,
                                                                     unsigned) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessor(n, f, block, smem);
}
EXPORT CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction f, CUoccupancyB2DSize size,
                                                 size_t smem, int limit) {
  Kernel* k = as_kernel(f);
  int best = 0, best_block = 0, best_n = 0;
  for (int b = 1024; b >= 32; b -= 32) {
    if (limit > 0 && b > limit) continue;
    int n = phantom_occupancy(k, b, size ? size(b) : smem);
    if (n * b > best) {
      best = n * b;
      best_block = b;
      best_n = n;
    }
  }
  *block = best_block;
  *grid = best_n * phantom_config()->sms;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t* s, CUfunction, int blocks, int) {
  *s = blocks > 0 ? static_cast<size_t>(phantom_limit(81) / blocks) - 1024 : 0;
  if (*s > static_cast<size_t>(phantom_limit(97))) *s = static_cast<size_t>(phantom_limit(97));
  return CUDA_SUCCESS;
}
EXPORT CUresult cuOccupancyMaxActiveClusters(int* n, CUfunction, const CUlaunchConfig*) {
  *n = 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuOccupancyMaxPotentialClusterSize(int* n, CUfunction, const CUlaunchConfig*) {
  *n = 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLinkCreate(unsigned, CUjit_option*, void**, CUlinkState* s) {
  *s = reinterpret_cast<CUlinkState>(new char[64]());
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLinkComplete(CUlinkState s, void** cubin, size_t* bytes) {
  *cubin = s;
  *bytes = 64;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuTensorMapEncodeTiled(CUtensorMap* t, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                       const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                       CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  memset(t, 0, sizeof *t);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLogsRegisterCallback(CUlogsCallback, void*, CUlogsCallbackHandle* h) {
  if (h) *h = reinterpret_cast<CUlogsCallbackHandle>(g_primary);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuGreenCtxCreate(CUgreenCtx*, CUdevResourceDesc, CUdevice, unsigned) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
