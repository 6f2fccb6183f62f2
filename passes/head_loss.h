// Finds a head and its loss: a product, casts and a log-softmax, nll_loss; and their backward. What chunk_loss.h
// rewrites.
#pragma once

#include <optional>
#include <vector>

#include "graph/graph.h"
#include "graph/lifetimes.h"
#include "graph/uses.h"

namespace tidemark {

struct HeadLoss {
  // Forward: the product, casts and the log-softmax in order, then nll_loss.
  std::vector<OpId> forward;
  TensorId input;    // of the product: [N, C]
  TensorId targets;  // [N]
  StorageId loss, count;
  // Backward: nll_loss's, casts, the log-softmax's; each reads the gradient of the one before. Empty: there is none
  // (evaluation).
  std::vector<OpId> backward;
  std::vector<OpId> input_gradient;   // products of the last gradient with the weight: at most one
  std::vector<OpId> weight_gradient;  // with the input: at most one
  std::vector<OpId> bias_gradient;    // sums of it: at most one

  OpId product() const { return forward.front(); }
  OpId nll() const { return forward.back(); }
};

// In program order.
std::vector<HeadLoss> FindHeadLosses(const Graph& graph, const Uses& uses);

}  // namespace tidemark
