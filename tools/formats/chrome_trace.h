// A run as a Chrome trace, which ui.perfetto.dev and chrome://tracing open.
//
//   process 1  "GPU 0 (predicted)"    thread 1: steps and phases; thread 2: ops; counters requested, allocated, active,
//                                     reserved, in bytes; instants at the peak and at a failed request
//   process 2  "tensors"              a slice for each tensor's life, in a group for each category
//
// Where no time is modelled, an event of the tape takes a microsecond, and the process says so in its name.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sim/replay.h"
#include "sim/tape.h"
#include "tools/describe.h"
#include "tools/report.h"

namespace tidemark {

// Keeps what the trace needs of a replay.
class TraceObserver final : public ReplayObserver {
 public:
  void OnEvent(const Observation& observation) override;

  struct Point {
    uint32_t event = 0;
    Bytes requested, allocated, active, reserved;
  };
  struct Place {
    int64_t segment = -1;
    Bytes offset, block_bytes;
  };
  const std::vector<Point>& points() const { return points_; }  // where something changed
  const std::vector<Place>& places() const { return places_; }  // by AllocationId

 private:
  std::vector<Point> points_;
  std::vector<Place> places_;
};

struct ChromeTraceInput {
  const Tape& tape;
  const TraceObserver& observed;
  const Report& report;
  const Describer& describer;
  std::span<const int64_t> begin_ns;  // when each event happens, rising; empty: not modelled
};

// At most this many lives are drawn, those with the most bytes x events; the trace says how many were left out.
constexpr size_t kMaxLivesDrawn = 20'000;

std::string ChromeTrace(const ChromeTraceInput& input);

}  // namespace tidemark
