// What the causal language models share: the loss.
#pragma once

#include "graph/functional.h"

namespace tidemark::transformers {

// ForCausalLMLoss: logits in fp32 [B, T, V], labels [B, T] shifted by one place.
Tensor CausalLmLoss(const Tensor& logits, const Tensor& labels);

}  // namespace tidemark::transformers
