// The machine's own processor and memory: the twin of every device kernel. Each segment is a range of virtual memory of
// its own. 16-bit formats are stored as such and computed in fp32; every kernel gives the same bits in every run.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace tidemark {

std::unique_ptr<Backend> MakeHostBackend();

}  // namespace tidemark
