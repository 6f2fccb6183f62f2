// Writes a random tape: make_tape SHAPE FILE [NAME=NUMBER …], SHAPE one of training, random, nested.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "sim/tape_io.h"
#include "tests/support/tapes.h"

int main(int argc, char** argv) {
  using namespace tidemark;
  if (argc < 3) return 2;
  TapeShape shape;
  for (int k = 3; k < argc; ++k) {
    const std::string argument = argv[k];
    const std::string name = argument.substr(0, argument.find('='));
    const double value = std::atof(argument.substr(name.size() + 1).c_str());
    if (name == "events") shape.events = static_cast<size_t>(value);
    if (name == "seed") shape.seed = static_cast<uint64_t>(value);
    if (name == "streams") shape.streams = static_cast<int32_t>(value);
    if (name == "live_mib") shape.live = Bytes(static_cast<int64_t>(value * (1 << 20)));
    if (name == "largest_mib") shape.largest = Bytes(static_cast<int64_t>(value * (1 << 20)));
    if (name == "record") shape.record = value;
    if (name == "empty") shape.empty = value;
    if (name == "synchronize") shape.synchronize = value;
    if (name == "pools") shape.pools = value;
    if (name == "release_pools") shape.release_pools = value != 0;
    if (name == "captures") shape.captures = value != 0;
  }
  const std::string kind = argv[1];
  const Tape tape = kind == "training" ? TrainingTape(shape) : kind == "random" ? RandomTape(shape) : NestedTape(shape);
  const Status status = WriteTape(tape, argv[2], Compression::kNone);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.error().message.c_str());
  return status.ok() ? 0 : 2;
}
