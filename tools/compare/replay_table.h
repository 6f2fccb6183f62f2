// Recordings under several settings, side by side: what each takes, and which is the cheapest that fits.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/base/result.h"
#include "sim/allocator.h"
#include "tools/formats/report_text.h"
#include "tools/recording.h"
#include "tools/report.h"

namespace tidemark {

// A recording under one setting.
struct ReplayRow {
  std::string conf;
  bool fits = true;
  int64_t failures = 0;
  Bytes requested, allocated, reserved;  // peaks, with the memory that there is
  Bytes needed;               // peak of reserved where memory is no limit: the same, if it fits without retries
  int64_t device_allocs = 0;  // calls of cudaMalloc, or of its kind
  int64_t device_frees = 0;
  int64_t retries = 0;       // after cached memory was given back
  std::string message;       // of the first failure
  std::string first_failed;  // what it was for
  std::optional<AddressRange> addresses;
};

struct ReplayGroup {
  std::string file;
  std::string backend, framework;
  std::optional<Bytes> memory;  // none: nothing limits it
  Bytes live;                   // requested bytes that are alive at once
  StaticPlanReport plan;
  std::vector<ReplayRow> rows;
  // The row that fits at the least cost: fewest retries, then fewest calls of the driver, then least reserved. Where
  // nothing limits memory, the one that needs least. None fits: -1.
  int cheapest = -1;
};

struct ReplayTableOptions {
  AllocatorOptions allocator;       // but for conf and initial
  bool limited = false;             // its device_memory was asked for
  bool both_address_orders = true;  // where it matters
  std::vector<std::string> confs;   // empty: the recording's own
};

// Errors: what RunReplay says.
Result<ReplayGroup> ReplaySettings(const Recording& recording, const ReplayTableOptions& options);

std::string ReplayTableText(std::span<const ReplayGroup> groups, TextStyle style);
// {"schema": "tidemark.replays/1", "replays": [{"file", …, "rows": […], "cheapest": …}]}; bytes are integers.
std::string ReplayTableJson(std::span<const ReplayGroup> groups);

}  // namespace tidemark
