// Recordings of real runs (tests/truth/steps/NAME: run.yaml, tape.gz, stats.json), and the tapes that are traced for
// them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "graph/base/result.h"
#include "graph/run_config.h"
#include "sim/tape.h"

namespace tidemark {

struct RecordedPeak {
  Bytes requested;
  Bytes allocated;
  Bytes reserved;
};

struct Recording {
  RunConfig run;
  Tape tape;
  int64_t parameters = 0;
  RecordedPeak peak;
};

// The folders below `root`, by name.
std::vector<std::filesystem::path> RecordingFolders(const std::filesystem::path& root);
Result<Recording> ReadRecording(const std::filesystem::path& folder);

// What tells a tape from the recorded one: the first event that differs, with its phase and op; empty where all events
// agree. The order within a run of consecutive frees doesn't count.
std::string FirstDifference(const Tape& recorded, const Tape& traced);

// The events and marks of a tape where what is allocated, freed at once and allocated again in the same sizes, over and
// over, is there once: launches that are only timed.
Tape WithoutRepeats(const Tape& tape);

}  // namespace tidemark
