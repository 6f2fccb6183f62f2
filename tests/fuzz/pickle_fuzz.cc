// Any bytes as a snapshot (pickle or JSON): an error or a snapshot, never a crash.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tools/formats/snapshot.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidemark;
  ByteSource source = ByteSource::FromBuffer(std::string_view(reinterpret_cast<const char*>(data), size));
  const Result<Snapshot> snapshot = ReadSnapshot(source, "fuzz");
  (void)snapshot;
  return 0;
}
