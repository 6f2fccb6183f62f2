// T5 for conditional generation, as transformers writes it.
#pragma once

#include "graph/model.h"

namespace tidemark::transformers {

Result<std::unique_ptr<Model>> MakeT5(Tracer& tracer, const RunConfig& run);

}  // namespace tidemark::transformers
