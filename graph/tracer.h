// The tracer records a graph while a program runs: modules written as their Python originals are, on tensor handles
// that count references. A handle going out of scope is the release, in the place where Python's would be.
//
// Three counts, as in PyTorch:
//   Tensor (a handle)  ->  TensorImpl (sizes, strides, history)  ->  storage
// A storage lives while a handle to any tensor on it lives; every handle is a holder in the graph. A view also holds
// the tensor it was made from. The engine's in-place rule asks for the handles of a tensor (use_count) and the tensors
// of a storage (storage_holders).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/device.h"
#include "graph/graph.h"
#include "graph/run_config.h"

namespace tidemark {

class Tracer;
struct TensorImpl;
struct Node;

// A counted reference to an autograd node. Nodes are freed with their last reference, iteratively (a chain of them can
// be as long as the program).
class NodeRef {
 public:
  NodeRef() = default;
  explicit NodeRef(Node* node);  // takes a new reference
  NodeRef(const NodeRef& other) : NodeRef(other.node_) {}
  NodeRef(NodeRef&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  NodeRef& operator=(NodeRef other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~NodeRef() { Reset(); }
  void Reset();
  void Forget() { node_ = nullptr; }  // without a release: the tracer is going
  Node* get() const { return node_; }
  Node* operator->() const { return node_; }
  Node& operator*() const { return *node_; }
  explicit operator bool() const { return node_ != nullptr; }

 private:
  Node* node_ = nullptr;
};

// A handle. Copying one makes another holder; moving doesn't.
class Tensor {
 public:
  Tensor() = default;
  Tensor(const Tensor& other) : Tensor(other, HolderKind::kLocal) {}
  // A further handle on the same tensor, whose holder is of another kind.
  Tensor(const Tensor& other, HolderKind kind, const char* node = nullptr);
  Tensor(Tensor&& other) noexcept : impl_(std::exchange(other.impl_, nullptr)), hold_(other.hold_) {}
  Tensor& operator=(const Tensor& other) {
    if (this != &other) *this = Tensor(other);
    return *this;
  }
  Tensor& operator=(Tensor&& other) noexcept;  // takes the new one, then drops the old one, as rebinding a name does
  ~Tensor() { Reset(); }

  void Reset();
  void Forget() { impl_ = nullptr; }  // without a release: the tracer is going
  bool defined() const { return impl_ != nullptr; }
  explicit operator bool() const { return defined(); }
  TensorImpl* impl() const { return impl_; }

  inline const Dims& sizes() const;
  inline const Dims& strides() const;
  inline int64_t size(int i) const;  // negative: from the end
  inline int dims() const;
  inline DType dtype() const;
  inline bool requires_grad() const;
  inline Tracer& tracer() const;
  Layout layout() const { return {sizes(), strides()}; }
  bool IsContiguous() const { return tidemark::IsContiguous(sizes(), strides()); }
  int64_t NumElements() const { return tidemark::NumElements(sizes()); }

 private:
  friend class Tracer;
  TensorImpl* impl_ = nullptr;
  HolderId hold_;
};

struct TensorImpl {
  Tracer* tracer = nullptr;
  uint32_t handles = 0;
  StorageId storage;
  TensorId id;  // in the graph, once an op has used it
  DType dtype = DType::kFloat32;
  bool requires_grad = false;
  uint32_t output_number = 0;  // of grad_fn
  int64_t offset = 0;
  Dims sizes;
  Dims strides;
  Tensor base;                // of a view
  NodeRef grad_fn;            // none: a leaf
  NodeRef accumulator;        // of a parameter
  Node* leaf_node = nullptr;  // of another leaf that requires grad: its accumulator, which holds the leaf
  Tensor grad;                // .grad of a leaf
  Tensor cast;                // of a parameter: its entry in autocast's cache
};

inline const Dims& Tensor::sizes() const { return impl_->sizes; }
inline const Dims& Tensor::strides() const { return impl_->strides; }
inline int64_t Tensor::size(int i) const { return impl_->sizes[i < 0 ? i + impl_->sizes.size() : i]; }
inline int Tensor::dims() const { return impl_->sizes.size(); }
inline DType Tensor::dtype() const { return impl_->dtype; }
inline bool Tensor::requires_grad() const { return impl_->requires_grad; }
inline Tracer& Tensor::tracer() const { return *impl_->tracer; }

// A parameter of an operator, as a call in Python would pass it: a name's tensor is borrowed, a temporary is taken over
// and dies when the operator has returned (operators drop their operands left to right as their last act).
class Operand {
 public:
  Operand() = default;
  Operand(const Tensor& name) : tensor_(&name) {}                // NOLINT(google-explicit-constructor)
  Operand(Tensor&& temporary) : owned_(std::move(temporary)) {}  // NOLINT(google-explicit-constructor)
  Operand(Operand&& other) noexcept = default;
  Operand& operator=(Operand&& other) noexcept = default;
  const Tensor& operator*() const { return tensor_ != nullptr ? *tensor_ : owned_; }
  const Tensor* operator->() const { return &**this; }
  bool defined() const { return (**this).defined(); }
  void Drop() {
    owned_.Reset();
    tensor_ = nullptr;
  }
  // The tensor as a name of the callee: a borrowed one is copied.
  Tensor Take() {
    if (tensor_ == nullptr) return std::move(owned_);
    const Tensor* borrowed = std::exchange(tensor_, nullptr);
    return *borrowed;
  }

 private:
  const Tensor* tensor_ = nullptr;
  Tensor owned_;
};

template <typename... Operands>
void Drop(Operands&... operands) {
  (operands.Drop(), ...);
}

// What an op's result looks like.
struct ResultType {
  DType dtype;
  Layout layout;
  Role role = Role::kActivation;
  int64_t elements = 0;  // of its storage, where those are more than the tensor's
};
inline ResultType Contiguous(DType dtype, const Dims& sizes, Role role = Role::kActivation) {
  return {dtype, {sizes, ContiguousStrides(sizes)}, role};
}

// The operator that makes a view, as op_list.def has it.
struct ViewOp {
  OpKind kind = OpKind::kView;
  Attributes attributes;
};

// Autocast: which number format, and the cache of weight casts.
struct Autocast {
  bool enabled = false;
  DType dtype = DType::kFloat16;
  int depth = 0;                     // nested regions; the cache is cleared when the outermost ends
  std::vector<Tensor> cached_owner;  // parameters with a cached cast, in order of casting
};

class CheckpointFrame;

class Tracer {
 public:
  explicit Tracer(const DeviceSpec& device);
  ~Tracer();
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  const DeviceSpec& device() const { return device_; }
  Graph& graph() { return graph_; }
  // Makes room for about as many ops, where the caller can tell.
  void Reserve(size_t ops);
  // The recorded graph. Handles that still live are what is alive at the end.
  Graph TakeGraph();

  // --- Recording
  // An op with results of their own storage.
  Tensor Emit(OpKind kind, std::span<const Tensor* const> inputs, const ResultType& result, const Attributes& a = {});
  void Emit(OpKind kind, std::span<const Tensor* const> inputs, std::span<const ResultType> types,
            std::span<Tensor> results, const Attributes& a = {});
  Tensor Emit(OpKind kind, std::initializer_list<const Tensor*> inputs, const ResultType& result,
              const Attributes& a = {}) {
    return Emit(kind, std::span(inputs.begin(), inputs.size()), result, a);
  }
  // The same, where a result takes over the memory of `onto[i]`, unless that is null.
  void EmitOnto(OpKind kind, std::span<const Tensor* const> inputs, std::span<const ResultType> types,
                std::span<const Tensor* const> onto, std::span<Tensor> results, const Attributes& a = {});
  // An op that changes `changed` (some of its inputs) in place.
  void EmitInPlace(OpKind kind, std::span<const Tensor* const> inputs, std::span<const Tensor* const> changed,
                   const Attributes& a = {});
  void EmitInPlace(OpKind kind, std::initializer_list<const Tensor*> inputs,
                   std::initializer_list<const Tensor*> changed, const Attributes& a = {}) {
    EmitInPlace(kind, std::span(inputs.begin(), inputs.size()), std::span(changed.begin(), changed.size()), a);
  }
  // A view of t's storage, which holds t (or the tensor that t is a view of). No history. `how`: the operator, which
  // only a captured program records.
  Tensor View(const Tensor& t, const ViewOp& how, const Dims& sizes, const Dims& strides, int64_t offset = 0);
  // Another tensor on the same storage, without base and history: detach(), and what a node saves of its own result.
  Tensor Detach(const Tensor& t, HolderKind kind = HolderKind::kLocal, const char* node = nullptr);
  // The same with another number format and shape.
  Tensor Reinterpret(const Tensor& t, DType dtype, const Layout& layout, int64_t offset = 0,
                     HolderKind kind = HolderKind::kLocal, const char* node = nullptr);
  void SetRole(const Tensor& t, Role role) { graph_.storages[t.impl()->storage].role = role; }
  void SetName(const Tensor& t, ScopeId name) { graph_.storages[t.impl()->storage].name = name; }
  Role RoleOf(const Tensor& t) const { return graph_.storages[t.impl()->storage].role; }
  // Bytes of the storages that live, each rounded up to a block of the caching allocator, and their highest sum so far.
  Bytes live_bytes() const { return live_bytes_; }
  Bytes live_peak() const { return live_peak_; }
  uint32_t storage_holders(const Tensor& t) const { return storage_tensors_[t.impl()->storage.index()]; }

  // Whoever runs the graph may look at t at the beginning of the current phase.
  void AddProbe(ProbeKind kind, const Tensor& t, ScopeId name = {}) {
    graph_.probes.push_back({kind, PhaseId(graph_.phases.size() - 1), IdOf(*t.impl()), name});
  }
  void BeginPhase(Phase phase) { graph_.program.emplace_back(graph_.phases.Add(std::move(phase))); }
  // Notes, once, what is assumed where a decision hangs on something that isn't known (Graph::assumptions).
  void Assume(std::string_view what);
  ScopeId AddScope(std::string path) { return graph_.scopes.Add(std::move(path)); }

  // The program is captured for a compiler, not run: views are ops with results of their own, nothing is changed in
  // place, casts of weights aren't cached. Such a graph says what is computed; holders in it mean nothing.
  bool functional = false;
  // Functional: the sequence length is open. A slice of all of it is a slice like others, whose gradient is scattered
  // into zeros: that it changes nothing is seen by the compiler only.
  bool open_length = false;
  // Functional: ops recorded from here on belong to this region, which backward may run again; -1: to none.
  int32_t recompute_region = -1;
  int32_t NextRecomputeRegion() { return recompute_region_count_++; }
  const std::vector<int32_t>& recompute_regions() const { return recompute_regions_; }  // by op; functional only

  // --- State of the running program, as PyTorch's thread-local state
  bool grad_enabled = true;
  bool training = true;
  AttentionChoice attention = AttentionChoice::kAuto;  // torch.nn.attention.sdpa_kernel
  Autocast autocast;
  ScopeId scope;                         // module in which the program is
  const char* node = nullptr;            // autograd node that is running
  Role result_role = Role::kActivation;  // of results whose maker says nothing
  Thread thread = Thread::kMain;
  std::shared_ptr<CheckpointFrame> saving_frame;  // a checkpointed region is running: its saves go there
  uint64_t NextSequenceNumber() { return sequence_number_++; }
  uint32_t running_backwards = 0;  // nested ones included
  uint32_t NextPassNumber() { return ++pass_number_; }
  // What PyTorch would refuse to run: the trace goes on, but stands for nothing. The first reason is kept.
  void Refuse(std::string reason) {
    if (refusal.empty()) refusal = std::move(reason);
  }
  std::string refusal;
  // Number of the next random op: it and the element's index are what a random number is made from. A region that runs
  // again starts from the number that it started from before.
  int64_t next_random = 0;

  // --- Memory of handles and nodes (for Tensor, NodeRef)
  HolderId Hold(const TensorImpl& impl, HolderKind kind, const char* holder_node);
  void Release(HolderId holder) { graph_.program.emplace_back(holder); }
  void Free(TensorImpl* impl);
  TensorImpl* NewImpl();
  Node* NewNode();
  void FreeNode(Node* node);

 private:
  void AddOp(OpKind kind, std::span<const Tensor* const> inputs, size_t results, const Attributes& a);
  TensorId IdOf(TensorImpl& impl);
  Tensor NewTensor(const ResultType& type, OpId producer, size_t result);
  Tensor Adopt(TensorImpl* impl, HolderKind kind, const char* holder_node);

  DeviceSpec device_;
  Graph graph_;
  std::vector<uint32_t> storage_tensors_;  // by storage: how many TensorImpls
  Bytes live_bytes_;
  Bytes live_peak_;
  int32_t recompute_region_count_ = 0;
  std::vector<int32_t> recompute_regions_;
  uint64_t sequence_number_ = 0;
  uint32_t pass_number_ = 0;
  std::vector<std::unique_ptr<TensorImpl[]>> impl_blocks_;
  std::vector<TensorImpl*> free_impls_;
  std::vector<std::unique_ptr<Node[]>> node_blocks_;
  std::vector<Node*> free_nodes_;
  std::vector<Node*> dying_nodes_;
  bool freeing_nodes_ = false;
};

// While it lives, the program is in a module. REQUIRES: dies in reverse order.
class InScope {
 public:
  InScope(Tracer& tracer, ScopeId scope) : tracer_(tracer), outer_(std::exchange(tracer.scope, scope)) {}
  ~InScope() { tracer_.scope = outer_; }
  InScope(const InScope&) = delete;
  InScope& operator=(const InScope&) = delete;

 private:
  Tracer& tracer_;
  ScopeId outer_;
};

// torch.no_grad(), torch.enable_grad()
class GradMode {
 public:
  GradMode(Tracer& tracer, bool enabled) : tracer_(tracer), outer_(std::exchange(tracer.grad_enabled, enabled)) {}
  ~GradMode() { tracer_.grad_enabled = outer_; }
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  Tracer& tracer_;
  bool outer_;
};

}  // namespace tidemark
