// GPT-NeoX (Pythia and others).
#pragma once

#include <memory>

#include "graph/model.h"

namespace tidemark::transformers {

Result<std::unique_ptr<Model>> MakeGptNeox(Tracer& tracer, const RunConfig& run);

}  // namespace tidemark::transformers
