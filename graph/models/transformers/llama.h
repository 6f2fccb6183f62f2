// Llama, and the families whose code is a variant of it: Mistral, Qwen2, Qwen3, Gemma.
#pragma once

#include <memory>

#include "graph/model.h"

namespace tidemark::transformers {

Result<std::unique_ptr<Model>> MakeLlama(Tracer& tracer, const RunConfig& run);
Result<std::unique_ptr<Model>> MakeMistral(Tracer& tracer, const RunConfig& run);
Result<std::unique_ptr<Model>> MakeQwen2(Tracer& tracer, const RunConfig& run);
Result<std::unique_ptr<Model>> MakeQwen3(Tracer& tracer, const RunConfig& run);
Result<std::unique_ptr<Model>> MakeGemma(Tracer& tracer, const RunConfig& run);

}  // namespace tidemark::transformers
