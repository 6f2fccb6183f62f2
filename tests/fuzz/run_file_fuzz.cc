// Any text as a configuration (run file, config.json, nanoGPT's .py): an error or a run that is within its limits.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "graph/base/check.h"
#include "tools/config/run_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidemark;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Result<LoadedRun> run = ParseRun(text, "fuzz", {});
  if (run.ok()) CHECK(run->config.model.layers > 0 && run->config.training.micro_batch > 0);
  return 0;
}
