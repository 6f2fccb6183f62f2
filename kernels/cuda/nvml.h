// What NVML counts against this process: the number of nvidia-smi.
#pragma once

#include "graph/base/units.h"

namespace tidemark::cuda {

class Nvml {
 public:
  Nvml();
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  // 0 where NVML isn't there or can't tell.
  Bytes ProcessMemory() const;

 private:
  void* library_ = nullptr;
  void* device_ = nullptr;
};

}  // namespace tidemark::cuda
