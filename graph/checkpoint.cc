#include "graph/checkpoint.h"

#include <algorithm>
#include <optional>

#include "graph/autocast.h"
#include "graph/autograd.h"
#include "graph/base/check.h"

namespace tidemark {
namespace {

struct StopRecomputation {};

// Runs a region again in backward, under the conditions of its forward and with its random numbers.
class ForwardAgain {
 public:
  ForwardAgain(Tracer& tracer, const Autocast& autocast, int64_t first_random)
      : tracer_(tracer),
        grad_mode_(tracer, true),
        scope_(tracer, tracer.scope),
        role_(std::exchange(tracer.result_role, Role::kActivation)),
        random_(std::exchange(tracer.next_random, first_random)),
        autocast_(tracer, autocast.enabled, autocast.dtype) {}
  ~ForwardAgain() {
    tracer_.result_role = role_;
    tracer_.next_random = random_;
  }
  ForwardAgain(const ForwardAgain&) = delete;
  ForwardAgain& operator=(const ForwardAgain&) = delete;

 private:
  Tracer& tracer_;
  GradMode grad_mode_;
  InScope scope_;
  Role role_;
  int64_t random_;
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
  int64_t first_random = 0;
  std::vector<std::optional<ResultType>> results;  // of the region, for those whose gradient is missing
};

// A Python list or tuple of tensors: it drops them last to first.
class TensorList {
 public:
  TensorList() = default;
  ~TensorList() {
    while (!tensors.empty()) tensors.pop_back();
  }
  TensorList(const TensorList&) = delete;
  TensorList& operator=(const TensorList&) = delete;
  Tensors tensors;
};

// Detached copies of what the node saved, as leaves.
void DetachInputs(Node& node, Tensors& inputs) {
  for (int i = 0; i < node.saved_count; ++i) {
    if (!node.Has(i)) {
      inputs.emplace_back();
      continue;
    }
    const Tensor saved = node.Unpack(i);
    inputs.push_back(node.tracer->Detach(saved, HolderKind::kCheckpoint));
    if (saved.requires_grad()) RequireGrad(inputs.back());
  }
}

void ReentrantBackward(Node& node, Gradients& in, Gradients& out) {
  Tracer& tracer = *node.tracer;
  const auto extension = std::static_pointer_cast<ReentrantRegion>(node.extension);
  TensorList given, gradients, roots, inputs;
  for (size_t i = 0; i < extension->results.size(); ++i) {
    const std::optional<ResultType>& type = extension->results[i];
    const bool missing = type.has_value() && !in[i].defined();
    given.tensors.push_back(missing ? tracer.Emit(OpKind::kFull, {}, *type) : in[i]);
  }
  DetachInputs(node, inputs.tensors);
  {
    Tensors outputs;
    {
      const ForwardAgain again(tracer, extension->autocast, extension->first_random);
      outputs = extension->region(inputs.tensors);
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].defined() || !outputs[i].requires_grad()) continue;
      roots.tensors.push_back(std::move(outputs[i]));
      gradients.tensors.push_back(given.tensors[i]);
    }
  }
  Backward(tracer, roots.tensors, gradients.tensors);
  for (size_t i = 0; i < inputs.tensors.size(); ++i) {
    if (inputs.tensors[i].defined() && node.Wants(static_cast<uint32_t>(i))) out[i] = inputs.tensors[i].impl()->grad;
  }
}

constexpr NodeType kCheckpointFunctionBackward = {"CheckpointFunctionBackward", &ReentrantBackward};

}  // namespace

CheckpointFrame::CheckpointFrame(Tracer& tracer, const Tensors& inputs, Region region)
    : tracer_(tracer), region_(std::move(region)), first_random_(tracer.next_random) {
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
    const ForwardAgain again(tracer_, autocast_, first_random_);
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
  const int64_t first_random = tracer.next_random;
  {
    const GradMode no_grad(tracer, false);
    results = region(inputs);
  }
  if (!node) return results;
  auto extension = std::make_shared<ReentrantRegion>();
  extension->autocast.enabled = tracer.autocast.enabled;
  extension->autocast.dtype = tracer.autocast.dtype;
  extension->first_random = first_random;
  for (size_t i = 0; i < results.size(); ++i) {
    Tensor& result = results[i];
    if (!result.defined()) {
      extension->results.emplace_back();
      continue;
    }
    // An input that is handed through comes out as a view of itself.
    const bool is_input = std::ranges::any_of(inputs, [&](const Tensor& t) { return t.impl() == result.impl(); });
    if (is_input) result = tracer.View(result, {}, result.sizes(), result.strides());
    node->SetHistory(result, static_cast<uint32_t>(i));
    extension->results.emplace_back(Contiguous(result.dtype(), result.sizes(), Role::kActivationGradient));
  }
  extension->region = std::move(region);
  node->extension = std::move(extension);
  return results;
}

}  // namespace tidemark
