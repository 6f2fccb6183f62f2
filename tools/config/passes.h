// The passes of a run file.
#pragma once

#include <vector>

#include "graph/base/result.h"
#include "graph/run_config.h"
#include "tools/config/document.h"

namespace tidemark {

// `passes: [{recompute: {policy: full}}, {fuse: {}}]`, or a map of them, each once: `passes: {fuse: {}}`.
Result<std::vector<PassConfig>> ReadPasses(const DocumentNode& node);

}  // namespace tidemark
