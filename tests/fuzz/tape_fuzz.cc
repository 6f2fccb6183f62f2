// Any bytes as a tape: an error or a tape; a tape is written and read again unchanged, and replays without a crash in a
// small device.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "graph/base/check.h"
#include "sim/replay.h"
#include "sim/tape_io.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidemark;
  const Result<Tape> tape = ParseTape("fuzz", std::string_view(reinterpret_cast<const char*>(data), size));
  if (!tape.ok()) return 0;
  // The order of its texts, and texts that nothing refers to, aren't kept.
  const std::string text = TapeText(*tape);
  const Result<Tape> again = ParseTape("again", text);
  CHECK(again.ok() && again->events == tape->events && TapeText(*again) == text);
  ReplayOptions options;
  options.allocator.device_memory = kMiB * 64;
  const Result<Replay> replay = RunReplay(*tape, options);
  CHECK(!replay.ok() || replay->requested.bytes <= replay->reserved.bytes);
  return 0;
}
