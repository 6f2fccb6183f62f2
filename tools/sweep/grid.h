// Many configurations: a base and, for some keys, the values to combine.
//
//   base: ../runs/nanogpt-tiny.yaml          # beside the grid's file; or a run file's content
//   grid:
//     training.micro_batch: [4, 8]           # every combination, the last key changes fastest
//     passes: [[], [{fuse: {}}]]
#pragma once

#include <string>
#include <vector>

#include "graph/base/result.h"
#include "graph/run_config.h"

namespace tidemark {

struct GridPoint {
  std::vector<std::string> values;  // by key, as YAML in one line
  RunConfig run;
  std::string fingerprint;  // 16 hexadecimal digits that change with the base's text and the values
};

struct Grid {
  std::vector<std::string> keys;
  std::vector<GridPoint> points;
};

constexpr size_t kMostPoints = 1'000'000;

// Reads the grid `path` ("-": standard input); `overrides` belong to every point. Errors: what isn't as above, values
// that mean nothing, more than kMostPoints combinations.
Result<Grid> LoadGrid(const std::string& path, const std::vector<std::string>& overrides);

}  // namespace tidemark
