// Rotary position embeddings, as transformers' decoders have them: tables of cosines and sines, once per forward, and
// their application to the queries and keys of every layer.
#pragma once

#include "graph/base/result.h"
#include "graph/module.h"

namespace tidemark::transformers {

// cos and sin, [1, T, 2 * ceil(dims / 2)]. A tuple: it drops sin first.
struct RotaryTables {
  Tensor cos;
  Tensor sin;
};

// Whether `dims` of a head's `head_dim` dimensions can be rotated.
Status CheckRotary(int64_t dims, int64_t head_dim);

// LlamaRotaryEmbedding and its copies. Two buffers: inv_freq and original_inv_freq.
class RotaryEmbedding : public Module {
 public:
  // `dims`: how many dimensions of a head are rotated.
  RotaryEmbedding(Module& parent, const std::string& name, int64_t dims);
  RotaryTables operator()(const Tensor& hidden, const Tensor& position_ids) const;

 private:
  ParameterPtr frequencies_;
};

// (x1, x2) -> (-x2, x1) in the last dimension.
Tensor RotateHalf(const Tensor& x);

// Queries and keys [B, heads, T, rotated dims], rotated.
struct Rotated {
  Tensor key;
  Tensor query;
};
Rotated ApplyRotary(const Tensor& query, const Tensor& key, const Tensor& cos, const Tensor& sin);
// The same of the first dimensions of each head, as many as the tables have. GPT-NeoX rotates both before it puts the
// parts together; Phi-3 is done with the queries before it starts with the keys.
Rotated ApplyPartialRotary(const Tensor& query, const Tensor& key, const Tensor& cos, const Tensor& sin);
Rotated RotateAndPass(const Tensor& query, const Tensor& key, const Tensor& cos, const Tensor& sin);

}  // namespace tidemark::transformers
