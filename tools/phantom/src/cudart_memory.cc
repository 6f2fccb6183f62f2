// Phantom GPU: the runtime API: memory of every kind, copies.
#include <cstring>

#include "cudart.h"

using namespace ph;

namespace {

cudaError_t malloc_to(void** p, size_t bytes, const char* op) {
  if (!p) return done(cudaErrorInvalidValue);
  if (cudaError_t e = ready()) return e;
  uint64_t a = 0;
  int e = phantom_malloc(&a, bytes, op);
  if (!e) *p = reinterpret_cast<void*>(a);
  return done(e);
}

struct Array {
  cudaChannelFormatDesc desc;
  cudaExtent extent;
  unsigned flags;
  uint64_t address;
};
cudaError_t make_array(cudaArray_t* out, const cudaChannelFormatDesc* d, cudaExtent x, unsigned flags) {
  if (cudaError_t e = ready()) return e;
  auto atleast1 = [](size_t v) { return v ? v : size_t(1); };
  size_t bytes = atleast1(x.width) * atleast1(x.height) * atleast1(x.depth) *
                 static_cast<size_t>((d->x + d->y + d->z + d->w + 7) / 8);
  Array* a = new Array{*d, x, flags, 0};
  if (int e = phantom_malloc(&a->address, bytes, "cudaMallocArray")) {
    delete a;
    return done(e);
  }
  *out = reinterpret_cast<cudaArray_t>(a);
  return cudaSuccess;
}

cudaError_t copy_3d(const cudaMemcpy3DParms* p) {
  if (p->dstArray || !p->dstPtr.ptr) return cudaSuccess;
  char* d = static_cast<char*>(p->dstPtr.ptr) + p->dstPos.x + p->dstPos.y * p->dstPtr.pitch +
            p->dstPos.z * p->dstPtr.pitch * p->dstPtr.ysize;
  const char* s = p->srcArray ? nullptr
                              : static_cast<const char*>(p->srcPtr.ptr) + p->srcPos.x + p->srcPos.y * p->srcPtr.pitch +
                                    p->srcPos.z * p->srcPtr.pitch * p->srcPtr.ysize;
  for (size_t z = 0; z < p->extent.depth; ++z)
    for (size_t y = 0; y < p->extent.height; ++y) {
      char* to = d + z * p->dstPtr.pitch * p->dstPtr.ysize + y * p->dstPtr.pitch;
      if (s)
        phantom_copy(to, s + z * p->srcPtr.pitch * p->srcPtr.ysize + y * p->srcPtr.pitch, p->extent.width);
      else
        phantom_set(to, 0, p->extent.width);
    }
  return cudaSuccess;
}

}  // namespace

// --- memory

EXPORT cudaError_t cudaMalloc(void** p, size_t bytes) {
  if (p && !bytes) {
    *p = nullptr;
    return cudaSuccess;
  }
  return malloc_to(p, bytes, "cudaMalloc");
}
EXPORT cudaError_t cudaMallocPitch(void** p, size_t* pitch, size_t w, size_t h) {
  *pitch = (w + 511) / 512 * 512;
  return malloc_to(p, *pitch * h, "cudaMallocPitch");
}
EXPORT cudaError_t cudaMalloc3D(cudaPitchedPtr* p, cudaExtent x) {
  p->pitch = (x.width + 511) / 512 * 512;
  p->xsize = x.width;
  p->ysize = x.height;
  return malloc_to(&p->ptr, p->pitch * x.height * x.depth, "cudaMalloc3D");
}
EXPORT cudaError_t cudaFree(void* p) {
  if (cudaError_t e = ready()) return e;
  if (!p) return cudaSuccess;
  PtrInfo i;
  if (phantom_pointer(reinterpret_cast<uint64_t>(p), &i) == kOk && i.kind == kManaged)
    return done(phantom_host_free(p, "cudaFree"));
  return done(phantom_free(reinterpret_cast<uint64_t>(p), "cudaFree"));
}
EXPORT cudaError_t cudaMallocHost(void** p, size_t bytes) {
  if (cudaError_t e = ready()) return e;
  return done(phantom_host_alloc(p, bytes, 0, kHostPinned, "cudaMallocHost"));
}
EXPORT cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned flags) {
  if (cudaError_t e = ready()) return e;
  return done(phantom_host_alloc(p, bytes, flags, kHostPinned, "cudaHostAlloc"));
}
EXPORT cudaError_t cudaFreeHost(void* p) { return done(phantom_host_free(p, "cudaFreeHost")); }
EXPORT cudaError_t cudaHostRegister(void* p, size_t bytes, unsigned flags) {
  if (cudaError_t e = ready()) return e;
  return done(phantom_host_register(p, bytes, flags));
}
EXPORT cudaError_t cudaHostUnregister(void* p) { return done(phantom_host_unregister(p)); }
EXPORT cudaError_t cudaHostGetDevicePointer(void** d, void* h, unsigned) {
  PtrInfo i;
  if (phantom_pointer(reinterpret_cast<uint64_t>(h), &i)) return done(cudaErrorInvalidValue);
  *d = h;
  return cudaSuccess;
}
EXPORT cudaError_t cudaHostGetFlags(unsigned* f, void* h) {
  PtrInfo i;
  if (phantom_pointer(reinterpret_cast<uint64_t>(h), &i)) return done(cudaErrorInvalidValue);
  *f = i.flags;
  return cudaSuccess;
}
EXPORT cudaError_t cudaMallocManaged(void** p, size_t bytes, unsigned flags) {
  if (cudaError_t e = ready()) return e;
  return done(phantom_host_alloc(p, bytes, flags, kManaged, "cudaMallocManaged"));
}
EXPORT cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  if (cudaError_t e = ready()) return e;
  MemInfo m;
  phantom_mem_info(&m);
  if (free) *free = m.free;
  if (total) *total = m.total;
  return cudaSuccess;
}
EXPORT cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
  memset(a, 0, sizeof *a);
  if (cudaError_t e = ready()) return e;
  PtrInfo i;
  if (phantom_pointer(reinterpret_cast<uint64_t>(p), &i)) {
    a->type = cudaMemoryTypeUnregistered;
    a->device = -2;  // as the runtime answers for memory it doesn't know
    a->hostPointer = const_cast<void*>(p);
    return cudaSuccess;
  }
  a->device = 0;
  a->devicePointer = const_cast<void*>(p);
  switch (i.kind) {
    case kHostPinned:
    case kHostRegistered:
      a->type = cudaMemoryTypeHost;
      a->hostPointer = const_cast<void*>(p);
      break;
    case kManaged:
      a->type = cudaMemoryTypeManaged;
      a->hostPointer = const_cast<void*>(p);
      break;
    default:
      a->type = cudaMemoryTypeDevice;
      break;
  }
  return cudaSuccess;
}
EXPORT cudaError_t cudaMallocArray(cudaArray_t* a, const cudaChannelFormatDesc* d, size_t w, size_t h, unsigned f) {
  return make_array(a, d, cudaExtent{w, h, 0}, f);
}
EXPORT cudaError_t cudaMalloc3DArray(cudaArray_t* a, const cudaChannelFormatDesc* d, cudaExtent x, unsigned f) {
  return make_array(a, d, x, f);
}
EXPORT cudaError_t cudaFreeArray(cudaArray_t a) {
  if (!a) return cudaSuccess;
  Array* x = reinterpret_cast<Array*>(a);
  phantom_free(x->address, "cudaFreeArray");
  delete x;
  return cudaSuccess;
}
EXPORT cudaChannelFormatDesc cudaCreateChannelDesc(int x, int y, int z, int w, cudaChannelFormatKind f) {
  return cudaChannelFormatDesc{x, y, z, w, f};
}

// --- copies: nothing on the device, zeros from it, real between host buffers

EXPORT cudaError_t cudaMemcpy(void* d, const void* s, size_t n, cudaMemcpyKind) {
  if (cudaError_t e = ready()) return e;
  phantom_stream_sync(nullptr);
  phantom_copy(d, s, n);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemcpyAsync(void* d, const void* s, size_t n, cudaMemcpyKind, cudaStream_t st) {
  if (cudaError_t e = ready()) return e;
  phantom_capture_node(st, 1);
  phantom_copy(d, s, n);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemcpyPeer(void* d, int, const void* s, int, size_t n) {
  phantom_copy(d, s, n);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemcpyPeerAsync(void* d, int, const void* s, int, size_t n, cudaStream_t st) {
  phantom_capture_node(st, 1);
  phantom_copy(d, s, n);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemcpy2D(void* d, size_t dp, const void* s, size_t sp, size_t w, size_t h, cudaMemcpyKind) {
  phantom_copy_2d(d, dp, s, sp, w, h);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemcpy2DAsync(void* d, size_t dp, const void* s, size_t sp, size_t w, size_t h, cudaMemcpyKind,
                                     cudaStream_t st) {
  phantom_capture_node(st, 1);
  phantom_copy_2d(d, dp, s, sp, w, h);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemcpy3D(const cudaMemcpy3DParms* p) { return copy_3d(p); }
EXPORT cudaError_t cudaMemcpy3DAsync(const cudaMemcpy3DParms* p, cudaStream_t st) {
  phantom_capture_node(st, 1);
  return copy_3d(p);
}
EXPORT cudaError_t cudaMemcpyBatchAsync(void* const* d, const void* const* s, const size_t* n, size_t count,
                                        cudaMemcpyAttributes*, size_t*, size_t, cudaStream_t st) {
  phantom_capture_node(st, 1);
  for (size_t i = 0; i < count; ++i) phantom_copy(d[i], s[i], n[i]);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemcpy2DFromArray(void* d, size_t dp, cudaArray_const_t, size_t, size_t, size_t w, size_t h,
                                         cudaMemcpyKind) {
  for (size_t y = 0; y < h; ++y) phantom_set(static_cast<char*>(d) + y * dp, 0, w);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemcpyFromSymbol(void* d, const void* s, size_t n, size_t, cudaMemcpyKind) {
  if (!symbol(s, nullptr)) return done(cudaErrorInvalidSymbol);
  phantom_set(d, 0, n);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemcpyFromSymbolAsync(void* d, const void* s, size_t n, size_t, cudaMemcpyKind, cudaStream_t) {
  if (!symbol(s, nullptr)) return done(cudaErrorInvalidSymbol);
  phantom_set(d, 0, n);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemset(void* d, int v, size_t n) {
  if (cudaError_t e = ready()) return e;
  phantom_set(d, v, n);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemsetAsync(void* d, int v, size_t n, cudaStream_t st) {
  if (cudaError_t e = ready()) return e;
  phantom_capture_node(st, 2);
  phantom_set(d, v, n);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemset2D(void* d, size_t pitch, int v, size_t w, size_t h) {
  for (size_t y = 0; y < h; ++y) phantom_set(static_cast<char*>(d) + y * pitch, v, w);
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemset2DAsync(void* d, size_t pitch, int v, size_t w, size_t h, cudaStream_t st) {
  phantom_capture_node(st, 2);
  return cudaMemset2D(d, pitch, v, w, h);
}

// --- stream-ordered memory

EXPORT cudaError_t cudaMallocFromPoolAsync(void** p, size_t bytes, cudaMemPool_t pool, cudaStream_t st) {
  if (cudaError_t e = ready()) return e;
  uint64_t a = 0;
  int e = phantom_pool_alloc(&a, bytes, pool);
  if (!e) *p = reinterpret_cast<void*>(a);
  phantom_capture_node(st, 10);
  return done(e);
}
EXPORT cudaError_t cudaMallocAsync(void** p, size_t bytes, cudaStream_t st) {
  return cudaMallocFromPoolAsync(p, bytes, nullptr, st);
}
EXPORT cudaError_t cudaFreeAsync(void* p, cudaStream_t st) {
  if (cudaError_t e = ready()) return e;
  phantom_capture_node(st, 11);
  return done(phantom_free(reinterpret_cast<uint64_t>(p), "cudaFreeAsync"));
}
EXPORT cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* p, int d) {
  if (d) return done(cudaErrorInvalidDevice);
  if (int e = phantom_init()) return done(e);
  *p = static_cast<cudaMemPool_t>(phantom_pool_default());
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* p, int) {
  *p = static_cast<cudaMemPool_t>(phantom_pool_current());
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceSetMemPool(int, cudaMemPool_t p) { return done(phantom_pool_set_current(p)); }
EXPORT cudaError_t cudaMemGetDefaultMemPool(cudaMemPool_t* p, cudaMemLocation*, cudaMemAllocationType) {
  *p = static_cast<cudaMemPool_t>(phantom_pool_default());
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemGetMemPool(cudaMemPool_t* p, cudaMemLocation*, cudaMemAllocationType) {
  *p = static_cast<cudaMemPool_t>(phantom_pool_current());
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemSetMemPool(cudaMemLocation*, cudaMemAllocationType, cudaMemPool_t p) {
  return done(phantom_pool_set_current(p));
}
EXPORT cudaError_t cudaMemPoolCreate(cudaMemPool_t* p, const cudaMemPoolProps* props) {
  if (cudaError_t e = ready()) return e;
  void* v = nullptr;
  int e = phantom_pool_create(&v, props->maxSize);
  *p = static_cast<cudaMemPool_t>(v);
  return done(e);
}
EXPORT cudaError_t cudaMemPoolDestroy(cudaMemPool_t p) { return done(phantom_pool_destroy(p)); }
EXPORT cudaError_t cudaMemPoolTrimTo(cudaMemPool_t p, size_t keep) { return done(phantom_pool_trim(p, keep)); }
EXPORT cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t p, cudaMemPoolAttr a, void* v) {
  return done(phantom_pool_set(p, a, v));
}
EXPORT cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t p, cudaMemPoolAttr a, void* v) {
  return done(phantom_pool_get(p, a, v));
}
EXPORT cudaError_t cudaMemPoolSetAccess(cudaMemPool_t, const cudaMemAccessDesc*, size_t) { return cudaSuccess; }
EXPORT cudaError_t cudaMemPoolGetAccess(cudaMemAccessFlags* f, cudaMemPool_t, cudaMemLocation*) {
  *f = cudaMemAccessFlagsProtReadWrite;
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemPoolExportToShareableHandle(void*, cudaMemPool_t, cudaMemAllocationHandleType, unsigned) {
  return done(cudaErrorNotSupported);
}

// --- IPC

EXPORT cudaError_t cudaIpcGetEventHandle(cudaIpcEventHandle_t*, cudaEvent_t) { return done(cudaErrorNotSupported); }
EXPORT cudaError_t cudaIpcOpenEventHandle(cudaEvent_t*, cudaIpcEventHandle_t) { return done(cudaErrorNotSupported); }
EXPORT cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t*, void*) { return done(cudaErrorNotSupported); }
EXPORT cudaError_t cudaIpcOpenMemHandle(void**, cudaIpcMemHandle_t, unsigned) { return done(cudaErrorNotSupported); }
EXPORT cudaError_t cudaIpcCloseMemHandle(void*) { return done(cudaErrorNotSupported); }
