#include "sim/allocator.h"

#include <fmt/format.h>

#include <array>

#include "sim/allocators/caching/engine.h"
#include "sim/allocators/caching/profile.h"

namespace tidemark {

const std::string& Allocator::unsupported() const {
  static const std::string kNothing;
  return kNothing;
}

namespace {

constexpr std::array kAllocators = {
    AllocatorInfo{"native", "PyTorch's CUDA caching allocator, every option of PYTORCH_CUDA_ALLOC_CONF",
                  &caching::CachingAllocator::Create},
};

}  // namespace

std::span<const AllocatorInfo> Allocators() { return kAllocators; }

std::span<const std::string_view> AllocatorFrameworks() {
  static const std::vector<std::string_view> kNames = [] {
    std::vector<std::string_view> names;
    for (const caching::Profile& profile : caching::Profiles()) names.push_back(profile.name);
    return names;
  }();
  return kNames;
}

Result<std::unique_ptr<Allocator>> MakeAllocator(const AllocatorOptions& options) {
  std::string known;
  for (const AllocatorInfo& info : kAllocators) {
    if (info.name == options.backend) return info.make(options);
    known += fmt::format("{}{}", known.empty() ? "" : " ", info.name);
  }
  return InvalidInput(fmt::format("unknown allocator \"{}\"; known: {}", options.backend, known));
}

}  // namespace tidemark
