// Everything that a report shows, as plain data: text, JSON and HTML print it and compute nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/base/units.h"
#include "graph/device.h"
#include "graph/run_config.h"
#include "passes/compile/summary.h"
#include "sim/allocator.h"
#include "sim/breakdown.h"

namespace tidemark {

// The highest values within one phase, and the memory that is reserved when it ends.
struct PhasePeak {
  Moment at;
  uint64_t event = 0;  // the first
  Bytes requested, allocated, active, reserved;
  Bytes reserved_before, reserved_after;
  bool operator==(const PhasePeak&) const = default;
};

struct CategoryBytes {
  std::string category;
  Bytes bytes;
  bool operator==(const CategoryBytes&) const = default;
};

struct TensorReport {
  std::string tensor;
  std::string category;
  std::string op;
  std::string dtype;  // empty: unknown
  std::vector<int64_t> shape;
  Bytes bytes;
  std::string why;  // it is alive
  bool operator==(const TensorReport&) const = default;
};

struct OutOfMemoryReport {
  std::string message;  // PyTorch's, to the byte
  std::string tensor;   // what the request was for
  std::string op;
  Bytes requested;
  Moment at;
  uint64_t event = 0;  // of the tape
  bool operator==(const OutOfMemoryReport&) const = default;
};

// What keeps a segment that is partly free.
struct PinningTensor {
  std::string tensor;
  Bytes bytes;
  bool operator==(const PinningTensor&) const = default;
};

struct PinnedSegmentReport {
  int64_t segment = 0;  // ordinal of creation
  Bytes size, free;
  int64_t blocks = 0;                    // in use
  std::vector<PinningTensor> pinned_by;  // the largest of them
  bool operator==(const PinnedSegmentReport&) const = default;
};

struct FragmentationReport {
  uint64_t event = 0;  // where it was measured: at the peak of reserved
  Bytes rounding, cached_free, largest_free, free_whole_segments, inactive_split;
  int64_t free_blocks = 0;
  int64_t pinned_segments = 0;              // segments kept by what is alive in them, though they hold free memory
  std::vector<PinnedSegmentReport> pinned;  // the first of them, most free memory first
  bool operator==(const FragmentationReport&) const = default;
};

// An offline plan that gives each allocation one place for its whole life: what could be had with foresight.
struct StaticPlanReport {
  Bytes lower_bound;   // live bytes, each rounded to 512: no plan takes less
  Bytes bytes;         // of the plan that was found
  std::string method;  // how
  bool operator==(const StaticPlanReport&) const = default;
};

// What the peaks are if new segments get rising or falling addresses, where that decides.
struct AddressRange {
  Bytes rising, falling;  // reserved
  bool rising_fits = true, falling_fits = true;
  bool operator==(const AddressRange&) const = default;
};

// Highest allocated and reserved bytes in each of equally many events.
struct Timeline {
  std::vector<Bytes> allocated, reserved;
  std::vector<char> phase;  // f, b, o, e, …: the phase in which each begins; ' ': none
  bool operator==(const Timeline&) const = default;
};

struct TimeReport {
  double step_us = 0, forward_us = 0, backward_us = 0, optimizer_us = 0;
  bool operator==(const TimeReport&) const = default;
};

struct CountsReport {
  int64_t ops = 0, tensors = 0, events = 0, parameters = 0;
  bool operator==(const CountsReport&) const = default;
};

// The peaks of the same run without its evaluation: how much of the packing is evaluation's doing.
struct WithoutEvaluation {
  Bytes allocated, reserved;
  bool operator==(const WithoutEvaluation&) const = default;
};

struct Report {
  std::string title;  // what was simulated
  bool fits = true;
  Bytes requested_peak, allocated_peak, active_peak, reserved_peak;
  Estimate process_peak;  // reserved and what the process takes beside it
  Moment at;              // of the highest allocated bytes
  uint64_t at_event = 0;  // of the tape
  std::optional<OutOfMemoryReport> out_of_memory;
  int64_t failures = 0;  // of a tape that goes on after them
  std::vector<CategoryBytes> breakdown;
  std::vector<TensorReport> largest;
  std::vector<Statistic> statistics;
  FragmentationReport fragmentation;
  Estimate context;  // CUDA context, modules, libraries
  Bytes cublas_workspace;
  Bytes live_lower_bound;  // live bytes, as requested
  StaticPlanReport static_plan;
  std::optional<AddressRange> address_range;
  std::optional<TimeReport> time;
  CountsReport counts;
  std::vector<PhasePeak> phases;
  Timeline timeline;
  std::string device_name;
  std::optional<Bytes> device_memory;  // none: a replay that nothing limits
  AllocatorOptions allocator;
  std::optional<RunConfig> run;  // of a simulation
  std::optional<WithoutEvaluation> without_evaluation;
  std::vector<std::string> assumptions;         // what the simulation took for granted, a sentence each
  std::vector<compile::GraphSummary> compiled;  // graphs of a compiled run, in order of compilation
  std::optional<std::string> addresses;         // of a snapshot: "2914 of 2914 addresses match"
};

}  // namespace tidemark
