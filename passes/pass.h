// Passes rewrite a step to see what would change: graph in, graph out, nothing else.
//
//   run file ── program passes ──▶ traced graph ── rewriting passes, in the list's order ──▶ graph ──▶ tape
//
// Two kinds. *Program passes* (accumulate; recompute with policy full) change what is traced, because the framework
// itself would run another program: graph/run_program.h. *Rewriting passes* add, move and remove ops and holders of the
// traced graph; they never touch a tape and know no allocator. Behind each of them the pipeline (passes/pipeline.h)
// verifies the graph. Each pass is a header, a source and a row of the table below; its options are a struct of
// graph/run_config.h, and the struct's place in PassConfig is the row.
//
// What a pass may rely on: the order of the program is the order of execution; a storage lives until its last holder
// lets go; a micro-step's forward and backward are the steps between phases of these names (graph/micro_steps.h).
// What it must keep: every value that a probe or the optimizer sees, bitwise where it only moves or repeats work,
// within rounding where it fuses or splits a sum.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/base/result.h"
#include "graph/device.h"
#include "graph/graph.h"
#include "graph/run_config.h"

namespace tidemark {

// What a pass may ask while it works.
struct PassContext {
  DeviceSpec device;
  // What the allocator would reserve for a graph, fragmentation included. Passes don't know the simulator: whoever
  // composes both supplies it. Where it's missing, the highest sum of live bytes stands in.
  std::function<Result<Bytes>(const Graph&)> physical_peak;
};

struct PassResult {
  Graph graph;
  std::vector<std::string> notes;  // what a user should hear: one line each
};

struct PassInfo {
  std::string_view name;         // in run files
  std::string_view options;      // with their defaults
  std::string_view description;  // what it changes, in one line
  std::string_view place;        // where it may stand
  std::string_view cost;         // what it costs a run
  // Null: a program pass only. Errors: a graph that the pass can't rewrite, and why.
  Result<PassResult> (*rewrite)(Graph graph, const PassConfig& config, const PassContext& context);
};

// Every pass there is, in the order of PassConfig.
std::span<const PassInfo> Passes();
const PassInfo& InfoOf(const PassConfig& pass);

}  // namespace tidemark
