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
  bool limited = true;               // replay.allocator.device_memory says something of a device
  bool both_address_orders = false;  // nobody said which one, so where it matters both are tried
};

// The best static plan that is found in little time. `initial` may be null.
StaticPlanReport StaticPlanOf(const Tape& tape, const InitialState* initial);

// A replay through the strong planner may have found a lower plan than `plan`.
void KeepLowerPlan(const AllocatorOptions& allocator, bool fits, Bytes reserved, StaticPlanReport& plan);

// `replay` is what RunReplay says of the tape and the options; the other half of the range is replayed here.
Result<AddressRange> OtherAddressOrder(const Tape& tape, ReplayOptions options, const Replay& replay);

// Errors: what RunReplay says.
Result<Report> BuildReport(const ReportInput& input);

}  // namespace tidemark
