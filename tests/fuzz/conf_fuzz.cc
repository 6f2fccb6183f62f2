// Any text as PYTORCH_CUDA_ALLOC_CONF, in every profile: PyTorch's error or settings.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "sim/allocators/caching/profile.h"
#include "sim/allocators/caching/settings.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidemark;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const caching::Profile& profile : caching::Profiles()) {
    const Result<caching::Settings> settings = caching::ParseSettings(text, profile);
    (void)settings;
  }
  return 0;
}
