#include "passes/compile/joint_passes.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "graph/base/check.h"
#include "passes/compile/builder.h"

namespace tidemark::compile {
namespace {

// Adds nodes that stand where `before` stands.
class Inserter {
 public:
  Inserter(FunctionalGraph& graph, Names& names, NodeId like) : graph_(graph), names_(names), like_(like) {}

  NodeId Add(OpKind kind, std::string_view base, std::vector<NodeId> inputs, TensorType type) {
    FunctionalNode node;
    const FunctionalNode& like = graph_.nodes[like_];
    node.kind = kind;
    node.name = names_.Next(base);
    node.inputs = std::move(inputs);
    node.results = {type};
    node.recompute_region = like.recompute_region;
    node.scope = like.scope;
    node.autograd_node = like.autograd_node;
    added_.push_back(graph_.nodes.Add(std::move(node)));
    return added_.back();
  }

  FunctionalNode& operator[](NodeId id) { return graph_.nodes[id]; }

  // Puts what was added before `like` in the order.
  void Insert() {
    const auto at = std::ranges::find(graph_.order, like_);
    graph_.order.insert(at, added_.begin(), added_.end());
  }

 private:
  FunctionalGraph& graph_;
  Names& names_;
  NodeId like_;
  std::vector<NodeId> added_;
};

bool SameValues(const FunctionalGraph& graph, NodeId a, NodeId b) {
  return graph.nodes[a].type().dtype == graph.nodes[b].type().dtype &&
         graph.nodes[a].type().sizes == graph.nodes[b].type().sizes;
}

// What the node's value is already, if it changes nothing.
std::optional<NodeId> Unchanged(const FunctionalGraph& graph, NodeId id) {
  const FunctionalNode& node = graph.nodes[id];
  if (node.inputs.empty()) return {};
  const NodeId from = node.inputs[0];
  const FunctionalNode& input = graph.nodes[from];
  switch (node.kind) {
    case OpKind::kClone:
      if (!input.is_tuple() && node.type() == input.type()) return from;
      return {};
    case OpKind::kAdd:
    case OpKind::kSub:
      if (node.has_number && node.number == 0 && node.integer[0].is(0) && SameValues(graph, id, from)) return from;
      return {};
    case OpKind::kMul:
    case OpKind::kDiv:
      if (node.has_number && node.number == 1 && SameValues(graph, id, from)) return from;
      return {};
    case OpKind::kView:
    case OpKind::kSlice:
      if (node.type().sizes == input.type().sizes) return from;
      return {};
    case OpKind::kSliceScatter:
      if (SameValues(graph, id, node.inputs[1])) return node.inputs[1];
      return {};
    default:
      return {};
  }
}

void Replace(FunctionalGraph& graph, NodeId old_node, NodeId new_node) {
  graph.ReplaceUses(old_node, new_node);
  std::erase(graph.order, old_node);
}

// Two permutations (or views) that cancel, where nobody else uses the first.
void RemovePairs(FunctionalGraph& graph) {
  const auto users = graph.Users();
  const std::vector<bool> is_output = graph.IsOutput();
  const std::vector<NodeId> order = graph.order;
  for (const NodeId id : order) {
    const FunctionalNode& node = graph.nodes[id];
    if (node.kind != OpKind::kPermute && node.kind != OpKind::kView) continue;
    const NodeId inner = node.inputs[0];
    if (graph.nodes[inner].kind != node.kind || users[inner].size() != 1 || is_output[inner.index()]) continue;
    const NodeId from = graph.nodes[inner].inputs[0];
    if (node.kind == OpKind::kPermute) {
      const int64_t first = graph.nodes[inner].integer[0].hint();
      const int64_t second = node.integer[0].hint();
      bool cancels = true;
      for (int i = 0; i < node.type().sizes.size(); ++i) {
        cancels = cancels && (first >> (4 * (second >> (4 * i) & 15)) & 15) == i;
      }
      if (!cancels) continue;
    } else if (!(graph.nodes[from].type().sizes == node.type().sizes)) {
      continue;
    }
    Replace(graph, id, from);
    std::erase(graph.order, inner);
  }
}

void NameConstants(FunctionalGraph& graph, Names& names) {
  for (const NodeId id : graph.order) {
    if (graph.nodes[id].kind == OpKind::kFull) graph.nodes[id].name = names.Next("full_default");
  }
}

// full(a) with `number` at a column for each row  =>  where(column == 0, 1, 2, …, number, a)
void ScatterToWhere(FunctionalGraph& graph, Names& names) {
  const std::vector<NodeId> order = graph.order;
  for (const NodeId id : order) {
    if (graph.nodes[id].kind != OpKind::kScatter) continue;
    const FunctionalNode scatter = graph.nodes[id];
    const FunctionalNode background = graph.nodes[scatter.inputs[0]];
    const NodeId selector = scatter.inputs[1];
    const Shape sizes = scatter.type().sizes;
    const int dim = static_cast<int>(scatter.integer[0].hint());
    if (background.kind != OpKind::kFull || !graph.nodes[selector].type().sizes[dim].is(1)) continue;
    Inserter insert(graph, names, id);
    const NodeId iota = insert.Add(OpKind::kArange, "iota_default", {}, ContiguousType(DType::kInt64, {sizes[dim]}));
    Shape row;
    for (int i = 0; i < sizes.size(); ++i) row.Append(i == dim ? sizes[dim] : Extent(1));
    const NodeId columns = insert.Add(OpKind::kView, "view_default", {iota}, ContiguousType(DType::kInt64, row));
    TensorType stretched = graph.nodes[selector].type();
    stretched.sizes = sizes;
    stretched.strides[dim] = 0;
    const NodeId expanded = insert.Add(OpKind::kExpand, "expand_default", {selector}, stretched);
    const NodeId equal =
        insert.Add(OpKind::kCompare, "eq_tensor", {expanded, columns}, ContiguousType(DType::kBool, sizes));
    insert[equal].integer[0] = static_cast<int64_t>(Comparison::kEqual);
    const auto scalar = [&](double number, bool is_integer) {
      const NodeId s = insert.Add(OpKind::kFull, "scalar_tensor_default", {}, {DType::kFloat32, {}, {}});
      insert[s].has_number = true;
      insert[s].number = number;
      insert[s].number_is_integer = is_integer;
      return s;
    };
    const NodeId off = scalar(background.number, background.number_is_integer);
    const NodeId on = scalar(scatter.number, false);
    NodeId result = insert.Add(OpKind::kWhere, "where_self", {equal, on, off}, ContiguousType(DType::kFloat32, sizes));
    const DType dtype = scatter.type().dtype;
    if (dtype != DType::kFloat32) {
      result = insert.Add(OpKind::kToCopy, "convert_element_type_default", {result}, ContiguousType(dtype, sizes));
    }
    insert.Insert();
    Replace(graph, id, result);
  }
  graph.RemoveDead();
}

// rand  =>  seeds (one for all); lookup; random (in fp32); cast
void ReplaceRandom(FunctionalGraph& graph, Names& names) {
  std::vector<NodeId> randoms;
  for (const NodeId id : graph.order) {
    if (graph.nodes[id].kind == OpKind::kRand) randoms.push_back(id);
  }
  if (randoms.empty()) return;
  // Matched from the end of the graph: the last one gets the first name.
  std::vector<NodeId> seeded(randoms.size());
  std::vector<NodeId> results(randoms.size());
  std::vector<Inserter> inserts;
  for (const NodeId id : randoms) inserts.emplace_back(graph, names, id);
  const auto count = static_cast<int64_t>(randoms.size());
  const NodeId seeds =
      inserts[0].Add(OpKind::kSeeds, "inductor_seeds_default", {}, ContiguousType(DType::kInt64, {count}));
  graph.nodes[seeds].recompute_region = -1;
  for (size_t i = 0; i < randoms.size(); ++i) {
    seeded[i] = inserts[i].Add(OpKind::kLookupSeed, "inductor_lookup_seed_default", {seeds}, {DType::kInt64, {}, {}});
    graph.nodes[seeded[i]].integer[0] = static_cast<int64_t>(i);
  }
  for (size_t i = randoms.size(); i-- > 0;) {
    const TensorType type = graph.nodes[randoms[i]].type();
    results[i] = inserts[i].Add(OpKind::kRand, "inductor_random_default", {seeded[i]},
                                ContiguousType(DType::kFloat32, type.sizes));
    if (type.dtype == DType::kFloat32) continue;
    results[i] = inserts[i].Add(OpKind::kToCopy, "convert_element_type_default", {results[i]}, type);
  }
  for (size_t i = 0; i < randoms.size(); ++i) {
    inserts[i].Insert();
    Replace(graph, randoms[i], results[i]);
  }
}

}  // namespace

void RemoveNoOps(FunctionalGraph& graph) {
  // One sweep; each use is looked up through what was removed before.
  Column<NodeId, NodeId> now;
  for (size_t i = 0; i < graph.nodes.size(); ++i) now.Add(NodeId(i));
  std::vector<NodeId> kept;
  for (const NodeId id : graph.order) {
    for (NodeId& input : graph.nodes[id].inputs) input = now[input];
    const std::optional<NodeId> same = Unchanged(graph, id);
    if (same.has_value()) {
      now[id] = *same;
    } else {
      kept.push_back(id);
    }
  }
  for (NodeId& output : graph.outputs) {
    if (output.valid()) output = now[output];
  }
  graph.order = std::move(kept);
}

void RunJointPasses(FunctionalGraph& graph, Names& names) {
  NameConstants(graph, names);
  RemovePairs(graph);
  ScatterToWhere(graph, names);
  ReplaceRandom(graph, names);
  graph.RemoveDead();
}

void MergeCommon(FunctionalGraph& graph) {
  std::vector<bool> backward(graph.nodes.size());
  for (size_t i = graph.forward_outputs; i < graph.outputs.size(); ++i) {
    if (graph.outputs[i].valid()) backward[graph.outputs[i].index()] = true;
  }
  for (size_t i = graph.order.size(); i-- > 0;) {
    if (!backward[graph.order[i].index()]) continue;
    for (const NodeId input : graph.nodes[graph.order[i]].inputs) backward[input.index()] = true;
  }
  // Outputs and their views stay apart.
  std::vector<NodeId> base(graph.nodes.size());
  std::vector<bool> returned(graph.nodes.size());
  const auto is_view = [](OpKind kind) {
    return kind == OpKind::kView || kind == OpKind::kPermute || kind == OpKind::kExpand || kind == OpKind::kUnsqueeze ||
           kind == OpKind::kSqueeze || kind == OpKind::kSlice;
  };
  for (const NodeId id : graph.order) {
    const FunctionalNode& node = graph.nodes[id];
    base[id.index()] = is_view(node.kind) ? base[node.inputs[0].index()] : id;
  }
  for (const NodeId id : graph.outputs) {
    if (id.valid()) returned[base[id.index()].index()] = true;
  }
  using Key = std::tuple<OpKind, bool, std::vector<NodeId>, bool, double, bool, std::array<Extent, 3>, DType,
                         std::vector<Extent>, std::vector<Extent>>;
  std::map<Key, NodeId> seen;
  Column<NodeId, NodeId> now;
  for (size_t i = 0; i < graph.nodes.size(); ++i) now.Add(NodeId(i));
  std::vector<NodeId> kept;
  for (const NodeId id : graph.order) {
    FunctionalNode& node = graph.nodes[id];
    for (NodeId& input : node.inputs) input = now[input];
    const bool random = node.kind == OpKind::kRand || node.kind == OpKind::kSeeds;
    if (node.kind == OpKind::kFromHost || random || returned[base[id.index()].index()]) {
      kept.push_back(id);
      continue;
    }
    const Shape& sizes = node.type().sizes;
    const Shape& strides = node.type().strides;
    Key key(node.kind, backward[id.index()], node.inputs, node.has_number, node.number, node.number_is_integer,
            node.integer, node.type().dtype, {sizes.begin(), sizes.end()}, {strides.begin(), strides.end()});
    const auto [at, is_new] = seen.try_emplace(std::move(key), id);
    if (is_new) {
      kept.push_back(id);
    } else {
      now[id] = at->second;
    }
  }
  for (NodeId& output : graph.outputs) {
    if (output.valid()) output = now[output];
  }
  graph.order = std::move(kept);
}

}  // namespace tidemark::compile
