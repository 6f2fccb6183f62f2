// Phi-3: Llama with fused projections.
#pragma once

#include "graph/model.h"

namespace tidemark::transformers {

Result<std::unique_ptr<Model>> MakePhi3(Tracer& tracer, const RunConfig& run);

}  // namespace tidemark::transformers
