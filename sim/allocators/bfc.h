// Best fit with coalescing: TensorFlow's and JAX's allocator (tensorflow tsl/framework/bfc_allocator.cc, public),
// growing on demand (TF_FORCE_GPU_ALLOW_GROWTH, XLA_PYTHON_CLIENT_PREALLOCATE=false).
//
// Sizes are multiples of 256. The smallest free chunk that fits is taken; it is split if it is twice as large as needed
// or leaves 128 MiB. Where none fits, a region is added: 2 MiB at first, twice the last one each time, at least the
// request, at most what the limit leaves; failing that, free regions are given back first, as
// TF_ENABLE_GPU_GARBAGE_COLLECTION has it. Streams and pools are not known to it.
#pragma once

#include <memory>

#include "sim/allocator.h"

namespace tidemark {

Result<std::unique_ptr<Allocator>> MakeBfc(const AllocatorOptions& options);

}  // namespace tidemark
