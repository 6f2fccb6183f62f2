// Options that simulate and replay share: where a report and its files go, and how.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/base/result.h"
#include "sim/replay.h"
#include "sim/tape.h"
#include "tools/commands/command.h"
#include "tools/describe.h"
#include "tools/report.h"

namespace tidemark {

struct OutputOptions {
  bool json = false;
  bool verbose = false;
  bool no_color = false;
  std::string trace, tape, placements, snapshot, html;  // files; empty: not wanted
};

// Whether standard output is a terminal that shows colours, and nobody has refused them.
bool WantsColour(bool refused_by_option);

void AddOutputOptions(Command& command, OutputOptions& options);

// What is written beside the report: watches the replay as far as the wanted files need it, and writes them at the end.
class OutputFiles {
 public:
  // Error: a place that can't be written. `options` and `tape` must outlive it.
  static Result<std::unique_ptr<OutputFiles>> Create(const OutputOptions& options, const Tape& tape);
  ~OutputFiles();

  // To be told of each event.
  std::vector<ReplayObserver*> observers();
  bool wants_times() const { return !options_.trace.empty(); }
  // Writes everything. REQUIRES: the replay is over. `begin_ns`: when each event happens; empty: not modelled. Error:
  // what the disk said.
  Status Finish(const Report& report, const AllocatorOptions& allocator, const Describer& describer,
                std::span<const int64_t> begin_ns);

 private:
  struct Observers;
  OutputFiles(const OutputOptions& options, const Tape& tape);

  const OutputOptions& options_;
  const Tape& tape_;
  std::unique_ptr<Observers> observers_;
};

// The report as asked for, on standard output, with the exit code that its verdict means.
Outcome ReportOutcome(const Report& report, const OutputOptions& options);

}  // namespace tidemark
