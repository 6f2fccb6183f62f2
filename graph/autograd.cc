#include "graph/autograd.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <unordered_map>

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
  explicit Engine(Tracer& tracer) : tracer_(tracer) {}

  void Run(std::span<const Tensor> roots, std::span<Tensor> gradients) {
    std::vector<Edge> edges;
    for (const Tensor& root : roots) edges.push_back(GradientEdge(root));
    CountDependencies(edges);
    for (size_t i = 0; i < edges.size(); ++i) {
      if (edges[i].node) Accumulate(states_[edges[i].node.get()].buffer, edges[i].slot, std::move(gradients[i]));
    }
    for (const Edge& edge : edges) {
      if (!edge.node) continue;
      State& state = states_[edge.node.get()];
      if (state.dependencies == 0 && !state.queued) Enqueue(edge.node.get(), state);
    }
    while (!ready_.empty()) {
      Node* node = ready_.top().node;
      ready_.pop();
      Evaluate(*node);
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

  void CountDependencies(const std::vector<Edge>& roots) {
    std::vector<Node*> stack;
    for (const Edge& root : roots) {
      if (root.node && states_.try_emplace(root.node.get()).second) stack.push_back(root.node.get());
    }
    while (!stack.empty()) {
      Node* node = stack.back();
      stack.pop_back();
      for (const Edge& edge : node->Edges()) {
        Node* next = edge.node.get();
        if (next == nullptr) continue;
        const auto [state, is_new] = states_.try_emplace(next);
        ++state->second.dependencies;
        if (is_new) stack.push_back(next);
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
      State& state = states_[&node];
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
      State& state = states_[edge.node.get()];
      Accumulate(state.buffer, edge.slot, std::move(out[i]));
      if (--state.dependencies == 0) Enqueue(edge.node.get(), state);
    }
  }

  Tracer& tracer_;
  std::unordered_map<Node*, State> states_;
  std::priority_queue<Ready> ready_;
};

}  // namespace

void Node::Save(const Tensor& t, bool own_result) {
  SavedTensor& field = saved[saved_count++];
  if (!t.defined()) return;
  if (tracer->saving_frame == nullptr) {
    field.tensor =
        own_result ? tracer->Detach(t, HolderKind::kSaved, type->name) : Tensor(t, HolderKind::kSaved, type->name);
    return;
  }
  CheckpointFrame& frame = *tracer->saving_frame;
  if (frame.recomputing()) {
    field.tensor = tracer->Detach(t, HolderKind::kSaved, type->name);
    frame.Recomputed(t);
    return;
  }
  field.frame = tracer->saving_frame;
  field.index = frame.AddPlaceholder();
}

Tensor Node::Unpack(int field) {
  const SavedTensor& s = saved[static_cast<size_t>(field)];
  if (field >= saved_count) return {};
  if (s.frame != nullptr) return s.frame->Take(s.index, s.frame);
  return s.tensor;
}

void Node::ReleaseSaved() {
  for (size_t i = 0; i < saved_count; ++i) {
    saved[i].tensor.Reset();
    saved[i].frame.reset();
  }
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
