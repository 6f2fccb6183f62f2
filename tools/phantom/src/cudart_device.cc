// Phantom GPU: the runtime API: the device and its properties.
#include <cstdio>
#include <cstring>

#include "cudart.h"

using namespace ph;

// --- the device

EXPORT cudaError_t cudaGetDeviceCount(int* n) {
  int e = phantom_init();
  *n = e ? 0 : 1;
  return done(e);
}
EXPORT cudaError_t cudaGetDevice(int* d) {
  if (int e = phantom_init()) return done(e);
  *d = t_device;
  return cudaSuccess;
}
EXPORT cudaError_t cudaSetDevice(int d) {
  if (int e = phantom_init()) return done(e);
  if (d != 0) return done(cudaErrorInvalidDevice);
  phantom_activate();
  t_device = d;
  return cudaSuccess;
}
EXPORT cudaError_t cudaInitDevice(int d, unsigned, unsigned) { return cudaSetDevice(d); }
EXPORT cudaError_t cudaChooseDevice(int* d, const cudaDeviceProp*) {
  *d = 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGetDeviceFlags(unsigned* f) {
  *f = 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDriverGetVersion(int* v) {
  *v = CUDART_VERSION;
  return cudaSuccess;
}
EXPORT cudaError_t cudaRuntimeGetVersion(int* v) {
  *v = CUDART_VERSION;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int d) {
  if (int e = phantom_init()) return done(e);
  if (d) return done(cudaErrorInvalidDevice);
  return done(phantom_attribute(static_cast<int>(a), v));
}
EXPORT cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int d) {
  if (int e = phantom_init()) return done(e);
  if (d) return done(cudaErrorInvalidDevice);
  memset(p, 0, sizeof *p);
  auto at = [](int a) {
    int v = 0;
    phantom_attribute(a, &v);
    return v;
  };
  const Config* c = phantom_config();
  snprintf(p->name, sizeof p->name, "%s", c->name);
  static const unsigned char uuid[16] = {0x50, 0x48, 0x41, 0x4e, 0x54, 0x4f, 0x4d, 0, 0x40, 0x70, 0, 0, 0, 0, 0, 1};
  memcpy(p->uuid.bytes, uuid, 16);
  p->totalGlobalMem = c->total;
  p->sharedMemPerBlock = static_cast<size_t>(at(8));
  p->regsPerBlock = at(12);
  p->warpSize = at(10);
  p->memPitch = static_cast<size_t>(at(11));
  p->maxThreadsPerBlock = at(1);
  for (int i = 0; i < 3; ++i) p->maxThreadsDim[i] = at(2 + i);
  for (int i = 0; i < 3; ++i) p->maxGridSize[i] = at(5 + i);
  p->totalConstMem = static_cast<size_t>(at(9));
  p->major = at(75);
  p->minor = at(76);
  p->textureAlignment = static_cast<size_t>(at(14));
  p->texturePitchAlignment = static_cast<size_t>(at(51));
  p->multiProcessorCount = at(16);
  p->integrated = at(18);
  p->canMapHostMemory = at(19);
  p->maxTexture1D = at(21);
  p->maxTexture1DMipmap = at(77);
  p->maxTexture2D[0] = at(22);
  p->maxTexture2D[1] = at(23);
  p->maxTexture2DMipmap[0] = at(73);
  p->maxTexture2DMipmap[1] = at(74);
  p->maxTexture2DLinear[0] = at(70);
  p->maxTexture2DLinear[1] = at(71);
  p->maxTexture2DLinear[2] = at(72);
  p->maxTexture2DGather[0] = at(45);
  p->maxTexture2DGather[1] = at(46);
  for (int i = 0; i < 3; ++i) p->maxTexture3D[i] = at(24 + i);
  for (int i = 0; i < 3; ++i) p->maxTexture3DAlt[i] = at(47 + i);
  p->maxTextureCubemap = at(52);
  p->maxTexture1DLayered[0] = at(42);
  p->maxTexture1DLayered[1] = at(43);
  for (int i = 0; i < 3; ++i) p->maxTexture2DLayered[i] = at(27 + i);
  p->maxTextureCubemapLayered[0] = at(53);
  p->maxTextureCubemapLayered[1] = at(54);
  p->maxSurface1D = at(55);
  p->maxSurface2D[0] = at(56);
  p->maxSurface2D[1] = at(57);
  for (int i = 0; i < 3; ++i) p->maxSurface3D[i] = at(58 + i);
  p->maxSurface1DLayered[0] = at(61);
  p->maxSurface1DLayered[1] = at(62);
  for (int i = 0; i < 3; ++i) p->maxSurface2DLayered[i] = at(63 + i);
  p->maxSurfaceCubemap = at(66);
  p->maxSurfaceCubemapLayered[0] = at(67);
  p->maxSurfaceCubemapLayered[1] = at(68);
  p->surfaceAlignment = static_cast<size_t>(at(30));
  p->concurrentKernels = at(31);
  p->ECCEnabled = at(32);
  p->pciBusID = at(33);
  p->pciDeviceID = at(34);
  p->pciDomainID = at(50);
  p->tccDriver = at(35);
  p->asyncEngineCount = at(40);
  p->unifiedAddressing = at(41);
  p->memoryBusWidth = at(37);
  p->l2CacheSize = at(38);
  p->persistingL2CacheMaxSize = at(108);
  p->maxThreadsPerMultiProcessor = at(39);
  p->streamPrioritiesSupported = at(78);
  p->globalL1CacheSupported = at(79);
  p->localL1CacheSupported = at(80);
  p->sharedMemPerMultiprocessor = static_cast<size_t>(at(81));
  p->regsPerMultiprocessor = at(82);
  p->managedMemory = at(83);
  p->isMultiGpuBoard = at(84);
  p->multiGpuBoardGroupID = at(85);
  p->hostNativeAtomicSupported = at(86);
  p->pageableMemoryAccess = at(88);
  p->concurrentManagedAccess = at(89);
  p->computePreemptionSupported = at(90);
  p->canUseHostPointerForRegisteredMem = at(91);
  p->cooperativeLaunch = at(95);
  p->sharedMemPerBlockOptin = static_cast<size_t>(at(97));
  p->pageableMemoryAccessUsesHostPageTables = at(100);
  p->directManagedMemAccessFromHost = at(101);
  p->maxBlocksPerMultiProcessor = at(106);
  p->accessPolicyMaxWindowSize = at(109);
  p->reservedSharedMemPerBlock = static_cast<size_t>(at(111));
  p->hostRegisterSupported = at(99);
  p->sparseCudaArraySupported = at(112);
  p->hostRegisterReadOnlySupported = at(113);
  p->timelineSemaphoreInteropSupported = at(114);
  p->memoryPoolsSupported = at(115);
  p->gpuDirectRDMASupported = at(116);
  p->gpuDirectRDMAFlushWritesOptions = static_cast<unsigned>(at(117));
  p->gpuDirectRDMAWritesOrdering = at(118);
  p->memoryPoolSupportedHandleTypes = static_cast<unsigned>(at(119));
  p->deferredMappingCudaArraySupported = at(121);
  p->ipcEventSupported = at(125);
  p->clusterLaunch = at(120);
  p->unifiedFunctionPointers = at(129);
  p->deviceNumaConfig = at(130);
  p->deviceNumaId = at(131);
  p->mpsEnabled = at(133);
  p->hostNumaId = at(134);
  p->gpuPciDeviceID = static_cast<unsigned>(at(139));
  p->gpuPciSubsystemID = static_cast<unsigned>(at(140));
  p->hostNumaMultinodeIpcSupported = at(143);
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetPCIBusId(char* s, int len, int d) {
  if (d) return done(cudaErrorInvalidDevice);
  snprintf(s, static_cast<size_t>(len), "0000:01:00.0");
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetByPCIBusId(int* d, const char*) {
  *d = 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceSynchronize() {
  if (cudaError_t e = ready()) return e;
  return done(phantom_device_sync());
}
EXPORT cudaError_t cudaDeviceReset() {
  phantom_device_sync();
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceCanAccessPeer(int* v, int d, int peer) {
  *v = 0;
  if (d || peer) return done(cudaErrorInvalidDevice);
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return done(cudaErrorInvalidDevice); }
EXPORT cudaError_t cudaDeviceDisablePeerAccess(int) { return done(cudaErrorInvalidDevice); }
EXPORT cudaError_t cudaDeviceGetP2PAttribute(int* v, cudaDeviceP2PAttr, int, int) {
  *v = 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetLimit(size_t* v, cudaLimit l) {
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
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetCacheConfig(cudaFuncCache* c) {
  *c = cudaFuncCachePreferNone;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetTexture1DLinearMaxWidth(size_t* w, const cudaChannelFormatDesc*, int) {
  *w = 268435456;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGetExportTable(const void** t, const cudaUUID_t*) {
  if (t) *t = nullptr;
  return done(cudaErrorNotSupported);
}
