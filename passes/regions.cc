#include "passes/regions.h"

#include <algorithm>

namespace tidemark {
namespace {

std::vector<std::string> BlocksByScope(const Graph& graph) {
  std::vector<std::string> blocks;
  for (const std::string& scope : graph.scopes) blocks.push_back(BlockOf(scope));
  return blocks;
}

const std::string& BlockOfOp(const std::vector<std::string>& by_scope, const Op& op) {
  static const std::string kNone;
  return op.scope.valid() ? by_scope[op.scope.index()] : kNone;
}

template <typename Function>
void ForEachOp(const Graph& graph, const Interval& interval, const Function& use) {
  for (int64_t i = interval.begin; i < interval.end; ++i) {
    const Step step = graph.program[static_cast<size_t>(i)];
    if (step.kind() == Step::Kind::kOp) use(step.op());
  }
}

// Blocks as forward meets them, and whether ops follow the last one.
std::vector<std::string> BlocksOf(const Graph& graph, const MicroStep& micro,
                                  const std::vector<std::string>& by_scope) {
  std::vector<std::string> blocks;
  bool behind = false;
  ForEachOp(graph, micro.forward, [&](OpId op) {
    const std::string& block = BlockOfOp(by_scope, graph.ops[op]);
    behind = block.empty();
    if (!block.empty() && std::ranges::find(blocks, block) == blocks.end()) blocks.push_back(block);
  });
  if (behind || blocks.empty()) blocks.emplace_back();
  return blocks;
}

int IndexOf(const std::vector<std::string>& blocks, const std::string& block) {
  const auto found = std::ranges::find(blocks, block);
  return found == blocks.end() ? -1 : static_cast<int>(found - blocks.begin());
}

}  // namespace

Regions RegionsOf(const Graph& graph, const std::vector<MicroStep>& micro_steps) {
  const std::vector<std::string> by_scope = BlocksByScope(graph);
  Regions regions;
  regions.of.resize(graph.ops.size());
  std::ranges::fill(regions.of, -1);
  for (const MicroStep& micro : micro_steps) {
    std::vector<std::string> blocks = BlocksOf(graph, micro, by_scope);
    if (regions.blocks.empty()) regions.blocks = blocks;
    if (blocks != regions.blocks) regions.blocks = {""};
  }
  const int last = regions.size() - 1;
  for (const MicroStep& micro : micro_steps) {
    int current = 0;
    // An op outside of the blocks belongs to the region that ran before it; behind the last block, to the last region.
    ForEachOp(graph, micro.forward, [&](OpId op) {
      const std::string& block = BlockOfOp(by_scope, graph.ops[op]);
      const int index = IndexOf(regions.blocks, block);
      if (!block.empty() && index >= 0) current = index;
      const bool behind = block.empty() && current == last - 1 && regions.blocks[static_cast<size_t>(last)].empty();
      regions.of[op] = behind ? last : current;
    });
    current = last;
    ForEachOp(graph, micro.backward, [&](OpId op) {
      const std::string& block = BlockOfOp(by_scope, graph.ops[op]);
      const int index = IndexOf(regions.blocks, block);
      if (!block.empty() && index >= 0) current = index;
      regions.of[op] = current;
    });
  }
  return regions;
}

}  // namespace tidemark
