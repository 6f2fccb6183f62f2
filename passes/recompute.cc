#include "passes/recompute.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "graph/op.h"
#include "passes/min_cut.h"

namespace tidemark {
namespace {

// Groups of `blocks` consecutive blocks, by scope: 0, 1, …; -1: in no block. Blocks of another kind ("encoder.block",
// "decoder.block") begin a new group.
std::vector<int> GroupsOf(const Graph& graph, int64_t blocks) {
  std::vector<int> groups(graph.scopes.size(), -1);
  std::map<std::string, int64_t> first;  // of each kind of block: its number of the first group
  std::map<std::string, std::map<std::string, int64_t>> ordinals;
  std::map<std::pair<std::string, int64_t>, int> known;
  for (size_t i = 0; i < graph.scopes.size(); ++i) {
    const std::string block = BlockOf(graph.scopes[ScopeId(i)]);
    if (block.empty()) continue;
    const size_t dot = block.rfind('.');
    const std::string kind = dot == std::string::npos ? "" : block.substr(0, dot);
    auto& of_kind = ordinals[kind];
    const int64_t ordinal = of_kind.try_emplace(block, static_cast<int64_t>(of_kind.size())).first->second;
    const auto group = known.try_emplace({kind, ordinal / blocks}, static_cast<int>(known.size()));
    groups[i] = group.first->second;
  }
  return groups;
}

// every-n: what is made and read within a group only.
void DropInsides(const RecomputeAnalysis& analysis, const MicroStep& micro, const std::vector<int>& groups,
                 RecomputePlan& plan) {
  const auto group_of = [&](OpId op) {
    const ScopeId scope = analysis.graph.ops[op].scope;
    return scope.valid() ? groups[scope.index()] : -1;
  };
  for (const StorageId storage : analysis.ForwardStorages(micro)) {
    const int group = group_of(analysis.graph.storages[storage].producer);
    if (group < 0) continue;
    const bool inside = std::ranges::all_of(analysis.uses.Of(storage), [&](const Use& use) {
      return !analysis.Within(use.op, micro.forward) || group_of(use.op) == group;
    });
    if (inside && analysis.Droppable(storage, micro)) plan[storage] = Keep::kDrop;
  }
}

// selective: results of the named kinds; what they read is kept, where that is worth it.
void DropNamed(const RecomputeAnalysis& analysis, const MicroStep& micro, const std::set<OpKind>& kinds,
               RecomputePlan& plan) {
  const Graph& graph = analysis.graph;
  const auto named = [&](StorageId storage) {
    return kinds.contains(graph.ops[graph.storages[storage].producer].kind);
  };
  for (const StorageId storage : analysis.ForwardStorages(micro)) {
    if (!named(storage) || !analysis.Droppable(storage, micro)) continue;
    std::vector<StorageId> kept;
    Bytes added;
    for (const TensorId input : graph.Inputs(graph.ops[graph.storages[storage].producer])) {
      const StorageId from = graph.tensors[input].storage;
      const bool lives = analysis.lives.dies[from] >= micro.backward.begin;
      const bool repeated = named(from) && analysis.Repeatable(from, micro);
      if (lives || repeated || plan[from] == Keep::kExtend) continue;
      kept.push_back(from);
      added += graph.storages[from].bytes;
    }
    if (added >= graph.storages[storage].bytes) continue;
    plan[storage] = Keep::kDrop;
    for (const StorageId from : kept) plan[from] = Keep::kExtend;
  }
}

// min-cut: anything but products and attention runs again for nothing.
int64_t FreeButProducts(const Graph& graph, OpId op) {
  const CostClass cost = InfoOf(graph.ops[op].kind).cost;
  return cost == CostClass::kMatmul || cost == CostClass::kAttention ? kNotAgain : 0;
}

}  // namespace

RecomputePlan PlanOf(const RecomputeAnalysis& analysis, const RecomputePass& pass) {
  RecomputePlan plan;
  plan.resize(analysis.graph.storages.size());
  const std::vector<int> groups = GroupsOf(analysis.graph, pass.blocks);
  std::set<OpKind> kinds;
  for (const std::string& name : pass.ops) {
    for (const OpKind kind : KindsNamed(name)) kinds.insert(kind);
  }
  for (const MicroStep& micro : analysis.micro_steps) {
    switch (pass.policy) {
      case RecomputePolicy::kEveryN:
        DropInsides(analysis, micro, groups, plan);
        break;
      case RecomputePolicy::kSelective:
        DropNamed(analysis, micro, kinds, plan);
        break;
      case RecomputePolicy::kMinCut:
        CutMicroStep(
            analysis, micro, [&](OpId op) { return FreeButProducts(analysis.graph, op); }, plan);
        break;
      case RecomputePolicy::kFull:
      case RecomputePolicy::kBudget:
        break;
    }
  }
  return plan;
}

Result<PassResult> Recompute(Graph graph, const PassConfig& config, const PassContext& /*context*/) {
  const auto& pass = std::get<RecomputePass>(config);
  if (pass.policy == RecomputePolicy::kFull) return PassResult{std::move(graph), {}};
  const RecomputeAnalysis analysis(graph);
  return PassResult{ApplyRecompute(analysis, PlanOf(analysis, pass)), {}};
}

}  // namespace tidemark
