// Instances of static memory allocation as github.com/google/minimalloc writes them: a header that names the columns,
// then one buffer a line. Columns id, lower, upper, size (in any order) are needed; alive during [lower, upper); others
// are ignored.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/base/result.h"
#include "sim/planners/plan.h"
#include "sim/tape.h"

namespace tidemark {

struct MinimallocInstance {
  std::vector<std::string> ids;  // by buffer
  std::vector<PlanBuffer> buffers;
  int64_t capacity = 0;  // the number in a file name NAME.CAPACITY.csv; 0: none
  bool operator==(const MinimallocInstance&) const = default;
};

// Errors: path:line: message.
Result<MinimallocInstance> ReadMinimalloc(const std::string& path);
Result<MinimallocInstance> ParseMinimalloc(std::string name, std::string_view content);

// Whether a text begins as such a file does.
bool LooksLikeMinimalloc(std::string_view content);

// The same as a tape: at each step the frees, then the allocations. Buffer k is allocation k of the result's order of
// beginnings; its id there is its place in the instance.
Tape TapeOfMinimalloc(const MinimallocInstance& instance);

}  // namespace tidemark
