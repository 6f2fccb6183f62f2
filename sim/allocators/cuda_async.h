// PYTORCH_CUDA_ALLOC_CONF=backend:cudaMallocAsync: PyTorch's thin layer (c10/cuda/CUDAMallocAsyncAllocator.cpp) over
// the CUDA driver's stream-ordered pool, with a release threshold that never gives anything back by itself.
//
// The driver's rules aren't public. Assumed here, and nowhere better known: memory comes in chunks that are multiples
// of 32 MiB; best fit inside them, sizes in steps of 512 bytes, free neighbours merge; what a stream freed that stream
// can have again at once, and others once the device is synchronised (with events at once: always, as the pool's
// opportunistic reuse allows); if the device has no more, all empty chunks go back first. Statistics: allocated, active
// (the same) and reserved bytes, and nothing else, as PyTorch reports.
#pragma once

#include <memory>

#include "sim/allocator.h"

namespace tidemark {

Result<std::unique_ptr<Allocator>> MakeCudaAsync(const AllocatorOptions& options);

}  // namespace tidemark
