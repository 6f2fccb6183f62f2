// Executes a graph in the memory that the simulator predicted for it.
//
//   Graph ── Lower ──▶ tape, origins ── Place ──▶ placements          (sim)
//     │                      │                        │
//     └──────── program ─────┴────────────────────────┘
//                            ▼
//                         Execute ── Map, Poison, Run ──▶ Backend     (host: Eigen · CUDA: cuBLAS and own kernels)
//                            ▼
//              losses, gradients, measured peaks, findings
//
// The executor walks the program of the graph and the events of its tape together. A segment is mapped (cudaMalloc)
// when the allocator would have asked the driver for it. A tensor's bytes are where its placement says, for as long as
// its allocation lives, and nowhere else: there is no other memory for values. What is free holds the poison, in every
// byte 0xff: a NaN in each floating format, an index far out of range in each integer, and no truth value. So a
// lifetime that ends too early, or two tensors that overlap, change what later ops read.
//
//   op:       its allocations, in order; the kernel, right after the last of them; its remaining frees
//   release:  its free, if the holder was the last one; the block is poisoned
//   phase:    the probes are read: losses, gradients
//
// Temporaries of a memory rule exist for as long as the tape says. A kernel gets those that live when it runs, as
// scratch; it may use them or not (the host's twin needs few), but no device kernel takes memory of its own.
//
// Storages that aren't on the device (graph.h: Location) have memory of their own beside it, which counts nowhere:
// values of a graph with fused kernels or offloaded tensors are executed, not the fusion or the transfer.
//
// What isn't as it should be is a finding: an operand that isn't alive (its allocation was never made or is freed), a
// NaN in a result, an index out of range. Findings are data. An Error is for what can't be executed at all: an op
// without a kernel, a device that isn't there.
//
// The peak that is reported is the executor's own count of what was mapped and handed out, and what the backend
// measured (on a device, its counters); comparing it with the prediction is the caller's business.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "graph/base/result.h"
#include "graph/graph.h"
#include "kernels/backend.h"
#include "kernels/placed_tape.h"
#include "sim/lower.h"

namespace tidemark {

enum class FindingKind : uint8_t {
  kNotAlive,    // an operand's allocation isn't made yet, or is freed
  kPoisonRead,  // a NaN in a result of an op that had the poison among its operands
  kNotANumber,  // a NaN in a result, from operands without: an overflow, say
  kBadIndex,    // an index that is out of range, a truth value that is none: the kernel refused
};

struct Finding {
  FindingKind kind = FindingKind::kNotAlive;
  OpId op;              // invalid: while a probe was read
  std::string message;  // "MmBackward0 aten::mm @ h.0.mlp.c_fc: result 0 has 64 NaNs; operand 1 holds the poison"
};

// A probe's value.
struct Observed {
  ProbeKind kind = ProbeKind::kLoss;
  PhaseId phase;
  std::string name;  // the parameter's
  Dims sizes;
  std::vector<double> values;  // row-major
};

// The driver said no.
struct ExecutedOutOfMemory {
  OpId op;
  uint32_t event = 0;  // of the tape
  Bytes segment_bytes;
  bool predicted = false;
};

struct Execution {
  std::vector<Observed> observed;
  std::vector<Finding> findings;  // the first kMaxFindings
  // Highest sums over the run: of what tensors and temporaries asked for, of their blocks, of mapped segments.
  Bytes requested_peak, allocated_peak, reserved_peak;
  OpId peak_op;  // during which allocated_peak was reached
  MeasuredMemory measured;
  std::optional<ExecutedOutOfMemory> out_of_memory;
  int64_t kernels = 0;
  // Of every parameter and optimizer state that is alive at the end, in order of storage: a number made from its bytes.
  std::vector<uint64_t> final_state;

  static constexpr size_t kMaxFindings = 32;
};

struct ExecuteOptions {
  bool check_alive = true;    // operands
  bool check_results = true;  // for NaNs
  bool keep_values = true;    // of probes
  bool stop_at_finding = false;
  // Told before each phase; for a progress bar.
  std::function<void(PhaseId)> on_phase;
};

// Runs the program of `graph`, whose tape is `lowered` and whose placements are `placed`. All that was mapped is
// unmapped again, whatever happens. Errors: see above.
Result<Execution> Execute(const Graph& graph, const Lowered& lowered, const PlacedTape& placed, Backend& backend,
                          const ExecuteOptions& options = {});

// Names of ops of the graph that the backend has no kernel for, each once, in order of appearance.
std::vector<std::string> MissingKernels(const Graph& graph, const Backend& backend);

}  // namespace tidemark
