// A Hugging Face config.json as the tree of a run file.
#pragma once

#include <string>
#include <vector>

#include "graph/base/result.h"
#include "tools/config/document.h"

namespace tidemark {

// Keys that the file leaves out have the default of the model type's configuration class. The file says nothing of the
// training: micro-batch 1 and at most 2048 tokens are assumed, and `notes` says so. Errors: a model type that is
// neither known nor has the keys of a Llama.
Result<DocumentNode> ReadHuggingFace(const DocumentNode& config, std::vector<std::string>& notes);

}  // namespace tidemark
