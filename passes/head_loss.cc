#include "passes/head_loss.h"

#include <algorithm>

#include "graph/shape.h"

namespace tidemark {
namespace {

class Finder {
 public:
  Finder(const Graph& graph, const Uses& uses) : graph_(graph), uses_(uses) {}

  std::optional<HeadLoss> Find(OpId nll) {
    found_ = {};
    if (!FindForward(nll) || !FindBackward()) return std::nullopt;
    return found_;
  }

 private:
  const Op& At(OpId op) const { return graph_.ops[op]; }
  TensorId In(OpId op, size_t i) const { return graph_.Inputs(At(op))[i]; }
  const TensorInfo& Info(TensorId tensor) const { return graph_.tensors[tensor]; }
  StorageId StorageOf(TensorId tensor) const { return Info(tensor).storage; }
  StorageId ResultOf(OpId op, size_t i = 0) const { return StorageOf(graph_.Results(At(op))[i]); }

  // The op that made all of the storage; none where it was changed afterwards.
  OpId SoleWriter(StorageId storage) const {
    OpId writer;
    for (const Use& use : uses_.Of(storage)) {
      if (!use.writes) continue;
      if (writer.valid()) return {};
      writer = use.op;
    }
    return writer;
  }

  bool FindForward(OpId nll) {
    found_.forward = {nll};
    found_.targets = In(nll, 1);
    found_.loss = ResultOf(nll, 0);
    found_.count = ResultOf(nll, 1);
    if (!IsContiguous(Info(found_.targets).sizes, Info(found_.targets).strides)) return false;
    bool normalised = false;
    for (TensorId tensor = In(nll, 0);;) {
      if (!IsContiguous(Info(tensor).sizes, Info(tensor).strides)) return false;
      const OpId writer = SoleWriter(StorageOf(tensor));
      if (!writer.valid()) return false;
      found_.forward.insert(found_.forward.begin(), writer);
      const OpKind kind = At(writer).kind;
      if (kind == OpKind::kMm || kind == OpKind::kAddmm) {
        found_.input = In(writer, kind == OpKind::kAddmm ? 1 : 0);
        return normalised && Info(found_.input).strides[1] == 1;
      }
      if (kind != OpKind::kToCopy && kind != OpKind::kLogSoftmax) return false;
      normalised = normalised || kind == OpKind::kLogSoftmax;
      tensor = In(writer, 0);
    }
  }

  // Whether only ops of the chain, and `reader` of them, read it.
  bool FindBackward() {
    for (const Use& use : uses_.Of(found_.count)) {
      if (At(use.op).kind == OpKind::kNllLossBackward) found_.backward = {use.op};
    }
    if (found_.backward.empty()) return ReadOnlyByChain();
    for (;;) {
      const StorageId gradient = ResultOf(found_.backward.back());
      OpId next;
      for (const Use& use : uses_.Of(gradient)) {
        if (use.op == found_.backward.back()) continue;
        if (use.writes) return false;
        const OpKind kind = At(use.op).kind;
        if (kind == OpKind::kToCopy || kind == OpKind::kLogSoftmaxBackward) {
          if (next.valid()) return false;
          next = use.op;
        } else if (!TakeGradient(use.op, gradient)) {
          return false;
        }
      }
      if (!next.valid()) break;
      if (StorageOf(In(next, 0)) != gradient) return false;
      found_.backward.push_back(next);
    }
    const size_t ends = found_.input_gradient.size() + found_.weight_gradient.size() + found_.bias_gradient.size();
    return ends > 0 && found_.input_gradient.size() <= 1 && found_.weight_gradient.size() <= 1 &&
           found_.bias_gradient.size() <= 1 && ReadOnlyByChain();
  }

  // A product or sum that the last gradient goes into.
  bool TakeGradient(OpId op, StorageId gradient) {
    const OpKind kind = At(op).kind;
    if (kind == OpKind::kSum) {
      found_.bias_gradient.push_back(op);
      return NumElements(Info(graph_.Results(At(op))[0]).sizes) == Info(In(found_.product(), 0)).sizes.back();
    }
    if (kind != OpKind::kMm) return false;
    const int64_t rows = Info(found_.input).sizes[0];
    const TensorInfo& left = Info(In(op, 0));
    const TensorInfo& right = Info(In(op, 1));
    if (left.storage == gradient && left.sizes[0] == rows && left.strides[1] == 1) {
      found_.input_gradient.push_back(op);
      return true;
    }
    const bool transposed = left.storage == gradient && left.sizes[1] == rows && left.strides[0] == 1;
    if (!transposed && !(right.storage == gradient && right.sizes[0] == rows)) return false;
    found_.weight_gradient.push_back(op);
    return true;
  }

  bool InChain(OpId op) const {
    const auto in = [op](const std::vector<OpId>& ops) { return std::ranges::find(ops, op) != ops.end(); };
    return in(found_.forward) || in(found_.backward) || in(found_.input_gradient) || in(found_.weight_gradient) ||
           in(found_.bias_gradient);
  }

  bool ReadOnlyByChain() const {
    std::vector<StorageId> inner = {found_.count};
    for (const OpId op : found_.forward) {
      if (op != found_.nll()) inner.push_back(ResultOf(op));
    }
    for (const OpId op : found_.backward) inner.push_back(ResultOf(op));
    return std::ranges::all_of(inner, [&](StorageId storage) {
      return std::ranges::all_of(uses_.Of(storage), [&](const Use& use) { return InChain(use.op); });
    });
  }

  const Graph& graph_;
  const Uses& uses_;
  HeadLoss found_;
};

}  // namespace

std::vector<HeadLoss> FindHeadLosses(const Graph& graph, const Uses& uses) {
  std::vector<HeadLoss> losses;
  for (const Step step : graph.program) {
    if (step.kind() != Step::Kind::kOp || graph.ops[step.op()].kind != OpKind::kNllLoss) continue;
    if (std::optional<HeadLoss> found = Finder(graph, uses).Find(step.op())) losses.push_back(std::move(*found));
  }
  return losses;
}

}  // namespace tidemark
