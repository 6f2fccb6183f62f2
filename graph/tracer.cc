#include "graph/tracer.h"

#include <algorithm>

#include "graph/autograd.h"
#include "graph/base/check.h"

namespace tidemark {
namespace {
constexpr size_t kBlock = 1024;  // objects allocated together
constexpr Bytes kRounding{512};  // of requests, by the caching allocator
}  // namespace

NodeRef::NodeRef(Node* node) : node_(node) {
  if (node_ != nullptr) ++node_->references;
}

void NodeRef::Reset() {
  Node* node = std::exchange(node_, nullptr);
  if (node != nullptr && --node->references == 0) node->tracer->FreeNode(node);
}

Tensor::Tensor(const Tensor& other, HolderKind kind, const char* node) : impl_(other.impl_) {
  if (impl_ == nullptr) return;
  ++impl_->handles;
  hold_ = impl_->tracer->Hold(*impl_, kind, node);
}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  if (this == &other) return *this;
  Tensor old = std::move(*this);
  impl_ = std::exchange(other.impl_, nullptr);
  hold_ = other.hold_;
  return *this;
}

void Tensor::Reset() {
  TensorImpl* impl = std::exchange(impl_, nullptr);
  if (impl == nullptr) return;
  Tracer& tracer = *impl->tracer;
  if (--impl->handles == 0) tracer.Free(impl);
  tracer.Release(hold_);
}

Tracer::Tracer(const DeviceSpec& device) : device_(device) {}

Tracer::~Tracer() {
  // What still lives is alive at the end of the run. Frames go first, while every tensor's memory is still there.
  for (auto& block : node_blocks_) {
    for (size_t i = 0; i < kBlock; ++i) {
      block[i].frame.reset();
      block[i].extension.reset();
    }
  }
  for (auto& block : node_blocks_) {
    for (size_t i = 0; i < kBlock; ++i) {
      for (Tensor& saved : block[i].saved) saved.Forget();
      for (Edge& edge : block[i].edges) edge.node.Forget();
      for (Edge& edge : block[i].many_edges) edge.node.Forget();
      block[i].leaf.Forget();
    }
  }
  for (auto& block : impl_blocks_) {
    for (size_t i = 0; i < kBlock; ++i) {
      for (Tensor* t : {&block[i].base, &block[i].grad, &block[i].cast}) t->Forget();
      block[i].grad_fn.Forget();
      block[i].accumulator.Forget();
    }
  }
  for (Tensor& t : autocast.cached_owner) t.Forget();
}

void Tracer::Reserve(size_t ops) {
  // Operands, tensors, holders and steps of one op, on average of the models' training steps, rounded up.
  graph_.ops.reserve(ops);
  graph_.operands.reserve(4 * ops);
  graph_.tensors.reserve(3 * ops);
  graph_.storages.reserve(2 * ops);
  graph_.holders.reserve(5 * ops);
  graph_.program.reserve(6 * ops);
  storage_tensors_.reserve(2 * ops);
}

Graph Tracer::TakeGraph() { return std::move(graph_); }

void Tracer::Assume(std::string_view what) {
  std::vector<std::string>& all = graph_.assumptions;
  if (std::ranges::find(all, what) == all.end()) all.emplace_back(what);
}

TensorImpl* Tracer::NewImpl() {
  if (free_impls_.empty()) {
    auto& block = impl_blocks_.emplace_back(std::make_unique<TensorImpl[]>(kBlock));
    for (size_t i = kBlock; i-- > 0;) free_impls_.push_back(&block[i]);
  }
  TensorImpl* impl = free_impls_.back();
  free_impls_.pop_back();
  impl->tracer = this;
  return impl;
}

void Tracer::Free(TensorImpl* impl) {
  // The graph (nodes, what they saved) goes before the tensor's own storage.
  impl->grad_fn.Reset();
  impl->accumulator.Reset();
  impl->grad.Reset();
  impl->cast.Reset();
  impl->base.Reset();
  // Once the graph is taken, nobody counts any more.
  if (--storage_tensors_[impl->storage.index()] == 0 && impl->storage.index() < graph_.storages.size()) {
    live_bytes_ -= RoundUp(graph_.storages[impl->storage].bytes, kRounding);
  }
  impl->id = TensorId();
  impl->requires_grad = false;
  impl->leaf_node = nullptr;
  impl->output_number = 0;
  impl->offset = 0;
  free_impls_.push_back(impl);
}

Node* Tracer::NewNode() {
  if (free_nodes_.empty()) {
    auto& block = node_blocks_.emplace_back(std::make_unique<Node[]>(kBlock));
    for (size_t i = kBlock; i-- > 0;) free_nodes_.push_back(&block[i]);
  }
  Node* fresh = free_nodes_.back();
  free_nodes_.pop_back();
  fresh->tracer = this;
  return fresh;
}

void Tracer::FreeNode(Node* dead) {
  dying_nodes_.push_back(dead);
  if (freeing_nodes_) return;
  freeing_nodes_ = true;
  while (!dying_nodes_.empty()) {
    Node* n = dying_nodes_.back();
    dying_nodes_.pop_back();
    n->ReleaseSaved();
    for (Edge& edge : n->Edges()) edge.node.Reset();
    n->many_edges.clear();
    n->extension.reset();
    if (n->leaf.defined()) n->leaf.impl()->leaf_node = nullptr;
    n->leaf.Reset();
    n->edge_count = 0;
    n->saved_count = n->slot_count = 0;
    n->pass = 0;
    n->data = NodeData{};
    n->variable = nullptr;
    free_nodes_.push_back(n);
  }
  freeing_nodes_ = false;
}

HolderId Tracer::Hold(const TensorImpl& impl, HolderKind kind, const char* holder_node) {
  return graph_.holders.Add(Holder{impl.storage, kind, OpId(graph_.ops.size()), scope, holder_node});
}

TensorId Tracer::IdOf(TensorImpl& impl) {
  if (!impl.id.valid()) {
    impl.id = graph_.tensors.Add(TensorInfo{impl.storage, impl.dtype, impl.offset, impl.sizes, impl.strides});
  }
  return impl.id;
}

Tensor Tracer::Adopt(TensorImpl* impl, HolderKind kind, const char* holder_node) {
  Tensor t;
  t.impl_ = impl;
  ++impl->handles;
  ++storage_tensors_[impl->storage.index()];
  t.hold_ = Hold(*impl, kind, holder_node);
  return t;
}

Tensor Tracer::NewTensor(const ResultType& type, OpId producer, size_t result) {
  TensorImpl* impl = NewImpl();
  const Bytes bytes = SizeOf(type.dtype) * std::max(type.elements, NumElements(type.layout.sizes));
  const Role role = type.role == Role::kActivation ? result_role : type.role;
  impl->storage = graph_.storages.Add(Storage{bytes, producer, static_cast<uint16_t>(result), role, ScopeId()});
  storage_tensors_.push_back(0);
  live_bytes_ += RoundUp(bytes, kRounding);
  live_peak_ = std::max(live_peak_, live_bytes_);
  impl->dtype = type.dtype;
  impl->sizes = type.layout.sizes;
  impl->strides = type.layout.strides;
  graph_.operands.push_back(IdOf(*impl));
  return Adopt(impl, HolderKind::kLocal, nullptr);
}

void Tracer::AddOp(OpKind kind, std::span<const Tensor* const> inputs, size_t results, const Attributes& a) {
  Op op;
  op.kind = kind;
  op.thread = thread;
  op.scope = scope;
  op.node = node;
  if (!(a == Attributes{})) op.attributes = graph_.attributes.Add(a);
  op.first_operand = static_cast<uint32_t>(graph_.operands.size());
  op.results = static_cast<uint16_t>(results);
  for (const Tensor* t : inputs) {
    if (t == nullptr || !t->defined()) continue;
    ++op.inputs;
    graph_.operands.push_back(IdOf(*t->impl()));
  }
  graph_.program.emplace_back(graph_.ops.Add(op));
  if (functional) recompute_regions_.push_back(recompute_region);
}

void Tracer::Emit(OpKind kind, std::span<const Tensor* const> inputs, std::span<const ResultType> types,
                  std::span<Tensor> results, const Attributes& a) {
  const OpId op(graph_.ops.size());
  AddOp(kind, inputs, types.size(), a);
  for (size_t i = 0; i < types.size(); ++i) results[i] = NewTensor(types[i], op, i);
}

void Tracer::EmitOnto(OpKind kind, std::span<const Tensor* const> inputs, std::span<const ResultType> types,
                      std::span<const Tensor* const> onto, std::span<Tensor> results, const Attributes& a) {
  const OpId op(graph_.ops.size());
  AddOp(kind, inputs, types.size(), a);
  for (size_t i = 0; i < types.size(); ++i) {
    if (onto[i] == nullptr) {
      results[i] = NewTensor(types[i], op, i);
      continue;
    }
    results[i] = Reinterpret(*onto[i], types[i].dtype, types[i].layout);
    graph_.operands.push_back(IdOf(*results[i].impl()));
  }
}

Tensor Tracer::Emit(OpKind kind, std::span<const Tensor* const> inputs, const ResultType& result, const Attributes& a) {
  const OpId op(graph_.ops.size());
  AddOp(kind, inputs, 1, a);
  return NewTensor(result, op, 0);
}

void Tracer::EmitInPlace(OpKind kind, std::span<const Tensor* const> inputs, std::span<const Tensor* const> changed,
                         const Attributes& a) {
  AddOp(kind, inputs, changed.size(), a);
  for (const Tensor* t : changed) graph_.operands.push_back(IdOf(*t->impl()));
}

Tensor Tracer::View(const Tensor& t, const ViewOp& how, const Dims& sizes, const Dims& strides, int64_t offset) {
  if (functional) return Emit(how.kind, {&t}, {t.dtype(), {sizes, strides}}, how.attributes);
  TensorImpl* impl = NewImpl();
  const TensorImpl& from = *t.impl();
  impl->storage = from.storage;
  impl->dtype = from.dtype;
  impl->offset = from.offset + offset;
  impl->sizes = sizes;
  impl->strides = strides;
  impl->base = Tensor(from.base.defined() ? from.base : t, HolderKind::kBase);
  return Adopt(impl, HolderKind::kLocal, nullptr);
}

Tensor Tracer::Reinterpret(const Tensor& t, DType dtype, const Layout& layout, int64_t offset, HolderKind kind,
                           const char* holder_node) {
  TensorImpl* impl = NewImpl();
  const TensorImpl& from = *t.impl();
  impl->storage = from.storage;
  const bool same = from.dtype == dtype && from.offset == offset && from.sizes == layout.sizes;
  if (same && from.strides == layout.strides) impl->id = from.id;
  impl->dtype = dtype;
  impl->offset = offset;
  impl->sizes = layout.sizes;
  impl->strides = layout.strides;
  return Adopt(impl, kind, holder_node);
}

Tensor Tracer::Detach(const Tensor& t, HolderKind kind, const char* holder_node) {
  TensorImpl* impl = NewImpl();
  const TensorImpl& from = *t.impl();
  impl->storage = from.storage;
  impl->id = from.id;
  impl->dtype = from.dtype;
  impl->offset = from.offset;
  impl->sizes = from.sizes;
  impl->strides = from.strides;
  return Adopt(impl, kind, holder_node);
}

}  // namespace tidemark
