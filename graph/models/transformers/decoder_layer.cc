#include "graph/models/transformers/decoder_layer.h"

#include <memory>

namespace tidemark::transformers {
namespace {

// Keyword arguments in a checkpoint's closure. It drops the mask first.
struct KeptInputs {
  explicit KeptInputs(const LayerInputs& inputs)
      : position_ids(inputs.position_ids, HolderKind::kCheckpoint),
        cos(inputs.cos, HolderKind::kCheckpoint),
        sin(inputs.sin, HolderKind::kCheckpoint),
        mask(inputs.mask, HolderKind::kCheckpoint) {}
  LayerInputs Borrow() const { return {mask, position_ids, cos, sin}; }

  Tensor position_ids;
  Tensor cos;
  Tensor sin;
  Tensor mask;
};

}  // namespace

bool Checkpoints(const Tracer& tracer, const std::optional<RecomputeConfig>& recompute) {
  return recompute.has_value() && tracer.training && tracer.grad_enabled;
}

Tensors RunLayer(Tracer& tracer, const std::optional<RecomputeConfig>& recompute, const Tensors& inputs,
                 Region region) {
  if (!Checkpoints(tracer, recompute)) return region(inputs);
  return recompute->reentrant ? CheckpointReentrant(tracer, inputs, std::move(region))
                              : CheckpointNonReentrant(tracer, inputs, std::move(region));
}

Tensor DecoderLayer::operator()(const Tensor& hidden, const LayerInputs& inputs) const {
  if (!Checkpoints(tracer(), recompute_)) return Run(hidden, inputs);
  const auto kept = std::make_shared<const KeptInputs>(inputs);
  Region region = [this, kept](const Tensors& arguments) { return Tensors{Run(arguments[0], kept->Borrow())}; };
  Tensors result = RunLayer(tracer(), recompute_, {hidden}, std::move(region));
  return std::move(result[0]);
}

}  // namespace tidemark::transformers
