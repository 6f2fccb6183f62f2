#include "sim/allocator.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "sim/allocators/arenas.h"
#include "sim/allocators/bfc.h"
#include "sim/allocators/caching/engine.h"
#include "sim/allocators/caching/profile.h"
#include "sim/allocators/caching/settings.h"
#include "sim/allocators/cuda_async.h"
#include "sim/allocators/static_plan.h"

namespace tidemark {

const std::string& Allocator::unsupported() const {
  static const std::string kNothing;
  return kNothing;
}

namespace {

// The conf string may name the other backend of PyTorch's.
Result<std::unique_ptr<Allocator>> MakeNative(const AllocatorOptions& options) {
  ASSIGN_OR_RETURN(const caching::Profile* profile, caching::FindProfile(options.framework));
  const Result<caching::Settings> settings = caching::ParseSettings(options.conf, *profile);
  const bool async = settings.ok() && settings->backend == caching::Backend::kCudaMallocAsync;
  return async ? MakeCudaAsync(options) : caching::CachingAllocator::Create(options);
}

constexpr std::array kAllocators = {
    AllocatorInfo{"native", "PyTorch's CUDA caching allocator, with every option of PYTORCH_CUDA_ALLOC_CONF",
                  &MakeNative},
    AllocatorInfo{"cudaMallocAsync",
                  "PyTorch's other backend: the CUDA driver's stream-ordered pool (its rules are assumed)",
                  &MakeCudaAsync},
    AllocatorInfo{"bfc", "TensorFlow's and JAX's best fit with coalescing, growing on demand", &MakeBfc},
    AllocatorInfo{"bump", "an arena that uses nothing again until all of it is free", &MakeBumpArena},
    AllocatorInfo{"static", "an offline plan of the whole tape: search, as low as it gets", &MakeStaticPlan},
    AllocatorInfo{"static-by-size", "an offline plan: first fit, largest first", &MakeStaticBySize},
    AllocatorInfo{"static-by-lifetime", "an offline plan: first fit, longest life first", &MakeStaticByLifetime},
    AllocatorInfo{"lower-bound", "the requested bytes that are alive: what no allocator can beat", &MakeLowerBound},
};

// What every policy relies on. The native one words its own.
Status CheckOptions(const AllocatorOptions& options) {
  constexpr int64_t kMostMemory = int64_t{1} << 50;
  if (options.device_memory <= Bytes(0) || options.device_memory > Bytes(kMostMemory)) {
    return InvalidInput(
        fmt::format("a device with {} bytes of memory: wanted 1 to {}", options.device_memory.count(), kMostMemory));
  }
  if (options.process_overhead < Bytes(0) || options.process_overhead > options.device_memory) {
    return InvalidInput(fmt::format("an overhead of {} bytes on a device with {}", options.process_overhead.count(),
                                    options.device_memory.count()));
  }
  if (options.fraction && !(*options.fraction >= 0 && *options.fraction <= 1)) {
    return InvalidInput(fmt::format("Invalid fraction value: {}. Allowed range: 0~1", *options.fraction));
  }
  return {};
}

}  // namespace

std::span<const AllocatorInfo> Allocators() { return kAllocators; }

std::span<const FrameworkInfo> AllocatorFrameworks() {
  static const std::vector<FrameworkInfo> kFrameworks = [] {
    std::vector<FrameworkInfo> frameworks;
    for (const caching::Profile& profile : caching::Profiles()) {
      frameworks.push_back({profile.name, profile.description, profile.ties == caching::TieOrder::kAddress});
    }
    return frameworks;
  }();
  return kFrameworks;
}

bool AddressesMatter(const AllocatorOptions& options) {
  const auto found = std::ranges::find(AllocatorFrameworks(), options.framework, &FrameworkInfo::name);
  return options.backend == "native" && found != AllocatorFrameworks().end() && found->ties_by_address;
}

Result<std::unique_ptr<Allocator>> MakeAllocator(const AllocatorOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  std::string known;
  for (const AllocatorInfo& info : kAllocators) {
    if (info.name == options.backend) return info.make(options);
    known += fmt::format("{}{}", known.empty() ? "" : " ", info.name);
  }
  return InvalidInput(fmt::format("unknown allocator \"{}\"; known: {}", options.backend, known));
}

}  // namespace tidemark
