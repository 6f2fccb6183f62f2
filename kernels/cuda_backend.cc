#include "kernels/cuda_backend.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>

#include "kernels/cuda/module.h"

namespace tidemark {
namespace {

Error Unavailable(const std::string& why) {
  return Error{ErrorCode::kUnavailable, "the CUDA backend can't run here: " + why};
}

// Beside this program, or in the folder that it was built in.
std::string ModulePath() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  for (const std::filesystem::path& folder : {program.parent_path(), std::filesystem::path(TIDEMARK_BUILD_FOLDER)}) {
    const std::filesystem::path candidate = folder / "libtidemark_cuda.so";
    if (std::filesystem::exists(candidate, error)) return candidate.string();
  }
  return {};
}

}  // namespace

Result<CudaDevice> OpenCudaDevice() {
  const std::string path = ModulePath();
  if (path.empty()) {
    return Unavailable(
        "this tidemark was built without CUDA; configure it again where nvcc is found, and cuBLAS with it or with "
        "pip's "
        "nvidia-cublas");
  }
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) return Unavailable(dlerror());
  auto* const open = reinterpret_cast<cuda::OpenDevice>(dlsym(module, cuda::kOpenDevice));
  if (open == nullptr) return Unavailable(dlerror());
  CudaDevice device;
  std::string why;
  open(&device, &why);
  if (!why.empty()) {
    return Unavailable(why + " (tools/phantom/phantom runs the same with a GPU that isn't there: memory only)");
  }
  return device;
}

}  // namespace tidemark
