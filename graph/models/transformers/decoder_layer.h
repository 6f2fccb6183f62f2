// What the decoders' layers share: their keyword arguments, the call, and gradient_checkpointing_enable.
#pragma once

#include <optional>

#include "graph/checkpoint.h"
#include "graph/models/transformers/cache.h"
#include "graph/module.h"
#include "graph/run_config.h"

namespace tidemark::transformers {

// Names of the model's forward that each layer borrows.
struct LayerInputs {
  const Tensor& mask;  // may be undefined
  const Tensor& position_ids;
  const Tensor& cos;
  const Tensor& sin;
  KeyValueCache* cache = nullptr;
};

// GradientCheckpointingLayer: runs `region` on `inputs` as a checkpoint while training, plainly otherwise.
Tensors RunLayer(Tracer& tracer, const std::optional<RecomputeConfig>& recompute, const Tensors& inputs, Region region);
// Whether that is a checkpoint now: training, with gradients.
bool Checkpoints(const Tracer& tracer, const std::optional<RecomputeConfig>& recompute);

class DecoderLayer : public Module {
 public:
  DecoderLayer(Module& parent, const std::string& name, const std::optional<RecomputeConfig>& recompute)
      : Module(parent, name), recompute_(recompute) {}
  // `hidden`: the layer's only positional argument.
  Tensor operator()(const Tensor& hidden, const LayerInputs& inputs) const;

 protected:
  virtual Tensor Forward(const Tensor& hidden, const LayerInputs& inputs) const = 0;

 private:
  Tensor Run(const Tensor& hidden, const LayerInputs& inputs) const {
    const InScope in_scope(tracer(), scope());
    return Forward(hidden, inputs);
  }

  std::optional<RecomputeConfig> recompute_;
};

}  // namespace tidemark::transformers
