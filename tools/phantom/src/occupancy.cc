// Occupancy, by the calculator that the toolkit ships as a header.
#include <cuda_occupancy.h>

#include "core.h"

using namespace ph;

int phantom_occupancy(const Kernel* k, int block, size_t dynamic_smem) {
  if (block <= 0 || block > 1024) return 0;
  static const cudaOccDeviceProp device = [] {
    auto at = [](int a) {
      int v = 0;
      phantom_attribute(a, &v);
      return v;
    };
    cudaOccDeviceProp p;
    p.computeMajor = at(75);
    p.computeMinor = at(76);
    p.maxThreadsPerBlock = at(1);
    p.maxThreadsPerMultiprocessor = at(39);
    p.regsPerBlock = at(12);
    p.regsPerMultiprocessor = at(82);
    p.warpSize = at(10);
    p.sharedMemPerBlock = static_cast<size_t>(at(8));
    p.sharedMemPerMultiprocessor = static_cast<size_t>(at(81));
    p.numSms = at(16);
    p.sharedMemPerBlockOptin = static_cast<size_t>(at(97));
    p.reservedSharedMemPerBlock = static_cast<size_t>(at(111));
    return p;
  }();
  cudaOccFuncAttributes f;
  f.maxThreadsPerBlock = 1024;
  f.numRegs = k ? k->regs : 32;
  f.sharedSizeBytes = k ? static_cast<size_t>(k->static_smem) : 0;
  f.partitionedGCConfig = PARTITIONED_GC_OFF;
  f.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
  f.maxDynamicSharedSizeBytes = k ? static_cast<size_t>(k->max_dynamic_smem) : 49152;
  f.numBlockBarriers = 1;
  cudaOccDeviceState state;
  if (k && k->carveout >= 0) state.carveoutConfig = k->carveout;
  cudaOccResult r{};
  if (cudaOccMaxActiveBlocksPerMultiprocessor(&r, &device, &f, &state, block, dynamic_smem) != CUDA_OCC_SUCCESS)
    return 0;
  return r.activeBlocksPerMultiprocessor;
}
