// The machine's own processor and memory: the twin of every device kernel. Each segment is a range of virtual memory of
// its own. 16-bit formats are stored as such and computed in fp32; every kernel gives the same bits in every run.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace tidemark {

struct HostOptions {
  Bytes capacity = kGiB * (1 << 20);  // of the memory that is played: a segment beyond it is refused
};

std::unique_ptr<Backend> MakeHostBackend(const HostOptions& options = {});

}  // namespace tidemark
