// Activation checkpointing as torch.utils.checkpoint does it: both kinds run a region again in backward; they differ in
// what they keep, when they run it and when they stop.
// Source: PyTorch 2.14, torch/utils/checkpoint.py.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "graph/tracer.h"

namespace tidemark {

using Tensors = std::vector<Tensor>;

// A region of the program: from its positional arguments (some may be undefined) to its results. It owns what it refers
// to beside them: a closure's tensors live as long as the region.
using Region = std::function<Tensors(const Tensors& inputs)>;

// use_reentrant=False. The region runs with grad mode on, but its nodes save placeholders. The first node that asks for
// a saved tensor in backward has the region run again, up to the last save. Without grad mode the region just runs.
Tensors CheckpointNonReentrant(Tracer& tracer, const Tensors& inputs, Region region);

// use_reentrant=True. The region runs without grad mode, as one node that saves the inputs; backward runs it again,
// whole, and then its backward, nested.
Tensors CheckpointReentrant(Tracer& tracer, const Tensors& inputs, Region region);

// What the placeholders of one region refer to.
class CheckpointFrame {
 public:
  CheckpointFrame(Tracer& tracer, const Tensors& inputs, Region region);
  uint32_t AddPlaceholder() { return placeholders_++; }
  bool recomputing() const { return recomputing_; }
  // A save while the region runs again. The last one ends the run, by an exception that Recompute catches.
  void Recomputed(const Tensor& t);
  // The tensor of a placeholder, taken out of the frame. `self` owns this frame.
  Tensor Take(uint32_t index, const std::shared_ptr<CheckpointFrame>& self);

 private:
  void Recompute(const std::shared_ptr<CheckpointFrame>& self);

  Tracer& tracer_;
  Tensors inputs_;
  Region region_;
  Autocast autocast_;
  int64_t first_random_;
  uint32_t placeholders_ = 0;
  bool recomputing_ = false;
  bool recomputed_ = false;
  Tensors tensors_;  // by placeholder
};

}  // namespace tidemark
