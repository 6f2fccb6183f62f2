// Offline planners as allocators: they see the whole tape, decide every place before the first event, and hold one
// region as large as their plan. Sizes are rounded up to 512 bytes, as every framework's are. A block that another
// stream uses lives until the next synchronisation if events are lazy.
#pragma once

#include <memory>

#include "sim/allocator.h"

namespace tidemark {

// The strong planner of sim/planners/plan.h.
Result<std::unique_ptr<Allocator>> MakeStaticPlan(const AllocatorOptions& options);
// First fit, largest first.
Result<std::unique_ptr<Allocator>> MakeStaticBySize(const AllocatorOptions& options);
// First fit, longest life first.
Result<std::unique_ptr<Allocator>> MakeStaticByLifetime(const AllocatorOptions& options);

}  // namespace tidemark
