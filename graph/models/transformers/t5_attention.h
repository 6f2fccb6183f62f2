// T5's attention: no scaling, and a bias by relative position which the first layer of a stack makes for all.
#pragma once

#include <optional>

#include "graph/models/transformers/attention.h"
#include "graph/models/transformers/cache.h"
#include "graph/models/transformers/layers.h"
#include "graph/module.h"
#include "graph/run_config.h"

namespace tidemark::transformers {

struct T5Options {
  bool eager = false;
  bool checkpoints = false;  // gradient_checkpointing_enable was called
  bool gated = false;
  double dropout = 0;
  double epsilon = 1e-6;
  int64_t buckets = 32;
  int64_t max_distance = 128;
  int64_t decoder_layers = 0;
  bool scale_outputs = true;  // of the decoder, by 1 / sqrt(hidden)
  Activation activation = Activation::kRelu;
};

// T5LayerNorm: RMS in fp32, of x itself.
class T5Norm : public Layer {
 public:
  T5Norm(Module& parent, const std::string& name, int64_t width, double epsilon);

 protected:
  Tensor Forward(const Tensor& x) const override;

 private:
  double epsilon_;
  ParameterPtr weight_;
};

// A tuple (attention_output, position_bias, attn_weights), which drops them last to first.
struct T5AttentionResult {
  Tensor output;
  Tensor position_bias;
  Tensor weights;
};

class T5Attention : public Module {
 public:
  struct Kind {
    bool decoder = false;        // of the decoder's stack
    bool cross = false;          // keys and values come from the encoder
    bool relative_bias = false;  // the first layer's self-attention
    size_t index = 0;            // of the layer, in the cache
  };
  T5Attention(Module& parent, const std::string& name, const ModelConfig& m, const T5Options& options,
              const Kind& kind);

  // `encoded`: undefined without cross-attention. `position_bias`: undefined in the first layer. `mask`: attention
  // written out only.
  T5AttentionResult operator()(const Tensor& hidden, const Tensor& mask, const Tensor& encoded,
                               const Tensor& position_bias, KeyValueCache* cache) const;

 private:
  Tensor Heads(const LinearLayer& projection, const Tensor& x) const;
  Tensor BiasOfZeros(const Tensor& query, const Tensor& key) const;
  Tensor RelativeBias(int64_t queries, int64_t keys) const;
  Tensor Buckets(const Tensor& relative_position) const;
  AttentionResult Attend(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask,
                         const Tensor& position_bias) const;

  const T5Options& options_;
  Kind kind_;
  int64_t heads_;
  int64_t head_dim_;
  LinearLayer q_;
  LinearLayer k_;
  LinearLayer v_;
  LinearLayer o_;
  std::optional<EmbeddingLayer> relative_attention_bias_;
};

}  // namespace tidemark::transformers
