// The cheapest change with which a run fits a budget: combinations of changes that leave what is trained alone (micro-
// batches, recomputation, chunked loss, expandable segments, …), each simulated.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "graph/base/result.h"
#include "graph/run_config.h"
#include "tools/formats/report_text.h"

namespace tidemark {

enum class Minimize : uint8_t { kTime, kMemory, kChanges };

struct FitOptions {
  Bytes budget;  // for the whole process: what its allocator reserves, and context, modules and libraries
  Minimize minimize = Minimize::kTime;
  // After each combination: how many are done, of how many. Called by any thread, one at a time.
  std::function<void(size_t, size_t)> on_progress;
};

// One combination of changes.
struct FitRow {
  std::string changes;  // "accumulate 4, chunk_loss"; "as given"
  int count = 0;        // of changes
  RunConfig run;
  Bytes allocated, reserved, process;
  double step_us = 0;
  bool fits = false;  // the budget
};

struct Fit {
  std::string title, device;
  Bytes budget;
  FitRow base;
  // By rising time, each smaller than all before it.
  std::vector<FitRow> front;
  std::vector<FitRow> all;         // in the order in which they were tried
  std::optional<FitRow> choice;    // the cheapest that fits, among all of them
  std::vector<std::string> lines;  // of a run file, that make the choice of what was given
};

// Errors: a run that can't be simulated; a device whose rates aren't known, where time is to be minimized.
Result<Fit> FitRun(const RunConfig& run, const FitOptions& options);

std::string FitText(const Fit& fit, TextStyle style);
std::string FitJson(const Fit& fit);

}  // namespace tidemark
