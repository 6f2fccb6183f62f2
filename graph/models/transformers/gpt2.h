// GPT-2 as transformers writes it.
#pragma once

#include "graph/model.h"

namespace tidemark::transformers {

Result<std::unique_ptr<Model>> MakeGpt2(Tracer& tracer, const RunConfig& run);

}  // namespace tidemark::transformers
