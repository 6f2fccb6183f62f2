// Ways to confirm a simulation by running the same thing for real: validate --backend NAME.
#pragma once

#include <string>
#include <vector>

#include "graph/base/result.h"
#include "tools/commands/command.h"
#include "tools/config/run_file.h"

namespace tidemark {

struct ValidateOptions {
  std::string config;
  std::string backend;
  std::vector<std::string> overrides;
  bool json = false;
  // pytorch
  std::string python;     // the interpreter whose PyTorch is used; empty: python3, or the one of tools/phantom/setup
  std::string script;     // where the program is written to; empty: nowhere
  std::string recording;  // NAME.pickle of a run elsewhere, to compare with instead of running; empty: none
};

// A backend runs what `run` says and compares. Exit code: good where everything agrees, kDoesNotFit where not.
struct ValidateBackend {
  std::string_view name;
  std::string_view description;  // one line
  Result<Outcome> (*run)(const LoadedRun& run, const ValidateOptions& options);
};

// The same model in an installed PyTorch: on a real GPU, or on the phantom (tools/phantom) where there is none. Every
// event of its allocator is compared with the simulated tape, and the peaks.
Result<Outcome> ValidateWithPyTorch(const LoadedRun& run, const ValidateOptions& options);

// The same graph with kernels of the host, in memory laid out as predicted. Peaks, losses, and whether anything was
// read that wasn't alive.
Result<Outcome> ValidateOnHost(const LoadedRun& run, const ValidateOptions& options);
// The same on a CUDA device, whose own counters are compared, too. Error (kUnavailable): there is none.
Result<Outcome> ValidateOnCuda(const LoadedRun& run, const ValidateOptions& options);

}  // namespace tidemark
