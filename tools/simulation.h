// What commands that simulate a run share.
#pragma once

#include <string>

#include "graph/run_config.h"
#include "sim/allocator.h"

namespace tidemark {

// The run in a line, for people.
std::string TitleOf(const RunConfig& run);

// The allocator that the run uses, on its device.
AllocatorOptions AllocatorOf(const RunConfig& run);

}  // namespace tidemark
