// Phantom GPU: the driver API: memory of every kind, copies, pointers.
#include <cstring>

#include "driver.h"

using namespace ph;

// --- memory

EXPORT CUresult cuMemGetInfo(size_t* free, size_t* total) {
  phantom_activate();
  MemInfo m;
  phantom_mem_info(&m);
  if (free) *free = m.free;
  if (total) *total = m.total;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemAlloc(CUdeviceptr* p, size_t bytes) {
  if (!bytes) return CUDA_ERROR_INVALID_VALUE;
  uint64_t a;
  int e = phantom_malloc(&a, bytes, "cuMemAlloc");
  *p = a;
  RET(e);
}
EXPORT CUresult cuMemAllocPitch(CUdeviceptr* p, size_t* pitch, size_t w, size_t h, unsigned) {
  *pitch = (w + 511) / 512 * 512;
  uint64_t a;
  int e = phantom_malloc(&a, *pitch * h, "cuMemAllocPitch");
  *p = a;
  RET(e);
}
EXPORT CUresult cuMemFree(CUdeviceptr p) {
  PtrInfo i;
  if (phantom_pointer(u(p), &i) == kOk && i.kind == kManaged) RET(phantom_host_free(vp(p), "cuMemFree"));
  RET(phantom_free(u(p), "cuMemFree"));
}
EXPORT CUresult cuMemGetAddressRange(CUdeviceptr* base, size_t* size, CUdeviceptr p) {
  PtrInfo i;
  if (phantom_pointer(u(p), &i)) return CUDA_ERROR_NOT_FOUND;
  bool vmm = i.kind == kDeviceVmm;
  if (base) *base = vmm ? i.map_base : i.base;
  if (size) *size = vmm ? i.map_size : i.size;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemAllocHost(void** p, size_t bytes) {
  RET(phantom_host_alloc(p, bytes, 0, kHostPinned, "cuMemAllocHost"));
}
EXPORT CUresult cuMemHostAlloc(void** p, size_t bytes, unsigned flags) {
  RET(phantom_host_alloc(p, bytes, flags, kHostPinned, "cuMemHostAlloc"));
}
EXPORT CUresult cuMemFreeHost(void* p) { RET(phantom_host_free(p, "cuMemFreeHost")); }
EXPORT CUresult cuMemHostRegister(void* p, size_t bytes, unsigned flags) {
  RET(phantom_host_register(p, bytes, flags));
}
EXPORT CUresult cuMemHostUnregister(void* p) { RET(phantom_host_unregister(p)); }
EXPORT CUresult cuMemHostGetDevicePointer(CUdeviceptr* d, void* p, unsigned) {
  *d = reinterpret_cast<CUdeviceptr>(p);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemHostGetFlags(unsigned* f, void* p) {
  PtrInfo i;
  if (phantom_pointer(reinterpret_cast<uint64_t>(p), &i)) return CUDA_ERROR_INVALID_VALUE;
  *f = i.flags;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemAllocManaged(CUdeviceptr* p, size_t bytes, unsigned flags) {
  void* h;
  int e = phantom_host_alloc(&h, bytes, flags, kManaged, "cuMemAllocManaged");
  *p = reinterpret_cast<CUdeviceptr>(h);
  RET(e);
}

EXPORT CUresult cuMemcpy(CUdeviceptr d, CUdeviceptr s, size_t n) {
  phantom_copy(vp(d), vp(s), n);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyAsync(CUdeviceptr d, CUdeviceptr s, size_t n, CUstream st) {
  phantom_capture_node(st, 1);
  phantom_copy(vp(d), vp(s), n);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyHtoD(CUdeviceptr d, const void* s, size_t n) {
  phantom_copy(vp(d), s, n);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyDtoH(void* d, CUdeviceptr s, size_t n) {
  phantom_copy(d, vp(s), n);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyDtoD(CUdeviceptr d, CUdeviceptr s, size_t n) {
  phantom_copy(vp(d), vp(s), n);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyHtoDAsync(CUdeviceptr d, const void* s, size_t n, CUstream st) {
  phantom_capture_node(st, 1);
  phantom_copy(vp(d), s, n);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyDtoHAsync(void* d, CUdeviceptr s, size_t n, CUstream st) {
  phantom_capture_node(st, 1);
  phantom_copy(d, vp(s), n);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyDtoDAsync(CUdeviceptr d, CUdeviceptr s, size_t n, CUstream st) {
  phantom_capture_node(st, 1);
  phantom_copy(vp(d), vp(s), n);
  return CUDA_SUCCESS;
}
static CUresult copy_2d(const CUDA_MEMCPY2D* c) {
  if (c->dstMemoryType == CU_MEMORYTYPE_ARRAY || c->srcMemoryType == CU_MEMORYTYPE_ARRAY) return CUDA_SUCCESS;
  char* d =
      c->dstMemoryType == CU_MEMORYTYPE_HOST ? static_cast<char*>(c->dstHost) : static_cast<char*>(vp(c->dstDevice));
  const char* s = c->srcMemoryType == CU_MEMORYTYPE_HOST ? static_cast<const char*>(c->srcHost)
                                                         : static_cast<const char*>(vp(c->srcDevice));
  phantom_copy_2d(d + c->dstY * c->dstPitch + c->dstXInBytes, c->dstPitch, s + c->srcY * c->srcPitch + c->srcXInBytes,
                  c->srcPitch, c->WidthInBytes, c->Height);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpy2D(const CUDA_MEMCPY2D* c) { return copy_2d(c); }
EXPORT CUresult cuMemcpy2DUnaligned(const CUDA_MEMCPY2D* c) { return copy_2d(c); }
EXPORT CUresult cuMemcpy2DAsync(const CUDA_MEMCPY2D* c, CUstream st) {
  phantom_capture_node(st, 1);
  return copy_2d(c);
}
static CUresult set_async(CUstream st) {
  phantom_activate();
  phantom_capture_node(st, 2);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemsetD8(CUdeviceptr d, unsigned char v, size_t n) {
  phantom_set(vp(d), v, n);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemsetD8Async(CUdeviceptr d, unsigned char v, size_t n, CUstream st) {
  phantom_set(vp(d), v, n);
  return set_async(st);
}
EXPORT CUresult cuMemsetD16Async(CUdeviceptr, unsigned short, size_t, CUstream st) { return set_async(st); }
EXPORT CUresult cuMemsetD32Async(CUdeviceptr, unsigned, size_t, CUstream st) { return set_async(st); }

// --- pointers

EXPORT CUresult cuPointerGetAttribute(void* out, CUpointer_attribute a, CUdeviceptr p) {
  PtrInfo i;
  if (phantom_pointer(u(p), &i)) return CUDA_ERROR_INVALID_VALUE;
  bool host = i.kind == kHostPinned || i.kind == kHostRegistered;
  bool vmm = i.kind == kDeviceVmm;
  switch (static_cast<int>(a)) {
    case 1:
      *static_cast<CUcontext*>(out) = vmm ? nullptr : primary();
      break;
    case 2:
      *static_cast<unsigned*>(out) = host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
      break;
    case 3:
      *static_cast<CUdeviceptr*>(out) = p;
      break;
    case 4:
      if (!host && i.kind != kManaged) return CUDA_ERROR_INVALID_VALUE;
      *static_cast<void**>(out) = vp(p);
      break;
    case 6:
      *static_cast<unsigned*>(out) = 0;
      break;
    case 7:
      *static_cast<unsigned long long*>(out) = i.ordinal + 1;
      break;
    case 8:
      *static_cast<unsigned*>(out) = i.kind == kManaged;
      break;
    case 9:
      *static_cast<int*>(out) = 0;
      break;
    case 10:
      *static_cast<unsigned*>(out) = i.kind == kDeviceMalloc || i.kind == kDeviceSmall;
      break;
    case 11:
      *static_cast<CUdeviceptr*>(out) = i.base;
      break;
    case 12:
      *static_cast<size_t*>(out) = i.size;
      break;
    case 13:
      *static_cast<unsigned*>(out) = 1;
      break;
    case 14:
      *static_cast<unsigned long long*>(out) = vmm ? 1 : 0;
      break;
    case 15:
      *static_cast<unsigned*>(out) = 0;
      break;
    case 16:
      *static_cast<unsigned long long*>(out) = 3;
      break;
    case 17:
      *static_cast<CUmemoryPool*>(out) =
          i.kind == kDevicePool ? static_cast<CUmemoryPool>(phantom_pool_default()) : nullptr;
      break;
    case 18:
      *static_cast<size_t*>(out) = vmm ? i.map_size : i.size;
      break;
    case 19:
      *static_cast<CUdeviceptr*>(out) = vmm ? i.map_base : i.base;
      break;
    case 20:
      *static_cast<unsigned long long*>(out) = i.ordinal + 1;
      break;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}
EXPORT CUresult cuPointerGetAttributes(unsigned n, CUpointer_attribute* a, void** data, CUdeviceptr p) {
  for (unsigned i = 0; i < n; ++i)
    if (cuPointerGetAttribute(data[i], a[i], p)) *static_cast<unsigned*>(data[i]) = 0;
  return CUDA_SUCCESS;
}

// --- virtual memory management

EXPORT CUresult cuMemGetAllocationGranularity(size_t* g, const CUmemAllocationProp*, CUmemAllocationGranularity_flags) {
  *g = kPage;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemAddressReserve(CUdeviceptr* p, size_t bytes, size_t align, CUdeviceptr, unsigned long long) {
  uint64_t a = 0;
  int e = phantom_vmm_reserve(&a, bytes, align);
  *p = a;
  RET(e);
}
EXPORT CUresult cuMemAddressFree(CUdeviceptr p, size_t bytes) { RET(phantom_vmm_unreserve(u(p), bytes)); }
EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle* h, size_t bytes, const CUmemAllocationProp* prop,
                            unsigned long long) {
  uint64_t v = 0;
  int e = phantom_vmm_create(&v, bytes, prop->requestedHandleTypes, prop->location.type, prop, sizeof *prop);
  if (!e) *h = v;
  RET(e);
}
EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle h) { RET(phantom_vmm_release(h)); }
EXPORT CUresult cuMemMap(CUdeviceptr p, size_t bytes, size_t offset, CUmemGenericAllocationHandle h,
                         unsigned long long) {
  RET(phantom_vmm_map(u(p), bytes, offset, h));
}
EXPORT CUresult cuMemUnmap(CUdeviceptr p, size_t bytes) { RET(phantom_vmm_unmap(u(p), bytes)); }
EXPORT CUresult cuMemSetAccess(CUdeviceptr p, size_t, const CUmemAccessDesc*, size_t) {
  PtrInfo i;
  return phantom_pointer(u(p), &i) == kOk ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
EXPORT CUresult cuMemGetAccess(unsigned long long* f, const CUmemLocation*, CUdeviceptr) {
  *f = 3;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* h, void* p) {
  uint64_t v = 0;
  int e = phantom_vmm_retain(&v, reinterpret_cast<uint64_t>(p));
  if (!e) *h = v;
  RET(e);
}
EXPORT CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* p, CUmemGenericAllocationHandle h) {
  RET(phantom_vmm_prop(h, p, sizeof *p));
}
EXPORT CUresult cuMemExportToShareableHandle(void*, CUmemGenericAllocationHandle, CUmemAllocationHandleType,
                                             unsigned long long) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
EXPORT CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle*, void*, CUmemAllocationHandleType) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
EXPORT CUresult cuMulticastCreate(CUmemGenericAllocationHandle*, const CUmulticastObjectProp*) {
  return CUDA_ERROR_NOT_SUPPORTED;
}

// --- stream-ordered memory

EXPORT CUresult cuMemAllocAsync(CUdeviceptr* p, size_t bytes, CUstream s) {
  uint64_t a = 0;
  int e = phantom_pool_alloc(&a, bytes, nullptr);
  phantom_capture_node(s, 10);
  *p = a;
  RET(e);
}
EXPORT CUresult cuMemAllocFromPoolAsync(CUdeviceptr* p, size_t bytes, CUmemoryPool pool, CUstream s) {
  uint64_t a = 0;
  int e = phantom_pool_alloc(&a, bytes, pool);
  phantom_capture_node(s, 10);
  *p = a;
  RET(e);
}
EXPORT CUresult cuMemFreeAsync(CUdeviceptr p, CUstream s) {
  phantom_capture_node(s, 11);
  RET(phantom_free(u(p), "cudaFreeAsync"));
}
EXPORT CUresult cuMemPoolCreate(CUmemoryPool* p, const CUmemPoolProps* props) {
  void* v = nullptr;
  int e = phantom_pool_create(&v, props->maxSize);
  *p = static_cast<CUmemoryPool>(v);
  RET(e);
}
EXPORT CUresult cuMemPoolDestroy(CUmemoryPool p) { RET(phantom_pool_destroy(p)); }
EXPORT CUresult cuMemPoolTrimTo(CUmemoryPool p, size_t keep) { RET(phantom_pool_trim(p, keep)); }
EXPORT CUresult cuMemPoolSetAttribute(CUmemoryPool p, CUmemPool_attribute a, void* v) {
  RET(phantom_pool_set(p, a, v));
}
EXPORT CUresult cuMemPoolGetAttribute(CUmemoryPool p, CUmemPool_attribute a, void* v) {
  RET(phantom_pool_get(p, a, v));
}
EXPORT CUresult cuMemPoolGetAccess(CUmemAccess_flags* f, CUmemoryPool, CUmemLocation*) {
  *f = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemGetDefaultMemPool(CUmemoryPool* p, CUmemLocation*, CUmemAllocationType) {
  *p = static_cast<CUmemoryPool>(phantom_pool_default());
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemGetMemPool(CUmemoryPool* p, CUmemLocation*, CUmemAllocationType) {
  *p = static_cast<CUmemoryPool>(phantom_pool_current());
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemSetMemPool(CUmemLocation*, CUmemAllocationType, CUmemoryPool p) {
  RET(phantom_pool_set_current(p));
}

// --- IPC

EXPORT CUresult cuIpcGetEventHandle(CUipcEventHandle*, CUevent) { return CUDA_ERROR_NOT_SUPPORTED; }
EXPORT CUresult cuIpcOpenEventHandle(CUevent*, CUipcEventHandle) { return CUDA_ERROR_NOT_SUPPORTED; }
EXPORT CUresult cuIpcGetMemHandle(CUipcMemHandle*, CUdeviceptr) { return CUDA_ERROR_NOT_SUPPORTED; }
EXPORT CUresult cuIpcOpenMemHandle(CUdeviceptr*, CUipcMemHandle, unsigned) { return CUDA_ERROR_NOT_SUPPORTED; }
EXPORT CUresult cuIpcCloseMemHandle(CUdeviceptr) { return CUDA_ERROR_NOT_SUPPORTED; }
