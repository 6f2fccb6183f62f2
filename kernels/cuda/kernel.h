// Kernels of a CUDA device. Each file of this folder has a list of them, as those of kernels/host have; a launch
// doesn't wait for its end.
#pragma once

#include <span>

#include "graph/base/result.h"
#include "kernels/backend.h"

namespace tidemark::cuda {

struct Context {
  void* stream = nullptr;  // a cudaStream_t
  // Host memory that kernels can write: set to other than 0 at an index that is out of range.
  int* bad_index = nullptr;
};

// Errors: a layout or a number format that the kernel doesn't know.
using Kernel = Status (*)(const KernelCall& call, const Context& context);

struct KernelEntry {
  OpKind kind;
  Kernel run;
  bool checks_indices = false;  // the caller waits for its end, and looks
};

std::span<const KernelEntry> MoveKernels();
std::span<const KernelEntry> ElementwiseKernels();
std::span<const KernelEntry> ReductionKernels();
std::span<const KernelEntry> NormalizationKernels();
std::span<const KernelEntry> LossKernels();
std::span<const KernelEntry> AttentionKernels();
std::span<const KernelEntry> OptimizerKernels();

// Products are cuBLAS's (backend.cc). What their kernels need beside it: rows of `out` that each are the vector.
Status FillRows(const TensorSpan& vector, const TensorSpan& out, const Context& context);

// Adds to *count how many NaNs the tensor has. `count` is host memory that kernels can write.
void CountNaNs(const TensorSpan& t, int64_t* count, const Context& context);

}  // namespace tidemark::cuda
