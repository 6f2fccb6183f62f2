// From a tape to a report: replays it, looks at the peaks, and fills in everything but what only a graph knows.
#pragma once

#include <vector>

#include "graph/base/result.h"
#include "sim/replay.h"
#include "sim/tape.h"
#include "tools/describe.h"
#include "tools/report.h"

namespace tidemark {

struct ReportInput {
  const Tape& tape;
  ReplayOptions replay;
  Estimate context;  // what the process takes beside its segments
  const Describer& describer;
  std::string title;
  std::string device_name;
  bool limited = true;  // replay.allocator.device_memory says something of a device
};

// Errors: what RunReplay says.
Result<Report> BuildReport(const ReportInput& input);

}  // namespace tidemark
