#include "passes/compile/partition.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "graph/base/check.h"
#include "passes/compile/min_cut.h"

namespace tidemark::compile {
namespace {

constexpr int kUnreachable = 1000000000;
constexpr int kLongChain = 100;
constexpr double kDistanceFactor = 1.1;

// get_default_op_list: everything pointwise, reductions, views, constants; not products, attention, lookups of weights,
// random numbers, scatters.
bool IsRecomputable(OpKind kind) {
  switch (kind) {
    case OpKind::kFromHost:
    case OpKind::kMm:
    case OpKind::kAddmm:
    case OpKind::kBmm:
    case OpKind::kFlashForward:
    case OpKind::kFlashBackward:
    case OpKind::kEfficientForward:
    case OpKind::kEfficientBackward:
    case OpKind::kEmbedding:
    case OpKind::kIndexPutAccumulate:
    case OpKind::kScatter:
    case OpKind::kSliceScatter:
    case OpKind::kConstantPad:
    case OpKind::kCumsum:
    case OpKind::kCat:
    case OpKind::kSeeds:
    case OpKind::kLookupSeed:
    case OpKind::kRand:
      return false;
    default:
      return true;
  }
}

class Partitioner {
 public:
  Partitioner(FunctionalGraph joint, const std::vector<bool>& is_static_input, bool explain)
      : graph_(std::move(joint)),
        is_static_(is_static_input),
        explain_(explain),
        users_(graph_.Users()),
        is_output_(graph_.IsOutput()) {
    const size_t n = graph_.nodes.size();
    in_closure_.resize(n);
    needed_.resize(n);
    forward_.resize(n);
    position_.resize(n, -1);
    distance_.resize(n);
    banned_.resize(n, nullptr);
  }

  Partition Run() {
    MarkRegionOutputs();
    Classify();
    MeasureDistances();
    for (const NodeId id : graph_.order) BanIfDue(id);
    BanUsedFarApart();
    BanLongChains();
    Cut();
    return Split();
  }

 private:
  const FunctionalNode& node(NodeId id) const { return graph_.nodes[id]; }
  bool IsTangent(NodeId id) const {
    return node(id).kind == OpKind::kFromHost && node(id).name.starts_with("tangents");
  }
  bool IsPrimal(NodeId id) const { return node(id).kind == OpKind::kFromHost && !IsTangent(id); }
  bool MustRecompute(NodeId id) const { return node(id).recompute_region >= 0 && !node(id).must_save; }
  bool Fusible(NodeId a, NodeId b) const {
    if (node(b).kind == OpKind::kCat) return true;
    return IsRecomputable(node(a).kind) && IsRecomputable(node(b).kind);
  }

  // What one checkpointed region hands to a later one is saved.
  void MarkRegionOutputs() {
    for (const NodeId id : graph_.order) {
      if (!MustRecompute(id)) continue;
      for (const NodeId user : users_[id]) {
        if (MustRecompute(user) && node(user).recompute_region > node(id).recompute_region) {
          graph_.nodes[id].must_save = true;
        }
      }
    }
  }

  void Classify() {
    for (const NodeId id : graph_.order) {
      if (IsTangent(id)) in_closure_[id.index()] = true;
      if (!in_closure_[id.index()]) continue;
      for (const NodeId user : users_[id]) in_closure_[user.index()] = true;
    }
    needed_ = in_closure_;
    for (size_t i = graph_.forward_outputs; i < graph_.outputs.size(); ++i) {
      if (graph_.outputs[i].valid()) needed_[graph_.outputs[i].index()] = true;
    }
    for (size_t i = 0; i < graph_.forward_outputs; ++i) forward_[graph_.outputs[i].index()] = true;
    for (size_t i = graph_.order.size(); i-- > 0;) {
      const NodeId id = graph_.order[i];
      if (IsPrimal(id)) forward_[id.index()] = true;
      if (!forward_[id.index()]) continue;
      for (const NodeId input : node(id).inputs) forward_[input.index()] = true;
    }
    int count = 0;
    for (const NodeId id : graph_.order) {
      if (forward_[id.index()]) position_[id.index()] = count++;
    }
  }

  void MeasureDistances() {
    for (size_t i = graph_.order.size(); i-- > 0;) {
      const NodeId id = graph_.order[i];
      int& distance = distance_[id.index()];
      if (!forward_[id.index()]) {
        distance = 0;
        continue;
      }
      distance = kUnreachable;
      for (const NodeId user : users_[id]) distance = std::min(distance, distance_[user.index()] + 1);
    }
  }

  int64_t BytesOf(NodeId id) const {
    int64_t bytes = 0;
    for (const TensorType& type : node(id).results) bytes += HintBytes(type);
    return bytes;
  }

  bool MaterializedInBackward(NodeId start) const {
    if (IsView(node(start).kind)) return false;
    std::vector<NodeId> stack = {start};
    while (!stack.empty()) {
      const NodeId at = stack.back();
      stack.pop_back();
      for (const NodeId user : users_[at]) {
        if (!forward_[user.index()] && !Fusible(at, user)) return true;
        if (IsView(node(user).kind)) stack.push_back(user);
      }
      // The graph's outputs aren't forward's, and nothing fuses into them.
      if (is_output_[at.index()]) return true;
    }
    return false;
  }

  const char* WhyBanned(NodeId id) const {
    const FunctionalNode& n = node(id);
    if (n.kind == OpKind::kFromHost || n.kind == OpKind::kGetItem) return nullptr;
    if (n.must_save) return "marked MUST_SAVE";
    if (!IsRecomputable(n.kind)) return "not in recomputable allowlist";
    if (MaterializedInBackward(id)) return "materialized in backward";
    int64_t inputs = 0;
    for (const NodeId input : n.inputs) {
      inputs += BytesOf(input);
      if (n.kind == OpKind::kIndex) break;  // the indices are a list, and don't count
    }
    if (BytesOf(id) * 4 < inputs) return "reduction op";
    return nullptr;
  }

  void Ban(NodeId id, const char* why) {
    if (IsView(node(id).kind) || MustRecompute(id)) return;
    if (banned_[id.index()] == nullptr) banned_[id.index()] = why;
  }

  void BanIfDue(NodeId id) {
    if (in_closure_[id.index()] || MustRecompute(id)) return;
    if (IsPrimal(id)) Ban(id, "primal input");
    if (!forward_[id.index()]) return;
    const char* why = WhyBanned(id);
    if (why != nullptr) Ban(id, why);
  }

  std::vector<NodeId> ForwardUsers(NodeId id) const {
    std::vector<NodeId> result;
    for (const NodeId user : users_[id]) {
      if (forward_[user.index()]) result.push_back(user);
    }
    return result;
  }

  // The position of the first node, following users from `start`, that an unfusible edge leads to; else `limit`.
  int FirstUnfusible(const std::vector<NodeId>& start, int limit) const {
    std::set<std::tuple<int, bool, NodeId>> queue;
    for (const NodeId id : start) queue.emplace(position_[id.index()], true, id);
    while (!queue.empty()) {
      const auto [at, fusible, id] = *queue.begin();
      queue.erase(queue.begin());
      if (!fusible) return at;
      for (const NodeId user : users_[id]) {
        if (!forward_[user.index()] || position_[user.index()] > limit) continue;
        queue.emplace(position_[user.index()], Fusible(id, user), user);
      }
    }
    return limit;
  }

  // A value that is read near and far, with something unfusible between: its far readers stay where they are.
  void BanUsedFarApart() {
    for (const NodeId id : graph_.order) {
      if (!forward_[id.index()]) continue;
      const std::vector<NodeId> users = ForwardUsers(id);
      if (users.empty()) continue;
      int last = 0;
      for (const NodeId user : users) last = std::max(last, position_[user.index()]);
      if (users.size() == 1) continue;  // its only user is the last one
      const int first = FirstUnfusible(users, last);
      for (const NodeId user : users) {
        if (position_[user.index()] > first && Fusible(id, user)) Ban(user, "");
      }
    }
  }

  void BanLongChains() {
    std::vector<bool> visited(graph_.nodes.size());
    for (const NodeId start : graph_.order) {
      if (!forward_[start.index()]) continue;
      const int begin = position_[start.index()];
      std::multiset<std::pair<int, NodeId>> queue = {{begin, start}};
      while (!queue.empty()) {
        const NodeId at = queue.begin()->second;
        queue.erase(queue.begin());
        if (visited[at.index()]) continue;
        visited[at.index()] = true;
        if (position_[at.index()] > begin + kLongChain && queue.empty()) {
          Ban(at, "");
          break;
        }
        for (const NodeId user : users_[at]) {
          if (forward_[user.index()] && Fusible(at, user) && banned_[user.index()] == nullptr) {
            queue.emplace(position_[user.index()], user);
          }
        }
      }
    }
  }

  bool Materialized(NodeId id) const {
    if (node(id).kind == OpKind::kFromHost) return true;
    if (is_output_[id.index()]) return true;
    return !std::ranges::all_of(users_[id], [&](NodeId user) { return Fusible(id, user); });
  }

  int64_t WeightOf(NodeId id) const {
    if (node(id).is_tuple()) return kInfiniteCapacity;
    if (IsPrimal(id) && is_static_[id.index()]) return 0;
    const int distance = std::max(std::min(distance_[id.index()], 100), 1);
    const auto weight = static_cast<int64_t>(static_cast<double>(BytesOf(id)) * std::pow(kDistanceFactor, distance));
    return Materialized(id) ? weight : 2 * weight;
  }

  void Cut() {
    FlowNetwork network;
    std::vector<int> vertex(graph_.nodes.size());  // its `in`; `out` follows
    for (const NodeId id : graph_.order) {
      vertex[id.index()] = network.AddVertex();
      network.AddVertex();
    }
    std::vector<int64_t> weights(graph_.nodes.size(), -1);
    for (const NodeId id : graph_.order) {
      const int in = vertex[id.index()];
      if (in_closure_[id.index()] || MustRecompute(id)) {
        network.AddEdge(in, FlowNetwork::kSink, kInfiniteCapacity);
        continue;
      }
      if (needed_[id.index()]) network.AddEdge(in + 1, FlowNetwork::kSink, kInfiniteCapacity);
      if (banned_[id.index()] != nullptr) network.AddEdge(FlowNetwork::kSource, in, kInfiniteCapacity);
      weights[id.index()] = WeightOf(id);
      network.AddEdge(in, in + 1, weights[id.index()]);
      for (const NodeId user : users_[id]) network.AddEdge(in + 1, vertex[user.index()], kInfiniteCapacity);
    }
    const FlowNetwork::Cut cut = network.MinimumCut();
    result_.cut_value = cut.value;
    if (explain_) result_.explanation = fmt::format("# value {}\n", cut.value);
    for (const NodeId id : graph_.order) {
      const auto in = static_cast<size_t>(vertex[id.index()]);
      const bool is_cut = weights[id.index()] >= 0 && !cut.near_sink[in] && cut.near_sink[in + 1];
      if (is_cut) saved_.push_back(id);
      if (explain_) Explain(id, weights[id.index()], is_cut);
    }
  }

  void Explain(NodeId id, int64_t weight, bool is_cut) {
    std::string line = node(id).name;
    line += weight < 0 ? " -" : weight == kInfiniteCapacity ? " inf" : fmt::format(" {}", weight);
    if (banned_[id.index()] != nullptr) line += fmt::format(" | banned: {}", banned_[id.index()]);
    if (in_closure_[id.index()]) line += " | needed";
    if (MustRecompute(id)) line += " | recomputed";
    if (is_cut) line += " | cut";
    result_.explanation += line + "\n";
  }

  // The part of the joint graph that computes `outputs` from `inputs`.
  FunctionalGraph Extract(const std::vector<NodeId>& inputs, const std::vector<NodeId>& outputs) const {
    FunctionalGraph part;
    std::vector<NodeId> now(graph_.nodes.size());
    for (const NodeId id : inputs) {
      FunctionalNode input = node(id);
      input.kind = OpKind::kFromHost;
      input.inputs.clear();
      now[id.index()] = part.nodes.Add(std::move(input));
      part.order.push_back(now[id.index()]);
    }
    for (const NodeId id : graph_.order) {
      if (now[id.index()].valid() || node(id).kind == OpKind::kFromHost) continue;
      FunctionalNode copy = node(id);
      bool valid = true;
      for (NodeId& input : copy.inputs) {
        input = now[input.index()];
        valid = valid && input.valid();
      }
      if (!valid) continue;
      now[id.index()] = part.nodes.Add(std::move(copy));
      part.order.push_back(now[id.index()]);
    }
    for (const NodeId id : outputs) {
      CHECK(!id.valid() || now[id.index()].valid());
      part.outputs.push_back(id.valid() ? now[id.index()] : NodeId());
    }
    part.RemoveDead();
    return part;
  }

  Partition Split() {
    std::vector<NodeId> primals;
    std::vector<NodeId> tangents;
    for (const NodeId id : graph_.order) {
      if (IsPrimal(id)) primals.push_back(id);
      if (IsTangent(id)) tangents.push_back(id);
    }
    const auto middle = graph_.outputs.begin() + static_cast<std::ptrdiff_t>(graph_.forward_outputs);
    const std::vector<NodeId> gradients(middle, graph_.outputs.end());
    const auto backward = [&] {
      std::vector<NodeId> inputs = saved_;
      inputs.insert(inputs.end(), tangents.begin(), tangents.end());
      return Extract(inputs, gradients);
    };
    FunctionalGraph first = backward();
    // What nobody reads in the end isn't saved.
    const auto users = first.Users();
    const std::vector<bool> is_output = first.IsOutput();
    std::vector<NodeId> used;
    for (size_t i = 0; i < saved_.size(); ++i) {
      if (!users[NodeId(i)].empty() || is_output[i]) used.push_back(saved_[i]);
    }
    saved_ = std::move(used);
    std::vector<NodeId> outputs(graph_.outputs.begin(), middle);
    outputs.insert(outputs.end(), saved_.begin(), saved_.end());
    result_.forward_outputs = graph_.forward_outputs;
    result_.forward = Extract(primals, outputs);
    result_.backward = backward();
    FollowEngine(result_.backward);
    RaiseGetItems(result_.forward);
    RaiseGetItems(result_.backward);
    return std::move(result_);
  }

  // Each node of the backward proper, with what it needs and isn't there yet right before it.
  static void FollowEngine(FunctionalGraph& graph) {
    std::vector<int> old_position(graph.nodes.size());
    for (size_t i = 0; i < graph.order.size(); ++i) old_position[graph.order[i].index()] = static_cast<int>(i);
    size_t first = graph.order.size();
    std::vector<NodeId> order;
    std::vector<bool> placed(graph.nodes.size());
    for (size_t i = 0; i < graph.order.size(); ++i) {
      const FunctionalNode& n = graph.nodes[graph.order[i]];
      if (n.kind == OpKind::kFromHost) {
        order.push_back(graph.order[i]);
        placed[graph.order[i].index()] = true;
        continue;
      }
      for (const NodeId input : n.inputs) {
        if (graph.nodes[input].name.starts_with("tangents")) first = std::min(first, i);
      }
    }
    const auto place = [&](NodeId root) {
      std::vector<NodeId> missing;
      std::vector<NodeId> stack = {root};
      while (!stack.empty()) {
        const NodeId id = stack.back();
        stack.pop_back();
        if (placed[id.index()]) continue;
        placed[id.index()] = true;
        missing.push_back(id);
        for (const NodeId input : graph.nodes[id].inputs) stack.push_back(input);
      }
      std::ranges::sort(missing, {}, [&](NodeId id) { return old_position[id.index()]; });
      order.insert(order.end(), missing.begin(), missing.end());
    };
    for (size_t i = first; i < graph.order.size(); ++i) place(graph.order[i]);
    for (const NodeId output : graph.outputs) {
      if (output.valid()) place(output);
    }
    graph.order = std::move(order);
  }

  static void RaiseGetItems(FunctionalGraph& graph) {
    std::vector<std::vector<NodeId>> parts(graph.nodes.size());
    for (const NodeId id : graph.order) {
      const FunctionalNode& n = graph.nodes[id];
      if (n.kind == OpKind::kGetItem) parts[n.inputs[0].index()].push_back(id);
    }
    std::vector<NodeId> order;
    for (const NodeId id : graph.order) {
      if (graph.nodes[id].kind == OpKind::kGetItem) continue;
      order.push_back(id);
      order.insert(order.end(), parts[id.index()].begin(), parts[id.index()].end());
    }
    graph.order = std::move(order);
  }

  FunctionalGraph graph_;
  const std::vector<bool>& is_static_;
  bool explain_;
  Column<NodeId, std::vector<NodeId>> users_;
  std::vector<bool> is_output_;
  std::vector<bool> in_closure_;     // of the tangents
  std::vector<bool> needed_;         // in backward
  std::vector<bool> forward_;        // needed in forward
  std::vector<int> position_;        // among those
  std::vector<int> distance_;        // from backward, over users
  std::vector<const char*> banned_;  // why; null: not
  std::vector<NodeId> saved_;
  Partition result_;
};

}  // namespace

Partition PartitionJoint(FunctionalGraph joint, const std::vector<bool>& is_static_input, bool explain) {
  return Partitioner(std::move(joint), is_static_input, explain).Run();
}

}  // namespace tidemark::compile
