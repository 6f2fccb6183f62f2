// Positions and attention masks as transformers builds them once per forward (masking_utils.py), where the program
// gives neither positions nor a mask of padding.
#pragma once

#include <cstdint>
#include <optional>

#include "graph/tracer.h"

namespace tidemark::transformers {

// torch.arange(length) + 0, as [1, length].
Tensor PositionIds(Tracer& tracer, int64_t length);

// torch.finfo(dtype).min
double LowestOf(DType dtype);

struct MaskOptions {
  bool eager = false;             // attention written out: a floating mask, always
  bool has_cache = false;         // then nobody asks whether sequences are packed
  std::optional<int64_t> window;  // sliding window: a token sees that many, itself included
};

// create_causal_mask, create_sliding_window_causal_mask. Undefined where scaled_dot_product_attention's own causal rule
// does; else bool (or floating, of the dtype of the embeddings) [B, 1, T, T]. `position_ids` may be undefined: then
// nobody looks for packed sequences. The answer to that question is no: positions are consecutive.
Tensor CausalMask(const Tensor& embeddings, const Tensor& position_ids, const MaskOptions& options);

}  // namespace tidemark::transformers
