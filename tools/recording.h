// A file that can be replayed: a tape, a PyTorch memory snapshot, or a packing problem of MiniMalloc.
#pragma once

#include <optional>
#include <string>

#include "graph/base/result.h"
#include "graph/base/units.h"
#include "sim/tape.h"
#include "tools/formats/snapshot_replay.h"

namespace tidemark {

struct Recording {
  std::string path;
  std::optional<SnapshotReplay> snapshot;  // with what only a snapshot has
  Tape own_tape;                           // without a snapshot
  std::string conf;                        // of the recorded process
  Bytes capacity;                          // what the file says that the memory holds; 0: nothing

  const Tape& tape() const { return snapshot ? snapshot->tape : own_tape; }
  const InitialState* initial() const { return snapshot ? &snapshot->initial : nullptr; }
};

// What it is shows in its first bytes; "-" is standard input. Errors: those of the reader of what it is.
Result<Recording> ReadRecording(const std::string& path);

}  // namespace tidemark
