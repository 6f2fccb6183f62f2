#include "graph/checkpoint.h"

#include <optional>

#include "graph/autocast.h"
#include "graph/autograd.h"
#include "graph/base/check.h"

namespace tidemark {
namespace {

struct StopRecomputation {};

// Runs a region again in backward, under the conditions of its forward.
class ForwardAgain {
 public:
  ForwardAgain(Tracer& tracer, const Autocast& autocast)
      : tracer_(tracer),
        grad_mode_(tracer, true),
        scope_(tracer, tracer.scope),
        role_(std::exchange(tracer.result_role, Role::kActivation)),
        autocast_(tracer, autocast.enabled, autocast.dtype) {}
  ~ForwardAgain() { tracer_.result_role = role_; }
  ForwardAgain(const ForwardAgain&) = delete;
  ForwardAgain& operator=(const ForwardAgain&) = delete;

 private:
  Tracer& tracer_;
  GradMode grad_mode_;
  InScope scope_;
  Role role_;
  AutocastRegion autocast_;
};

class SavingInto {
 public:
  SavingInto(Tracer& tracer, std::shared_ptr<CheckpointFrame> frame)
      : tracer_(tracer), outer_(std::exchange(tracer.saving_frame, std::move(frame))) {}
  ~SavingInto() { tracer_.saving_frame = std::move(outer_); }
  SavingInto(const SavingInto&) = delete;
  SavingInto& operator=(const SavingInto&) = delete;

 private:
  Tracer& tracer_;
  std::shared_ptr<CheckpointFrame> outer_;
};

// What the node of a reentrant region holds beside its saved inputs.
struct ReentrantRegion {
  Region region;
  Autocast autocast;
  std::vector<ResultType> results;  // of the region, for those whose gradient is missing
};

void ReentrantBackward(Node& node, Gradients& in, Gradients& out) {
  Tracer& tracer = *node.tracer;
  const auto extension = std::static_pointer_cast<ReentrantRegion>(node.extension);
  for (size_t i = 0; i < extension->results.size(); ++i) {
    if (!in[i].defined()) in[i] = tracer.Emit(OpKind::kFull, {}, extension->results[i]);
  }
  Tensors inputs;
  for (int i = 0; i < node.saved_count; ++i) {
    if (!node.Has(i)) {
      inputs.emplace_back();
      continue;
    }
    const Tensor saved = node.Unpack(i);
    inputs.push_back(tracer.Detach(saved, HolderKind::kCheckpoint));
    if (saved.requires_grad()) MakeParameter(inputs.back());
  }
  Tensors outputs;
  {
    const ForwardAgain again(tracer, extension->autocast);
    outputs = extension->region(inputs);
  }
  Tensors roots;
  Tensors gradients;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].requires_grad()) continue;
    roots.push_back(outputs[i]);
    gradients.push_back(in[i]);
  }
  Backward(tracer, roots, gradients);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].defined() && node.Wants(static_cast<int>(i))) out[i] = inputs[i].impl()->grad;
  }
}

constexpr NodeType kCheckpointFunctionBackward = {"CheckpointFunctionBackward", &ReentrantBackward};

}  // namespace

CheckpointFrame::CheckpointFrame(Tracer& tracer, const Tensors& inputs, Region region)
    : tracer_(tracer), region_(std::move(region)) {
  for (const Tensor& t : inputs) inputs_.emplace_back(t, HolderKind::kCheckpoint);
  autocast_.enabled = tracer.autocast.enabled;
  autocast_.dtype = tracer.autocast.dtype;
}

void CheckpointFrame::Recomputed(const Tensor& t) {
  tensors_.push_back(tracer_.Detach(t, HolderKind::kCheckpoint));
  if (tensors_.size() == placeholders_) throw StopRecomputation();
}

Tensor CheckpointFrame::Take(uint32_t index, const std::shared_ptr<CheckpointFrame>& self) {
  if (!recomputed_) Recompute(self);
  return std::move(tensors_[index]);
}

void CheckpointFrame::Recompute(const std::shared_ptr<CheckpointFrame>& self) {
  recomputing_ = true;
  try {
    const SavingInto saving(tracer_, self);
    const ForwardAgain again(tracer_, autocast_);
    const Tensors inputs = inputs_;
    region_(inputs);
  } catch (const StopRecomputation&) {
    // Everything that forward saved is there again.
  }
  recomputing_ = false;
  recomputed_ = true;
}

namespace {
// A compiler sees the region once, in the forward, and is told that backward may run it again.
Tensors CaptureRegion(Tracer& tracer, const Tensors& inputs, const Region& region) {
  const int32_t outer = std::exchange(tracer.recompute_region, tracer.NextRecomputeRegion());
  Tensors results = region(inputs);
  tracer.recompute_region = outer;
  return results;
}
}  // namespace

Tensors CheckpointNonReentrant(Tracer& tracer, const Tensors& inputs, Region region) {
  if (!tracer.grad_enabled) return region(inputs);
  if (tracer.functional) return CaptureRegion(tracer, inputs, region);
  const auto frame = std::make_shared<CheckpointFrame>(tracer, inputs, region);
  const SavingInto saving(tracer, frame);
  return region(inputs);
}

Tensors CheckpointReentrant(Tracer& tracer, const Tensors& inputs, Region region) {
  if (tracer.functional) return tracer.grad_enabled ? CaptureRegion(tracer, inputs, region) : region(inputs);
  std::array<const Tensor*, Node::kMaxEdges> edges{};
  CHECK(inputs.size() <= edges.size());
  for (size_t i = 0; i < inputs.size(); ++i) edges[i] = &inputs[i];
  const NodeRef node =
      MakeNode(tracer, kCheckpointFunctionBackward, {edges[0], edges[1], edges[2], edges[3], edges[4], edges[5]});
  if (node) {
    for (const Tensor& t : inputs) node->Save(t);
  }
  Tensors results;
  {
    const GradMode no_grad(tracer, false);
    results = region(inputs);
  }
  if (!node) return results;
  auto extension = std::make_shared<ReentrantRegion>();
  extension->autocast.enabled = tracer.autocast.enabled;
  extension->autocast.dtype = tracer.autocast.dtype;
  for (size_t i = 0; i < results.size(); ++i) {
    node->SetHistory(results[i], static_cast<uint32_t>(i));
    extension->results.push_back({results[i].dtype(), results[i].layout(), Role::kActivationGradient});
  }
  extension->region = std::move(region);
  node->extension = std::move(extension);
  return results;
}

}  // namespace tidemark
