// OPT.
#pragma once

#include "graph/model.h"

namespace tidemark::transformers {

Result<std::unique_ptr<Model>> MakeOpt(Tracer& tracer, const RunConfig& run);

}  // namespace tidemark::transformers
