// What can't be right about a run, though each of its values can: dimensions that don't divide each other, sequences
// longer than the model's positions, sizes whose products nobody can count. After this, every product of dimensions
// that a model forms fits 64 bits, and the run has a number of ops that can be traced.
#pragma once

#include "graph/base/result.h"
#include "graph/run_config.h"
#include "tools/config/document.h"

namespace tidemark {

// `root` is where the values came from, for the places in messages.
Status CheckRun(const RunConfig& run, const DocumentNode& root);

// An upper bound of the model's number of parameters, as if it had every matrix that some family has.
__extension__ typedef __int128 Int128;
Int128 ParameterBound(const ModelConfig& model);

}  // namespace tidemark
