#include "graph/autograd.h"

#include <algorithm>
#include <limits>
#include <queue>

#include "graph/base/check.h"
#include "graph/checkpoint.h"
#include "graph/functional.h"

namespace tidemark {
namespace {

constexpr uint64_t kLast = std::numeric_limits<uint64_t>::max();

// .grad of a parameter takes the gradient over, or adds it in place.
void AccumulateGrad(Node& node, Gradients& in, Gradients&) {
  Tensor& gradient = in[0];
  if (!gradient.defined()) return;
  TensorImpl& variable = *node.variable;
  Tracer& tracer = *node.tracer;
  if (tracer.functional) {
    CHECK(!variable.grad.defined());
    variable.grad = gradient;
    return;
  }
  if (variable.grad.defined()) {
    tracer.EmitInPlace(OpKind::kAdd, {&variable.grad, &gradient}, {&variable.grad}, {.number = 1});
    return;
  }
  bool same_strides = true;
  for (int i = 0; i < variable.sizes.size(); ++i) {
    same_strides = same_strides && (variable.sizes[i] == 1 || variable.strides[i] == gradient.strides()[i]);
  }
  if (gradient.impl()->handles == 1 && same_strides) {
    variable.grad = tracer.Detach(gradient, HolderKind::kGradient);
  } else {
    const Tensor copy =
        tracer.Emit(OpKind::kClone, {&gradient}, {gradient.dtype(), {variable.sizes, variable.strides}});
    variable.grad = Tensor(copy, HolderKind::kGradient);
  }
  if (node.leaf.defined()) return;
  tracer.SetRole(variable.grad, Role::kGradient);
  tracer.SetName(variable.grad, tracer.graph().storages[variable.storage].name);
}

constexpr NodeType kAccumulateGrad = {"AccumulateGrad", &AccumulateGrad};

NodeRef NewAccumulator(TensorImpl& variable) {
  NodeRef node(variable.tracer->NewNode());
  node->type = &kAccumulateGrad;
  node->scope = variable.tracer->scope;
  node->sequence_number = kLast;
  node->variable = &variable;
  node->expected[0] = {variable.dtype, variable.sizes};
  node->slot_count = 1;
  return node;
}

Edge GradientEdge(const Tensor& t) {
  if (!t.defined() || !t.requires_grad()) return {};
  TensorImpl& impl = *t.impl();
  if (impl.grad_fn) return {impl.grad_fn, impl.output_number};
  if (impl.accumulator) return {impl.accumulator, 0};
  if (impl.leaf_node != nullptr) return {NodeRef(impl.leaf_node), 0};
  NodeRef node = NewAccumulator(impl);
  node->leaf = Tensor(t, HolderKind::kSaved, kAccumulateGrad.name);
  impl.leaf_node = node.get();
  return {std::move(node), 0};
}

// One backward pass: the buffered gradients and the ready nodes.
class Engine {
 public:
  explicit Engine(Tracer& tracer)
      : tracer_(tracer), pass_(tracer.NextPassNumber()), is_nested_(tracer.running_backwards > 1) {}

  void Run(std::span<const Tensor> roots, std::span<Tensor> gradients) {
    std::vector<Edge> edges;
    for (const Tensor& root : roots) edges.push_back(GradientEdge(root));
    CountDependencies(edges);
    for (size_t i = 0; i < edges.size(); ++i) {
      if (edges[i].node) Accumulate(StateOf(*edges[i].node).buffer, edges[i].slot, std::move(gradients[i]));
    }
    for (const Edge& edge : edges) {
      if (!edge.node) continue;
      State& state = StateOf(*edge.node);
      if (state.dependencies == 0 && !state.queued) Enqueue(edge.node.get(), state);
    }
    while (!ready_.empty()) {
      Node* node = ready_.top().node;
      ready_.pop();
      Evaluate(*node);
    }
    for (const Displaced& d : displaced_) {
      d.node->pass = d.pass;
      d.node->place = d.place;
    }
  }

 private:
  struct State {
    int32_t dependencies = 0;
    bool queued = false;
    std::array<Tensor, Node::kMaxSlots> buffer;
  };
  struct Ready {
    uint64_t sequence_number;
    Node* node;
    bool operator<(const Ready& other) const { return sequence_number < other.sequence_number; }
  };
  struct Displaced {
    Node* node;
    uint32_t pass;
    uint32_t place;
  };

  // REQUIRES: this pass has met the node. Only CountDependencies meets nodes: references stay valid after it.
  State& StateOf(const Node& node) { return states_[node.place]; }

  // Whether the node is new to this pass; then it has a state from here on. A parameter's node may be waiting in the
  // pass around this one as well.
  bool Meet(Node& node) {
    if (node.pass == pass_) return false;
    if (is_nested_ && node.pass != 0) displaced_.push_back({&node, node.pass, node.place});
    node.pass = pass_;
    node.place = static_cast<uint32_t>(states_.size());
    states_.emplace_back();
    return true;
  }

  void CountDependencies(const std::vector<Edge>& roots) {
    std::vector<Node*> stack;
    for (const Edge& root : roots) {
      if (root.node && Meet(*root.node)) stack.push_back(root.node.get());
    }
    while (!stack.empty()) {
      Node* node = stack.back();
      stack.pop_back();
      for (const Edge& edge : node->Edges()) {
        Node* next = edge.node.get();
        if (next == nullptr) continue;
        if (Meet(*next)) stack.push_back(next);
        ++StateOf(*next).dependencies;
      }
    }
  }

  void Enqueue(Node* node, State& state) {
    state.queued = true;
    ready_.push({node->sequence_number, node});
  }

  // The first gradient for a slot moves in; further ones are added, in place if nobody else can see the buffered one.
  void Accumulate(std::array<Tensor, Node::kMaxSlots>& buffer, uint32_t slot, Tensor gradient) {
    if (!gradient.defined()) return;
    Tensor& buffered = buffer[slot];
    if (!buffered.defined()) {
      buffered = Tensor(gradient, HolderKind::kEngineBuffer);
      return;
    }
    const bool sole = !tracer_.functional && buffered.impl()->handles == 1 && tracer_.storage_holders(buffered) == 1;
    if (sole && IsDense(buffered.sizes(), buffered.strides())) {
      tracer_.EmitInPlace(OpKind::kAdd, {&buffered, &gradient}, {&buffered}, {.number = 1});
      return;
    }
    const std::array layouts = {buffered.layout(), gradient.layout()};
    const Tensor sum =
        tracer_.Emit(OpKind::kAdd, {&buffered, &gradient},
                     {buffered.dtype(), ElementwiseLayout(layouts), tracer_.RoleOf(buffered)}, {.number = 1});
    buffered = Tensor(sum, HolderKind::kEngineBuffer);
  }

  // Gives each gradient the shape and number format of the tensor that it belongs to.
  void Validate(Node& node, Gradients& out) {
    for (size_t i = 0; i < node.edge_count; ++i) {
      const Edge& edge = node.Edges()[i];
      Tensor& gradient = out[i];
      if (!edge.node || !gradient.defined()) continue;
      const Node::Expected& expected = edge.node->expected[edge.slot];
      if (!(gradient.sizes() == expected.sizes)) gradient = SumTo(gradient, expected.sizes);
      if (gradient.dtype() != expected.dtype) {
        const Layout from = gradient.layout();
        const Layout to = {
            from.sizes, IsDense(from.sizes, from.strides) ? from.strides : DenseStridesLike(from.sizes, from.strides)};
        gradient = tracer_.Emit(OpKind::kToCopy, {&gradient}, {expected.dtype, to, tracer_.RoleOf(gradient)});
      }
    }
  }

  void Evaluate(Node& node) {
    const NodeRef alive(&node);
    Gradients in;
    Gradients out(node.edge_count);
    {
      State& state = StateOf(node);
      for (size_t i = 0; i < state.buffer.size(); ++i) in[i] = std::move(state.buffer[i]);
    }
    {
      const InScope scope(tracer_, node.scope);
      tracer_.node = node.type->name;
      node.type->apply(node, in, out);
      Validate(node, out);
      for (size_t i = 0; i < in.size(); ++i) in[i].Reset();
      node.ReleaseSaved();
      tracer_.node = nullptr;
    }
    for (size_t i = 0; i < node.edge_count; ++i) {
      const Edge& edge = node.Edges()[i];
      if (!edge.node) continue;
      State& state = StateOf(*edge.node);
      Accumulate(state.buffer, edge.slot, std::move(out[i]));
      if (--state.dependencies == 0) Enqueue(edge.node.get(), state);
    }
  }

  Tracer& tracer_;
  uint32_t pass_;
  bool is_nested_;
  std::vector<State> states_;  // by Node::place
  std::vector<Displaced> displaced_;
  std::priority_queue<Ready> ready_;
};

}  // namespace

void Node::Save(const Tensor& t, bool own_result) {
  const size_t field = saved_count++;
  if (!t.defined()) return;
  if (tracer->saving_frame == nullptr) {
    saved[field] =
        own_result ? tracer->Detach(t, HolderKind::kSaved, type->name) : Tensor(t, HolderKind::kSaved, type->name);
    return;
  }
  CheckpointFrame& region = *tracer->saving_frame;
  if (region.recomputing()) {
    saved[field] = tracer->Detach(t, HolderKind::kSaved, type->name);
    region.Recomputed(t);
    return;
  }
  if (frame == nullptr) frame = tracer->saving_frame;
  placeholders[field] = region.AddPlaceholder() + 1;
}

Tensor Node::Unpack(int field) {
  const auto i = static_cast<size_t>(field);
  if (field >= saved_count) return {};
  if (placeholders[i] != 0) return frame->Take(placeholders[i] - 1, frame);
  return saved[i];
}

void Node::ReleaseSaved() {
  for (size_t i = 0; i < saved_count; ++i) {
    saved[i].Reset();
    placeholders[i] = 0;
  }
  frame.reset();
}

void Node::SetHistory(const Tensor& t, uint32_t slot) {
  TensorImpl& impl = *t.impl();
  impl.requires_grad = true;
  impl.grad_fn = NodeRef(this);
  impl.output_number = slot;
  expected[slot] = {impl.dtype, impl.sizes};
  slot_count = std::max<uint8_t>(slot_count, static_cast<uint8_t>(slot + 1));
}

NodeRef MakeNode(Tracer& tracer, const NodeType& type, std::span<const Tensor* const> inputs) {
  if (!tracer.grad_enabled) return {};
  const bool wanted =
      std::ranges::any_of(inputs, [](const Tensor* t) { return t != nullptr && t->defined() && t->requires_grad(); });
  if (!wanted) return {};
  NodeRef node(tracer.NewNode());
  node->type = &type;
  node->scope = tracer.scope;
  node->sequence_number = tracer.NextSequenceNumber();
  node->edge_count = static_cast<uint32_t>(inputs.size());
  if (inputs.size() > Gradients::kFew) node->many_edges.resize(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    node->Edges()[i] = inputs[i] == nullptr ? Edge{} : GradientEdge(*inputs[i]);
  return node;
}

void Backward(Tracer& tracer, std::span<const Tensor> roots, std::span<Tensor> gradients) {
  const GradMode no_grad(tracer, false);
  const Thread outer_thread = std::exchange(tracer.thread, Thread::kAutograd);
  const Role outer_role = std::exchange(tracer.result_role, Role::kActivationGradient);
  const char* outer_node = std::exchange(tracer.node, nullptr);
  ++tracer.running_backwards;
  Engine(tracer).Run(roots, gradients);
  --tracer.running_backwards;
  tracer.node = outer_node;
  tracer.result_role = outer_role;
  tracer.thread = outer_thread;
}

void Backward(const Tensor& root, Operand gradient) {
  Tensor root_gradient = gradient.Take();
  Backward(root.tracer(), std::span(&root, 1), std::span(&root_gradient, 1));
}

void MakeParameter(const Tensor& t) {
  TensorImpl& impl = *t.impl();
  impl.requires_grad = true;
  impl.accumulator = NewAccumulator(impl);
}

void RequireGrad(const Tensor& t) { t.impl()->requires_grad = true; }

}  // namespace tidemark
