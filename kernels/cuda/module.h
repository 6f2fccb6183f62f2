// What libtidemark_cuda.so exports.
#pragma once

#include <string>

#include "kernels/cuda_backend.h"

namespace tidemark::cuda {

// Fills in the device, or says why there is none.
using OpenDevice = void (*)(CudaDevice* device, std::string* why_not);
constexpr const char* kOpenDevice = "TidemarkOpenCudaDevice";

}  // namespace tidemark::cuda
