// JSON as an ObjectTree.
#pragma once

#include <string>

#include "graph/base/result.h"
#include "tools/formats/byte_source.h"
#include "tools/formats/pickle.h"

namespace tidemark {

// Reads one JSON value. `name` is what errors call it; `reducer` may be null.
Result<Unpickled> ReadJsonTree(ByteSource& source, const std::string& name, DictReducer* reducer);

}  // namespace tidemark
