#include "passes/chunk_loss.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>

#include "graph/lifetimes.h"
#include "passes/edit.h"
#include "passes/head_loss.h"

namespace tidemark {
namespace {

struct Rows {
  int64_t begin = 0;
  int64_t count = 0;
};

std::vector<Rows> ChunksOf(int64_t rows, int64_t columns, int64_t width, int64_t wanted) {
  int64_t size = 0;
  if (wanted > 0) {
    size = (rows + wanted - 1) / wanted;
  } else {  // a power of two, as few chunks as keep logits below the input
    const int64_t chunks = std::max<int64_t>(1, (columns + width - 1) / width);
    size = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>((rows + chunks - 1) / chunks)));
  }
  std::vector<Rows> chunks;
  for (int64_t begin = 0; begin < rows; begin += size) chunks.push_back({begin, std::min(size, rows - begin)});
  return chunks;
}

// Rewrites one head with its loss.
class Chunker {
 public:
  Chunker(const Graph& graph, const Lifetimes& lives, const HeadLoss& head, const ChunkLossPass& pass,
          GraphEditor& editor)
      : graph_(graph), lives_(lives), head_(head), editor_(editor) {
    const TensorInfo& logits = graph.tensors[graph.Results(graph.ops[head.product()])[0]];
    rows_ = logits.sizes[0];
    columns_ = logits.sizes[1];
    width_ = graph.tensors[head.input].sizes[1];
    chunks_ = ChunksOf(rows_, columns_, width_, pass.chunks);
    early_ = pass.gradient_early && !head.backward.empty();
  }

  std::string Describe() const {
    const DType dtype = graph_.tensors[graph_.Results(graph_.ops[head_.product()])[0]].dtype;
    const auto mib = [&](int64_t rows) { return (SizeOf(dtype) * rows * columns_) / kMiB; };
    return fmt::format(
        "{} chunks of {} rows, each with {:.1f} MiB of logits instead of {:.1f}; whoever called the model "
        "gets no logits",
        chunks_.size(), chunks_.front().count, mib(chunks_.front().count), mib(rows_));
  }

  void Run() {
    for (const OpId op : head_.forward) Erase(op);
    for (const auto* ops : {&head_.backward, &head_.input_gradient, &head_.weight_gradient, &head_.bias_gradient}) {
      for (const OpId op : *ops) Erase(op);
    }
    Loss();
    if (!head_.backward.empty()) early_ ? MultiplyGradients() : Gradients();
  }

 private:
  void Erase(OpId op) { editor_.Erase(lives_.op_at[op]); }

  // --- Ops of the new program: each goes right before the step at `at_`.
  OpId Emit(OpKind kind, std::vector<TensorId> inputs, std::vector<TensorId> results, const Attributes& a = {}) {
    Op op;
    op.kind = kind;
    op.scope = graph_.ops[head_.nll()].scope;
    op.node = node_;
    op.thread = thread_;
    if (!(a == Attributes{})) op.attributes = editor_.graph().attributes.Add(a);
    const OpId id = editor_.AddOp(op, inputs, results);
    editor_.InsertBefore(at_, Step(id));
    return id;
  }
  OpId NextOp() const { return OpId(editor_.graph().ops.size()); }

  // A new storage that the next op produces, with its whole tensor.
  TensorId New(DType dtype, const Dims& sizes, Role role = Role::kLogitsAndLoss, uint16_t result = 0) {
    const StorageId storage =
        editor_.AddStorage({SizeOf(dtype) * NumElements(sizes), NextOp(), result, role, ScopeId()});
    return editor_.AddTensor({storage, dtype, 0, sizes, ContiguousStrides(sizes)});
  }
  // An old storage, which the next op produces now.
  TensorId Produced(TensorId whole, uint16_t result = 0) {
    Storage& storage = editor_.graph().storages[graph_.tensors[whole].storage];
    storage.producer = NextOp();
    storage.result = result;
    return whole;
  }
  StorageId StorageOf(TensorId tensor) const { return editor_.graph().tensors[tensor].storage; }
  HolderId Hold(TensorId tensor, OpId since) {
    return editor_.AddHolder(StorageOf(tensor), HolderKind::kLocal, since, graph_.ops[head_.nll()].scope);
  }
  void Release(HolderId holder) { editor_.InsertBefore(at_, Step(holder)); }

  TensorId Slice(TensorId tensor, const Rows& rows) {
    TensorInfo t = editor_.graph().tensors[tensor];
    t.offset += rows.begin * t.strides[0];
    t.sizes[0] = rows.count;
    return editor_.AddTensor(t);
  }
  TensorId Transposed(TensorId tensor) {
    TensorInfo t = editor_.graph().tensors[tensor];
    std::swap(t.sizes[0], t.sizes[1]);
    std::swap(t.strides[0], t.strides[1]);
    return editor_.AddTensor(t);
  }
  TensorId FlatTargets() {
    TensorInfo t = graph_.tensors[head_.targets];
    t.sizes = {rows_};
    t.strides = {1};
    return editor_.AddTensor(t);
  }

  // A name of a chunk: it lives until it is bound to something else.
  struct Name {
    TensorId tensor;
    HolderId holder;
  };
  void Bind(Name& name, TensorId tensor, OpId producer) {
    const HolderId holder = Hold(tensor, producer);
    if (name.holder.valid()) Release(name.holder);
    name = {tensor, holder};
  }

  // Results of a chunk that its gradients read, by the old storage.
  using Kept = std::map<StorageId, Name>;
  void ReleaseAll(const Kept& kept) {
    for (const auto& [storage, name] : kept) Release(name.holder);
  }

  // The product, casts and the log-softmax of some rows; returns the last result. With `kept`, results that backward
  // reads go there, and whoever called releases them; the last one is there in any case.
  Name ForwardOf(const Rows& rows, Kept* kept) {
    Name name;
    bool stays = false;
    for (const OpId old : head_.forward) {
      if (old == head_.nll()) break;
      const Op op = graph_.ops[old];
      std::vector<TensorId> inputs(graph_.Inputs(op).begin(), graph_.Inputs(op).end());
      if (old == head_.product()) {
        inputs[op.kind == OpKind::kAddmm ? 1 : 0] = Slice(head_.input, rows);
      } else {
        inputs[0] = name.tensor;
      }
      const TensorInfo result = graph_.tensors[graph_.Results(op)[0]];
      const TensorId made = New(result.dtype, {rows.count, columns_});
      const HolderId holder = Hold(made, Emit(op.kind, inputs, {made}, AttributesOf(op)));
      if (name.holder.valid() && !stays) Release(name.holder);
      name = {made, holder};
      const bool last = old == head_.forward[head_.forward.size() - 2];
      stays = kept != nullptr && (last || ReadInBackward(result.storage));
      if (stays) (*kept)[result.storage] = name;
    }
    return name;
  }

  Attributes AttributesOf(const Op& op) const {
    return op.attributes.valid() ? graph_.attributes[op.attributes] : Attributes{};
  }

  bool ReadInBackward(StorageId storage) const {
    for (const OpId op : head_.backward) {
      for (size_t i = 1; i < graph_.ops[op].inputs; ++i) {
        if (graph_.tensors[graph_.Inputs(graph_.ops[op])[i]].storage == storage) return true;
      }
    }
    return false;
  }

  Attributes NllAttributes(bool sum) const {
    Attributes a = AttributesOf(graph_.ops[head_.nll()]);
    a.integer[1] = sum ? 1 : 0;
    return a;
  }

  // What the product reads has to be there where it runs now. Returns who sees to it.
  std::vector<HolderId> HoldInputs() {
    std::vector<HolderId> holders;
    for (const TensorId input : graph_.Inputs(graph_.ops[head_.product()])) {
      const StorageId storage = graph_.tensors[input].storage;
      if (lives_.dies[storage] > at_) continue;
      holders.push_back(editor_.AddHolder(storage, HolderKind::kLocal, graph_.storages[storage].producer, ScopeId()));
    }
    return holders;
  }

  // --- Forward
  void Loss() {
    at_ = lives_.op_at[head_.nll()];
    thread_ = graph_.ops[head_.nll()].thread;
    node_ = graph_.ops[head_.nll()].node;
    const std::vector<HolderId> held = HoldInputs();
    const TensorId count = graph_.Results(graph_.ops[head_.nll()])[1];
    const DType dtype = graph_.tensors[count].dtype;
    HolderId holds_count;
    if (early_) holds_count = CountTargets(count, dtype);
    Name total;
    for (const Rows& rows : chunks_) {
      Kept kept;
      const Name last = ForwardOf(rows, early_ ? &kept : nullptr);
      const bool first = rows.begin == 0;
      const bool counts = !early_ && first;
      const TensorId sum = New(dtype, {});
      const TensorId counted = counts ? Produced(count, 1) : New(dtype, {}, Role::kLogitsAndLoss, 1);
      const OpId nll =
          Emit(OpKind::kNllLoss, {last.tensor, Slice(FlatTargets(), rows)}, {sum, counted}, NllAttributes(true));
      const HolderId holds_sum = Hold(sum, nll);
      const HolderId holds_counted = Hold(counted, nll);
      if (counts) holds_count = holds_counted;
      if (first) {
        total = {sum, holds_sum};
        if (!counts) Release(holds_counted);
      } else {
        Emit(OpKind::kAdd, {total.tensor, sum}, {total.tensor}, {.number = 1});
        if (!early_) Emit(OpKind::kAdd, {count, counted}, {count}, {.number = 1});
        Release(holds_sum);
        Release(holds_counted);
      }
      if (early_) {
        GradientsOf(rows, kept, one_, count);
        ReleaseAll(kept);
      } else {
        Release(last.holder);
      }
    }
    const TensorId loss = graph_.Results(graph_.ops[head_.nll()])[0];
    Emit(OpKind::kDiv, {total.tensor, count}, {Produced(loss)});
    Release(total.holder);
    Release(holds_count);
    for (const HolderId holder : held) Release(holder);
    if (early_) Release(holds_one_);
  }

  // --- Backward
  struct End {
    OpId op;  // the product or sum that made the gradient
    TensorId gradient;
    HolderId holder;
  };

  // The gradients of some rows: of the input into its rows, the others added up.
  void GradientsOf(const Rows& rows, const Kept& kept, TensorId gradient, TensorId count) {
    Name name;
    for (const OpId old : head_.backward) {
      const Op op = graph_.ops[old];
      std::vector<TensorId> inputs;
      if (op.kind == OpKind::kNllLossBackward) {
        const StorageId self = graph_.tensors[graph_.Inputs(op)[1]].storage;
        inputs = {gradient, kept.at(self).tensor, Slice(FlatTargets(), rows), count};
      } else {
        inputs = {name.tensor};
        if (op.kind == OpKind::kLogSoftmaxBackward) {
          inputs.push_back(kept.at(graph_.tensors[graph_.Inputs(op)[1]].storage).tensor);
        }
      }
      const TensorInfo& result = graph_.tensors[graph_.Results(op)[0]];
      const TensorId made = New(result.dtype, {rows.count, columns_}, graph_.storages[result.storage].role);
      Bind(name, made, Emit(op.kind, inputs, {made}, AttributesOf(op)));
    }
    for (const OpId op : head_.weight_gradient) WeightGradient(op, rows, name.tensor);
    for (const OpId op : head_.bias_gradient) {
      Collect(op, OpKind::kSum, {name.tensor}, AttributesOf(graph_.ops[op]));
    }
    for (const OpId op : head_.input_gradient) InputGradient(op, rows, name.tensor);
    Release(name.holder);
  }

  End* EndOf(OpId op) {
    const auto found = std::ranges::find(ends_, op, &End::op);
    return found == ends_.end() ? nullptr : &*found;
  }

  // The tensor that a gradient is collected in: the old one, or (early) one that waits for backward.
  TensorId Collected(OpId op) {
    const TensorId whole = graph_.Results(graph_.ops[op])[0];
    if (!early_) return Produced(whole);
    const TensorInfo& t = graph_.tensors[whole];
    const Storage& old = graph_.storages[t.storage];
    return editor_.AddTensor(
        {editor_.AddStorage({old.bytes, NextOp(), 0, old.role, ScopeId()}), t.dtype, 0, t.sizes, t.strides});
  }

  void Collect(OpId old, OpKind kind, const std::vector<TensorId>& inputs, const Attributes& a) {
    if (End* end = EndOf(old); end != nullptr) {
      const TensorInfo t = editor_.graph().tensors[end->gradient];
      const StorageId part = editor_.AddStorage(
          {SizeOf(t.dtype) * NumElements(t.sizes), NextOp(), 0, Role::kActivationGradient, ScopeId()});
      const TensorId made = editor_.AddTensor({part, t.dtype, 0, t.sizes, t.strides});
      const HolderId holder = Hold(made, Emit(kind, inputs, {made}, a));
      Emit(OpKind::kAdd, {end->gradient, made}, {end->gradient}, {.number = 1});
      Release(holder);
      return;
    }
    const TensorId whole = Collected(old);
    const OpId op = Emit(kind, inputs, {whole}, a);
    ends_.push_back({old, whole, Hold(whole, op)});
  }

  void WeightGradient(OpId old, const Rows& rows, TensorId gradient) {
    const Op op = graph_.ops[old];
    const TensorInfo& left = graph_.tensors[graph_.Inputs(op)[0]];
    const bool gradient_first = left.sizes[0] == columns_ && left.sizes[1] == rows_;
    const TensorId input = Slice(head_.input, rows);
    if (gradient_first) {
      Collect(old, OpKind::kMm, {Transposed(gradient), input}, {});
    } else {
      Collect(old, OpKind::kMm, {Transposed(input), gradient}, {});
    }
  }

  void InputGradient(OpId old, const Rows& rows, TensorId gradient) {
    const Op op = graph_.ops[old];
    if (EndOf(old) == nullptr) {
      const TensorId whole = Collected(old);
      const OpId full = Emit(OpKind::kFull, {}, {whole});
      ends_.push_back({old, whole, Hold(whole, full)});
    }
    const TensorId whole = EndOf(old)->gradient;
    const TensorId made = New(editor_.graph().tensors[whole].dtype, {rows.count, width_}, Role::kActivationGradient);
    const HolderId holder = Hold(made, Emit(OpKind::kMm, {gradient, graph_.Inputs(op)[1]}, {made}));
    const TensorId part = Slice(whole, rows);
    Emit(OpKind::kCopyInto, {part, made}, {part});
    Release(holder);
  }

  void EnterBackward() {
    const OpId nll = head_.backward.front();
    at_ = lives_.op_at[nll];
    thread_ = graph_.ops[nll].thread;
    node_ = graph_.ops[nll].node;
  }

  void Gradients() {
    EnterBackward();
    const Op& nll = graph_.ops[head_.backward.front()];
    const std::vector<HolderId> held = HoldInputs();  // a bias, which nobody saved
    for (const Rows& rows : chunks_) {
      Kept kept;
      ForwardOf(rows, &kept);
      GradientsOf(rows, kept, graph_.Inputs(nll)[0], graph_.Inputs(nll)[3]);
      ReleaseAll(kept);
    }
    for (const HolderId holder : held) Release(holder);
    // From here on the old holders hold them.
    for (const End& end : ends_) editor_.InsertAfter(lives_.op_at[end.op], Step(end.holder));
  }

  // --- Early gradients
  HolderId CountTargets(TensorId count, DType dtype) {
    const Attributes nll = NllAttributes(false);
    const TensorId targets = FlatTargets();
    const TensorId counts = New(DType::kBool, {rows_});
    const OpId compare =
        Emit(OpKind::kCompare, {targets}, {counts},
             {.number = static_cast<double>(nll.integer[0]), .integer = {static_cast<int64_t>(Comparison::kNotEqual)}});
    const HolderId holds_counts = Hold(counts, compare);
    const TensorId numbers = New(dtype, {rows_});
    const HolderId holds_numbers = Hold(numbers, Emit(OpKind::kToCopy, {counts}, {numbers}));
    Release(holds_counts);
    const HolderId holder = Hold(count, Emit(OpKind::kSum, {numbers}, {Produced(count)}));
    Release(holds_numbers);
    one_ = New(dtype, {});
    holds_one_ = Hold(one_, Emit(OpKind::kFull, {}, {one_}, {.number = 1}));
    return holder;
  }

  // Backward: what was collected, times the gradient of the loss.
  void MultiplyGradients() {
    const OpId nll = head_.backward.front();
    const TensorId gradient = graph_.Inputs(graph_.ops[nll])[0];
    const StorageId storage = graph_.tensors[gradient].storage;
    std::ranges::sort(ends_, {}, [&](const End& end) { return lives_.op_at[end.op]; });
    EnterBackward();
    const uint32_t last = lives_.op_at[ends_.back().op];
    if (lives_.dies[storage] <= last) {
      const HolderId holder =
          editor_.AddHolder(storage, HolderKind::kLocal, graph_.storages[storage].producer, ScopeId());
      editor_.InsertAfter(last, Step(holder));
    }
    for (const End& end : ends_) {
      at_ = lives_.op_at[end.op];
      const Op& old = graph_.ops[end.op];
      node_ = old.node;
      Emit(OpKind::kMul, {end.gradient, gradient}, {Produced(graph_.Results(old)[0])});
      Release(end.holder);
    }
  }

  const Graph& graph_;
  const Lifetimes& lives_;
  const HeadLoss& head_;
  GraphEditor& editor_;
  int64_t rows_ = 0, columns_ = 0, width_ = 0;
  std::vector<Rows> chunks_;
  bool early_ = false;
  uint32_t at_ = 0;
  Thread thread_ = Thread::kMain;
  const char* node_ = nullptr;
  std::vector<End> ends_;
  TensorId one_;
  HolderId holds_one_;
};

// A scaler's factor comes into the gradient behind the loss.
bool IsScaled(const Graph& graph) {
  for (const Op& op : graph.ops) {
    if (op.kind == OpKind::kUpdateScale) return true;
  }
  return false;
}

}  // namespace

Result<PassResult> ChunkLoss(Graph graph, const PassConfig& config, const PassContext& /*context*/) {
  const auto& pass = std::get<ChunkLossPass>(config);
  const std::vector<HeadLoss> heads = FindHeadLosses(graph, Uses(graph));
  if (heads.empty()) {
    return InvalidInput(
        "passes.chunk_loss: there is no product whose casts and log-softmax only nll_loss reads (it stands before "
        "recompute, offload and fuse, and finds none in compiled runs, whose kernels hold them)");
  }
  if (pass.gradient_early && IsScaled(graph)) {
    return InvalidInput(
        "passes.chunk_loss: gradient_early computes gradients before the scaler's factor: in fp16 small ones would be "
        "lost; leave it out, or use bf16");
  }
  const Lifetimes lives = LifetimesOf(graph);
  GraphEditor editor(graph);
  std::string note;
  for (const HeadLoss& head : heads) {
    Chunker chunker(graph, lives, head, pass, editor);
    chunker.Run();
    if (note.empty()) note = chunker.Describe();
  }
  return PassResult{std::move(editor).Finish(), {std::move(note)}};
}

}  // namespace tidemark
