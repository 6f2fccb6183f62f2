// The string of PYTORCH_CUDA_ALLOC_CONF. Grammar, order of checks and wording of errors are PyTorch's
// (2.14.1 c10/core/AllocatorConfig.cpp, c10/cuda/CUDAAllocatorConfig.cpp), oddities included: a wrong separator is
// consumed unseen, `64MB` is 64, a minus wraps around.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "graph/base/result.h"
#include "sim/allocators/caching/profile.h"

namespace tidemark::caching {

enum class Backend : uint8_t { kNative, kCudaMallocAsync };

// Sizes in bytes, unsigned as in the original: values wrap around there too.
struct Settings {
  static constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();
  static constexpr size_t kIntervals = 16;  // [1 MiB, 2 MiB) … [32 GiB, ∞); the first one also covers everything below

  Backend backend = Backend::kNative;
  uint64_t max_split_size = kNoLimit;
  uint64_t max_non_split_rounding = uint64_t{20} << 20;
  uint64_t large_segment_size = uint64_t{20} << 20;
  std::array<uint64_t, kIntervals> roundup_divisions{};  // 0: off
  double garbage_collection_threshold = 0;               // 0: off
  double per_process_memory_fraction = 1;
  bool expandable_segments = false;
  bool throw_on_cudamalloc_oom = false;
  // Address space of an expandable segment, instead of 9/8 of the device: a part of its memory, or GiB.
  struct Reserve {
    double value = 0;
    bool in_gib = false;
    // Bytes on a device of `total` bytes.
    double On(double total) const { return value * (in_gib ? 1073741824.0 : total); }
    bool operator==(const Reserve&) const = default;
  };
  std::optional<Reserve> expandable_segments_reserve = {};
  std::string conf;  // as given
  bool operator==(const Settings&) const = default;
};

// Error: PyTorch's own text.
Result<Settings> ParseSettings(std::string_view conf, const Profile& profile);

}  // namespace tidemark::caching
