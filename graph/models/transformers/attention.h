// The attention functions that transformers' decoders choose from by attn_implementation: scaled_dot_product_attention,
// and the one written out. They borrow names of the caller: queries [B, H, T, D], keys and values [B, K, T, D].
#pragma once

#include "graph/tracer.h"

namespace tidemark::transformers {

struct AttentionCall {
  double scaling = 1;
  double dropout = 0;  // of this call: 0 in evaluation
  bool causal = true;  // where no mask is given
};

struct AttentionResult {
  Tensor weights;  // attention written out; the caller keeps them
  Tensor output;   // [B, T, H, D], contiguous
};

// Each of the K heads H / K times.
Tensor RepeatKeyValue(const Tensor& heads, int64_t times);

// integrations/sdpa_attention.py. `mask` may be undefined.
AttentionResult SdpaAttention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask,
                              const AttentionCall& call);

// eager_attention_forward of the Llama kind: softmax in fp32, then the queries' dtype again.
AttentionResult EagerAttention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask,
                               const AttentionCall& call);

// The same of the BERT kind: softmax without a dtype, so that autocast decides, and no cast behind it. T5 also adds a
// bias by position. `position_bias` and `mask` may be undefined.
AttentionResult EagerAttentionUncast(const Tensor& query, const Tensor& key, const Tensor& value,
                                     const Tensor& position_bias, const Tensor& mask, const AttentionCall& call);

}  // namespace tidemark::transformers
