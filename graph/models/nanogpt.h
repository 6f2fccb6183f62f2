// nanoGPT's GPT-2.
#pragma once

#include <memory>

#include "graph/model.h"

namespace tidemark {

Result<std::unique_ptr<Model>> MakeNanogpt(Tracer& tracer, const RunConfig& run);

}  // namespace tidemark
