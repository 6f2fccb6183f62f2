// training.sequence: how long the batches are.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/base/result.h"
#include "graph/run_config.h"
#include "tools/config/document.h"

namespace tidemark {

// A number, a list of numbers, or a distribution from which one length for each gradient_accumulation batches of the
// run is drawn, always the same for the same seed:
//   {distribution: uniform, min: 128, max: 512}                                    both ends included
//   {distribution: normal, mean: 300, deviation: 80, min: 1, max: 512}            rounded, and clamped to min and max
//   {distribution: lognormal, mean: 5.5, deviation: 0.5, min: 1, max: 512}        of the logarithm
// and optionally seed (0) and count (as many as the run takes, at most 100,000).
Result<std::vector<int64_t>> ReadSequence(const DocumentNode& node, const TrainingConfig& training);

}  // namespace tidemark
