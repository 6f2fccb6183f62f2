// BERT with its masked language model's head, as transformers writes it.
#pragma once

#include "graph/model.h"

namespace tidemark::transformers {

Result<std::unique_ptr<Model>> MakeBert(Tracer& tracer, const RunConfig& run);

}  // namespace tidemark::transformers
