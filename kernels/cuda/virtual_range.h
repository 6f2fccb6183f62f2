// A range of a device's address space whose memory comes and goes at its end: what an expandable segment is.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "graph/base/result.h"
#include "graph/base/units.h"

namespace tidemark::cuda {

class VirtualRange {
 public:
  // Memory is mapped in steps of this, the smallest that devices have and PyTorch uses.
  static constexpr Bytes kStep = kMiB * 2;

  // Reserves addresses for `most` bytes of the current device. Errors: a driver without virtual memory management, or
  // its failure.
  static Result<std::unique_ptr<VirtualRange>> Reserve(Bytes most);

  VirtualRange(const VirtualRange&) = delete;
  VirtualRange& operator=(const VirtualRange&) = delete;
  ~VirtualRange();  // REQUIRES: no kernel uses it any more

  // Has memory in its first `bytes` from here on. False: the device has no memory left, and nothing has changed.
  // Errors: the driver's. REQUIRES: a multiple of kStep, at most `most`; where it shrinks, no kernel uses the end.
  Result<bool> Resize(Bytes bytes);

  std::byte* start() const;
  Bytes mapped() const { return kStep * static_cast<int64_t>(handles_.size()); }

 private:
  VirtualRange(unsigned long long start, size_t reserved) : start_(start), reserved_(reserved) {}
  Status Drop(size_t count);  // the last ones

  unsigned long long start_;  // a CUdeviceptr
  size_t reserved_;
  std::vector<unsigned long long> handles_;  // a CUmemGenericAllocationHandle for each step
};

}  // namespace tidemark::cuda
