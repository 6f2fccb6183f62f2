// Policies without a search: the lower bound and the bump arena.
#pragma once

#include <memory>

#include "sim/allocator.h"

namespace tidemark {

// Holds exactly the requested bytes of what is alive: what no allocator can beat. Places are not given (all are 0).
Result<std::unique_ptr<Allocator>> MakeLowerBound(const AllocatorOptions& options);

// One region; each allocation follows the one before, in steps of 512 bytes, and nothing is used again until everything
// has been freed.
Result<std::unique_ptr<Allocator>> MakeBumpArena(const AllocatorOptions& options);

}  // namespace tidemark
