// A stand-in for `tidemark replay` with the arguments that check/placements.py gives.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "sim/placements.h"
#include "sim/replay.h"
#include "sim/tape_io.h"

namespace tidemark {
namespace {

int Fail(const Error& error) {
  std::fprintf(stderr, "%s\n", error.message.c_str());
  return 2;
}

std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

int Run(int argc, char** argv) {
  ReplayOptions options;
  std::string placements;
  bool stream = false;
  for (int k = 3; k < argc; ++k) {
    const std::string name = argv[k];
    if (name == "--json") continue;
    if (name == "--stream") {
      stream = true;
      continue;
    }
    if (++k == argc) return 2;
    const std::string value = argv[k];
    if (name == "--framework") options.allocator.framework = value;
    if (name == "--backend") options.allocator.backend = value;
    if (name == "--conf") options.allocator.conf = value;
    if (name == "--memory") options.allocator.device_memory = kMiB * std::atoll(value.c_str());
    if (name == "--fraction") options.allocator.fraction = std::atof(value.c_str());
    if (name == "--events") options.allocator.events = value == "lazy" ? EventTiming::kLazy : EventTiming::kAtOnce;
    if (name == "--addresses") {
      options.allocator.addresses = value == "falling" ? AddressOrder::kFalling : AddressOrder::kRising;
    }
    if (name == "--placements") placements = value;
  }
  std::unique_ptr<PlacementsWriter> writer;
  if (!placements.empty()) {
    auto created = PlacementsWriter::Create(placements);
    if (!created.ok()) return Fail(created.error());
    writer = *std::move(created);
    options.observers.push_back(writer.get());
  }
  Result<Replay> replay = Error{};
  if (stream) {
    auto reader = TapeReader::Open(argv[2]);
    if (!reader.ok()) return Fail(reader.error());
    replay = RunReplay(*reader, options);
  } else {
    auto tape = ReadTape(argv[2]);
    if (!tape.ok()) return Fail(tape.error());
    replay = RunReplay(*tape, options);
  }
  if (!replay.ok()) return Fail(replay.error());
  if (writer != nullptr) {
    if (Status status = writer->Finish(); !status.ok()) return Fail(status.error());
  }
  std::printf("{\"statistics\": {");
  for (size_t k = 0; k < replay->statistics.size(); ++k) {
    std::printf("%s\"%s\": %lld", k == 0 ? "" : ", ", replay->statistics[k].key.c_str(),
                static_cast<long long>(replay->statistics[k].value));
  }
  std::printf("},\n\"out_of_memory\": [");
  for (size_t k = 0; k < replay->out_of_memory.size() && k < 16; ++k) {
    std::printf("%s%s", k == 0 ? "" : ", ", Quoted(replay->out_of_memory[k].message).c_str());
  }
  std::printf("]}\n");
  return replay->failures > 0 ? 1 : 0;
}

}  // namespace
}  // namespace tidemark

int main(int argc, char** argv) { return argc < 3 ? 2 : tidemark::Run(argc, argv); }
