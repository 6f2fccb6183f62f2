// A nanoGPT configuration (config/train_gpt2.py) as the tree of a run file. The file is Python, but it is never run: it
// is read as assignments.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/base/result.h"
#include "tools/config/document.h"

namespace tidemark {

// What the file leaves out is as in train.py. Assignments of values that decide memory must be literals or arithmetic
// on numbers and names assigned before; all other assignments, comments, docstrings and imports are skipped. Anything
// else is an error with its line.
Result<DocumentNode> ReadNanogpt(std::string_view text, const std::string& name, std::vector<std::string>& notes);

}  // namespace tidemark
