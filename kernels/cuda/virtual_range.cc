#include "kernels/cuda/virtual_range.h"

#include <cuda.h>
#include <dlfcn.h>

#include <string>

#include "graph/base/check.h"

namespace tidemark::cuda {
namespace {

// The driver's own interface. It is opened by name, since a machine that builds this may have no driver.
struct Driver {
  decltype(&cuCtxGetDevice) current_device = nullptr;
  decltype(&cuMemAddressReserve) reserve = nullptr;
  decltype(&cuMemAddressFree) free = nullptr;
  decltype(&cuMemCreate) create = nullptr;
  decltype(&cuMemRelease) release = nullptr;
  decltype(&cuMemMap) map = nullptr;
  decltype(&cuMemUnmap) unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
  decltype(&cuGetErrorName) error_name = nullptr;
  bool complete = false;
};

template <typename F>
bool Find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  return function != nullptr;
}

const Driver& TheDriver() {
  static const Driver kDriver = [] {
    Driver driver;
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return driver;
    driver.complete = Find(library, "cuCtxGetDevice", driver.current_device) &&
                      Find(library, "cuMemAddressReserve", driver.reserve) &&
                      Find(library, "cuMemAddressFree", driver.free) && Find(library, "cuMemCreate", driver.create) &&
                      Find(library, "cuMemRelease", driver.release) && Find(library, "cuMemMap", driver.map) &&
                      Find(library, "cuMemUnmap", driver.unmap) && Find(library, "cuMemSetAccess", driver.set_access) &&
                      Find(library, "cuGetErrorName", driver.error_name);
    return driver;
  }();
  return kDriver;
}

Status Check(const char* what, CUresult result) {
  if (result == CUDA_SUCCESS) return {};
  const char* name = nullptr;
  TheDriver().error_name(result, &name);
  return Error{ErrorCode::kUnavailable, std::string(what) + ": " + (name == nullptr ? "unknown error" : name)};
}

Result<CUmemLocation> CurrentDevice() {
  CUdevice device = 0;
  RETURN_IF_ERROR(Check("cuCtxGetDevice", TheDriver().current_device(&device)));
  CUmemLocation location{};
  location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  location.id = device;
  return location;
}

constexpr size_t kStepSize = static_cast<size_t>(VirtualRange::kStep.count());

}  // namespace

Result<std::unique_ptr<VirtualRange>> VirtualRange::Reserve(Bytes most) {
  if (!TheDriver().complete) {
    return Error{ErrorCode::kUnavailable, "expandable segments need a driver with virtual memory management"};
  }
  const size_t size = (static_cast<size_t>(most.count()) + kStepSize - 1) / kStepSize * kStepSize;
  CUdeviceptr start = 0;
  RETURN_IF_ERROR(Check("cuMemAddressReserve", TheDriver().reserve(&start, size, 0, 0, 0)));
  return std::unique_ptr<VirtualRange>(new VirtualRange(start, size));
}

VirtualRange::~VirtualRange() {
  static_cast<void>(Drop(handles_.size()));
  TheDriver().free(start_, reserved_);
}

std::byte* VirtualRange::start() const { return reinterpret_cast<std::byte*>(start_); }

Status VirtualRange::Drop(size_t count) {
  for (; count > 0; --count) {
    const CUmemGenericAllocationHandle handle = handles_.back();
    handles_.pop_back();
    // What was mapped at once is unmapped at once: the driver asks for that.
    RETURN_IF_ERROR(Check("cuMemUnmap", TheDriver().unmap(start_ + handles_.size() * kStepSize, kStepSize)));
    RETURN_IF_ERROR(Check("cuMemRelease", TheDriver().release(handle)));
  }
  return {};
}

Result<bool> VirtualRange::Resize(Bytes bytes) {
  const auto wanted = static_cast<size_t>(bytes.count()) / kStepSize;
  CHECK(wanted * kStepSize == static_cast<size_t>(bytes.count()) && wanted * kStepSize <= reserved_);
  const size_t before = handles_.size();
  if (wanted <= before) {
    RETURN_IF_ERROR(Drop(before - wanted));
    return true;
  }
  ASSIGN_OR_RETURN(const CUmemLocation location, CurrentDevice());
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = location;
  while (handles_.size() < wanted) {
    CUmemGenericAllocationHandle handle = 0;
    const CUresult created = TheDriver().create(&handle, kStepSize, &properties, 0);
    if (created == CUDA_ERROR_OUT_OF_MEMORY) {
      RETURN_IF_ERROR(Drop(handles_.size() - before));
      return false;
    }
    RETURN_IF_ERROR(Check("cuMemCreate", created));
    const CUresult mapped = TheDriver().map(start_ + handles_.size() * kStepSize, kStepSize, 0, handle, 0);
    if (mapped != CUDA_SUCCESS) {
      TheDriver().release(handle);
      return Check("cuMemMap", mapped).error();
    }
    handles_.push_back(handle);
  }
  CUmemAccessDesc access{};
  access.location = location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  const size_t added = (wanted - before) * kStepSize;
  RETURN_IF_ERROR(Check("cuMemSetAccess", TheDriver().set_access(start_ + before * kStepSize, added, &access, 1)));
  return true;
}

}  // namespace tidemark::cuda
