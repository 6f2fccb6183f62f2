// Why each byte is alive at the peak, and what a failed request was for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/base/result.h"
#include "graph/run_config.h"
#include "sim/breakdown.h"
#include "tools/formats/report_text.h"
#include "tools/report.h"

namespace tidemark {

// Tensors of one kind that are alive for the same reason, in all blocks: numbers in names are written as *.
struct AliveGroup {
  std::string category, tensor, op, dtype, why;
  std::vector<int64_t> shape;
  int64_t count = 0;
  Bytes bytes;
};

// What is alive at a moment. Groups and rounding add up to `allocated`.
struct AliveThen {
  Moment at;
  Bytes allocated, reserved, rounding;
  std::vector<CategoryBytes> categories;
  std::vector<AliveGroup> groups;  // by category in a report's order, largest first
};

// The numbers of PyTorch's message, as texts with two decimals; empty where it doesn't say.
struct FailureMessage {
  std::string tried, total, free, in_use, allocated;
};
// Errors: a text without "Tried to allocate …" (or "Requested size: …").
Result<FailureMessage> ParseFailure(const std::string& message);

struct SuspectedRequest {
  TensorReport tensor;
  Moment at;
  Bytes requested;
  Bytes allocated, reserved;  // before it
};

struct Explanation {
  std::string title, device;
  Bytes device_memory;
  AliveThen alive;  // at the peak; with a message: when the request comes that it is about
  std::optional<FailureMessage> message;
  // With a message: the simulated run fails with just this request.
  bool reproduced = false;
  // Requests of that size, those first before which about as much was allocated as the message says.
  std::vector<SuspectedRequest> suspects;
};

// Errors: a run that can't be simulated; a message of a request that the run never makes.
Result<Explanation> ExplainRun(const RunConfig& run, const std::optional<FailureMessage>& message);

std::string ExplainText(const Explanation& explanation, TextStyle style);
// {"schema": "tidemark.explain/1", …}; bytes are integers.
std::string ExplainJson(const Explanation& explanation);

}  // namespace tidemark
