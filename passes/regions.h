// A forward cut into regions: blocks in their order, the first with all that comes before it, and what follows the last
// one (head and loss) as a region of its own. What a region keeps for backward lives from its forward to its backward,
// and the regions' backwards run in the reverse order:
//
//   forward   │ region 0 │ region 1 │ region 2 │      live bytes at a point of region 1's backward =
//   backward  │ region 2 │ region 1 │ region 0 │        what region 0 keeps + what region 1 needs there
//                                                      (+ parameters, gradients: the same in every plan)
#pragma once

#include <string>
#include <vector>

#include "passes/recompute_plan.h"

namespace tidemark {

struct Regions {
  std::vector<std::string> blocks;  // by region; empty: head and loss, or everything where there are no blocks
  Column<OpId, int> of;             // of ops of forward and backward; -1: of others
  int size() const { return static_cast<int>(blocks.size()); }
};

// The same regions in each micro-step; where micro-steps differ, a single region.
Regions RegionsOf(const Graph& graph, const std::vector<MicroStep>& micro_steps);

}  // namespace tidemark
