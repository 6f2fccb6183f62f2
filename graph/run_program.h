// Passes that change the program before it is traced: they stand first in a run's list, and are carried out on its
// configuration.
//
//   {accumulate: {parts: 4}}, micro_batch 16, gradient_accumulation 2   =>   micro_batch 4, gradient_accumulation 8
//   {recompute: {policy: full}}                                         =>   a checkpoint around every block
#pragma once

#include "graph/base/result.h"
#include "graph/run_config.h"

namespace tidemark {

// Whether the pass changes the program; else it rewrites the traced graph.
bool ChangesProgram(const PassConfig& pass);

// The run as it is traced: its program passes carried out and gone from the list. Idempotent. Errors: a program pass
// behind one that rewrites graphs, a checkpoint in a checkpoint, a batch that can't be divided.
Result<RunConfig> ResolveProgram(RunConfig run);

}  // namespace tidemark
