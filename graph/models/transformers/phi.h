// Phi (Phi-1, 1.5 and 2).
#pragma once

#include <memory>

#include "graph/model.h"

namespace tidemark::transformers {

Result<std::unique_ptr<Model>> MakePhi(Tracer& tracer, const RunConfig& run);

}  // namespace tidemark::transformers
