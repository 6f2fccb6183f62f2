#include "passes/compile/post_grad.h"

#include <algorithm>
#include <iterator>
#include <list>
#include <optional>

#include "graph/base/check.h"

namespace tidemark::compile {
namespace {

bool IsPointwise(OpKind kind) {
  switch (kind) {
    case OpKind::kAdd:
    case OpKind::kSub:
    case OpKind::kMul:
    case OpKind::kDiv:
    case OpKind::kNeg:
    case OpKind::kExp:
    case OpKind::kErf:
    case OpKind::kLog:
    case OpKind::kPow:
    case OpKind::kRsqrt:
    case OpKind::kSin:
    case OpKind::kCos:
    case OpKind::kTanh:
    case OpKind::kRelu:
    case OpKind::kSigmoid:
    case OpKind::kWhere:
    case OpKind::kCompare:
    case OpKind::kLogicalAnd:
    case OpKind::kToCopy:
      return true;
    default:
      return false;
  }
}

// From the end: each node's operands, in order, move right before it once all their users have been passed.
void ReorderForLocality(FunctionalGraph& graph) {
  std::list<NodeId> order(graph.order.begin(), graph.order.end());
  std::vector<std::list<NodeId>::iterator> place(graph.nodes.size());
  for (auto at = order.begin(); at != order.end(); ++at) place[at->index()] = at;
  const auto users = graph.Users();
  std::vector<bool> seen(graph.nodes.size());
  const auto visit = [&](NodeId input, std::list<NodeId>::iterator before) {
    const OpKind kind = graph.nodes[input].kind;
    const bool takes_random_state = kind == OpKind::kFlashForward || kind == OpKind::kEfficientForward ||
                                    kind == OpKind::kSeeds || kind == OpKind::kRand;
    if (kind == OpKind::kFromHost || kind == OpKind::kGetItem || takes_random_state) return;
    const bool passed = std::ranges::all_of(users[input], [&](NodeId user) { return bool(seen[user.index()]); });
    if (passed) order.splice(before, order, place[input.index()]);
  };
  // The graph's outputs come first, as the operands of its last node.
  for (const NodeId output : graph.outputs) {
    if (output.valid()) visit(output, order.end());
  }
  for (auto at = order.end(); at != order.begin();) {
    --at;
    seen[at->index()] = true;
    for (const NodeId input : graph.nodes[*at].inputs) visit(input, at);
  }
  graph.order.assign(order.begin(), order.end());
}

class PostGrad {
 public:
  explicit PostGrad(FunctionalGraph& graph) : graph_(graph), users_(graph.Users()), is_output_(graph.IsOutput()) {}

  void Run() {
    const std::vector<NodeId> order = graph_.order;
    for (const NodeId id : order) {
      FuseSum(id);
      SplitBias(id);
      JoinSoftmax(id);
    }
    graph_.RemoveDead();
  }

 private:
  FunctionalNode& node(NodeId id) { return graph_.nodes[id]; }
  bool UsedOnce(NodeId id) const { return users_[id].size() == 1 && !is_output_[id.index()]; }

  // add(inp, mm(a, b))  =>  addmm(inp, a, b), of equal dtypes
  void FuseSum(NodeId id) {
    FunctionalNode& add = node(id);
    if (add.kind != OpKind::kAdd || add.inputs.size() != 2) return;
    for (const size_t i : {size_t{0}, size_t{1}}) {
      const NodeId product = add.inputs[i];
      const NodeId other = add.inputs[1 - i];
      if (node(product).kind != OpKind::kMm || !UsedOnce(product)) continue;
      const TensorType& type = node(product).type();
      if (node(other).type().dtype != type.dtype || !(node(other).type().sizes == type.sizes)) continue;
      add.kind = OpKind::kAddmm;
      add.name += "_addmm";
      add.inputs = {other, node(product).inputs[0], node(product).inputs[1]};
      return;
    }
  }

  bool OnlyPointwiseUses(NodeId id) {
    if (is_output_[id.index()]) return false;
    return std::ranges::all_of(users_[id], [&](NodeId user) {
      const OpKind kind = node(user).kind;
      return IsViewOrItem(kind) ? OnlyPointwiseUses(user) : IsPointwise(kind);
    });
  }

  // addmm(bias, a, b) in fp32 with pointwise uses only  =>  add(bias, mm(a, b))
  void SplitBias(NodeId id) {
    if (node(id).kind != OpKind::kAddmm || IsHalf(node(id).type().dtype)) return;
    const NodeId bias = node(id).inputs[0];
    if (node(bias).type().sizes.size() != 1 || !OnlyPointwiseUses(id)) return;
    FunctionalNode product = node(id);
    product.kind = OpKind::kMm;
    product.name += "_mm";
    product.inputs = {product.inputs[1], product.inputs[2]};
    const NodeId mm = graph_.nodes.Add(std::move(product));
    node(id).kind = OpKind::kAdd;
    node(id).inputs = {bias, mm};
    graph_.order.insert(std::ranges::find(graph_.order, id), mm);
    users_.Add({id});
    is_output_.push_back(false);
  }

  NodeId OnlyUser(NodeId id, OpKind kind) {
    for (const NodeId user : users_[id]) {
      if (node(user).kind == kind) return user;
    }
    return {};
  }

  // amax(x), sum(exp(x - amax(x)))  =>  both results of one reduction, where amax stood
  void JoinSoftmax(NodeId amax) {
    if (node(amax).kind != OpKind::kAmax) return;
    const NodeId shifted = OnlyUser(amax, OpKind::kSub);
    if (!shifted.valid() || node(shifted).inputs.size() != 2 || node(shifted).inputs[0] != node(amax).inputs[0]) return;
    const NodeId exp = OnlyUser(shifted, OpKind::kExp);
    if (!exp.valid()) return;
    const NodeId sum = OnlyUser(exp, OpKind::kSum);
    if (!sum.valid() || !(node(sum).integer == node(amax).integer)) return;
    FunctionalNode tuple = node(amax);
    tuple.kind = OpKind::kOnlineSoftmax;
    tuple.name = "prepare_softmax_online_default";
    tuple.results = {node(amax).type(), node(sum).type()};
    const NodeId pair = graph_.nodes.Add(std::move(tuple));
    graph_.order.insert(std::ranges::find(graph_.order, amax), pair);
    std::erase(graph_.order, sum);
    graph_.order.insert(std::next(std::ranges::find(graph_.order, amax)), sum);
    int64_t part = 0;
    for (const NodeId id : {amax, sum}) {
      node(id).kind = OpKind::kGetItem;
      node(id).inputs = {pair};
      node(id).integer = {part++, 0, 0};
    }
    users_.Add({amax, sum});
    is_output_.push_back(false);
  }

  FunctionalGraph& graph_;
  Column<NodeId, std::vector<NodeId>> users_;
  std::vector<bool> is_output_;
};

}  // namespace

void RunPostGradPasses(FunctionalGraph& graph, bool inference) {
  if (inference) ReorderForLocality(graph);
  PostGrad(graph).Run();
}

}  // namespace tidemark::compile
