#include "kernels/cuda/nvml.h"

#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <cstdint>

namespace tidemark::cuda {
namespace {

// Of nvml.h, which not every toolkit has; version 2 of the call (and 3, with the same structure) fills this.
struct ProcessInfo {
  unsigned pid;
  unsigned long long used_memory;
  unsigned gpu_instance, compute_instance;
};

template <typename F>
F* Find(void* library, const char* name) {
  return reinterpret_cast<F*>(dlsym(library, name));
}

}  // namespace

Nvml::Nvml() : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
  if (library_ == nullptr) return;
  auto* const start = Find<int()>(library_, "nvmlInit_v2");
  auto* const get = Find<int(unsigned, void**)>(library_, "nvmlDeviceGetHandleByIndex_v2");
  if (start == nullptr || get == nullptr || start() != 0 || get(0, &device_) != 0) device_ = nullptr;
}

Nvml::~Nvml() {
  if (library_ == nullptr) return;
  if (auto* const stop = Find<int()>(library_, "nvmlShutdown")) stop();
  dlclose(library_);
}

Bytes Nvml::ProcessMemory() const {
  if (device_ == nullptr) return {};
  auto* const list = Find<int(void*, unsigned*, ProcessInfo*)>(library_, "nvmlDeviceGetComputeRunningProcesses_v3");
  if (list == nullptr) return {};
  std::array<ProcessInfo, 256> processes{};
  auto count = static_cast<unsigned>(processes.size());
  if (list(device_, &count, processes.data()) != 0) return {};
  for (unsigned i = 0; i < count; ++i) {
    if (processes[i].pid == static_cast<unsigned>(getpid()))
      return Bytes(static_cast<int64_t>(processes[i].used_memory));
  }
  return {};
}

}  // namespace tidemark::cuda
