// Kernels of the host. Each file of this folder has a list of them; host_backend.cc makes one table of all.
#pragma once

#include <span>

#include "graph/base/result.h"
#include "kernels/backend.h"

namespace tidemark::host {

// Errors: a layout or a number format that the kernel doesn't know.
using Kernel = Result<RunOutcome> (*)(const KernelCall& call);

struct KernelEntry {
  OpKind kind;
  Kernel run;
};

std::span<const KernelEntry> MoveKernels();
std::span<const KernelEntry> ElementwiseKernels();
std::span<const KernelEntry> ReductionKernels();
std::span<const KernelEntry> NormalizationKernels();
std::span<const KernelEntry> LossKernels();
std::span<const KernelEntry> ProductKernels();
std::span<const KernelEntry> AttentionKernels();
std::span<const KernelEntry> OptimizerKernels();
std::span<const KernelEntry> FusedKernels();

}  // namespace tidemark::host
