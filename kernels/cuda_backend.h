// A CUDA device: memory by cudaMalloc in exactly the segments of the plan, cuBLAS and own kernels. It lives in a
// library of its own (libtidemark_cuda.so, beside the program), which is opened when it is asked for: the program
// itself needs neither a GPU nor CUDA.
#pragma once

#include <memory>
#include <string>

#include "graph/base/result.h"
#include "kernels/backend.h"

namespace tidemark {

struct CudaDevice {
  std::unique_ptr<Backend> backend;
  std::string name;            // "NVIDIA GeForce RTX 4070"
  int compute_capability = 0;  // 89
  int multiprocessors = 0;
  Bytes memory;                 // all of it
  Bytes free;                   // before the first segment
  std::string driver, runtime;  // "13.0"
  bool phantom = false;         // kernels do nothing there
};

// The first CUDA device. Error (kUnavailable): this build has no CUDA, or the machine no driver or device.
Result<CudaDevice> OpenCudaDevice();

}  // namespace tidemark
