// Phi as transformers 5.23 writes it (models/phi/modeling_phi.py): attention and feed-forward side by side on one layer
// norm, rotary embeddings of a part of each head, biases everywhere.
//
// Names live as they do there. Locals are declared in the reverse of Python's order, since C++ drops them last to
// first.
#include "graph/models/transformers/phi.h"

#include <cmath>

#include "graph/models/transformers/attention.h"
#include "graph/models/transformers/causal_lm.h"
#include "graph/models/transformers/config_reader.h"
#include "graph/models/transformers/decoder_layer.h"
#include "graph/models/transformers/layers.h"
#include "graph/models/transformers/masks.h"
#include "graph/models/transformers/rotary.h"

namespace tidemark::transformers {
namespace {

struct Options {
  bool eager = false;
  bool norms_heads = false;  // qk_layernorm
  double attention_dropout = 0;
  double residual_dropout = 0;
  double embedding_dropout = 0;
  double rotary_factor = 0.5;
  double epsilon = 1e-5;
  Activation activation = Activation::kGeluNew;
  int64_t rotary_dims = 0;
};

class Attention : public Module {
 public:
  Attention(Module& parent, const std::string& name, const ModelConfig& m, const Options& options, size_t index)
      : Module(parent, name),
        options_(options),
        index_(index),
        head_dim_(m.head_dim),
        q_proj_(*this, "q_proj", m.hidden, m.heads * m.head_dim, true),
        k_proj_(*this, "k_proj", m.hidden, m.kv_heads * m.head_dim, true),
        v_proj_(*this, "v_proj", m.hidden, m.kv_heads * m.head_dim, true),
        dense_(*this, "dense", m.heads * m.head_dim, m.hidden, true) {
    if (!options.norms_heads) return;
    q_norm_ = std::make_unique<LayerNormLayer>(*this, "q_layernorm", m.hidden / m.heads, true, options.epsilon);
    k_norm_ = std::make_unique<LayerNormLayer>(*this, "k_layernorm", m.hidden / m.heads, true, options.epsilon);
  }

  AttentionResult operator()(const Tensor& hidden, const LayerInputs& inputs) const {
    const InScope in_scope(tracer(), scope());
    AttentionResult result;
    Tensor key_pass, key_rotated, query_pass, query_rotated, value, key, query;
    query = Heads(q_proj_, hidden);
    key = Heads(k_proj_, hidden);
    value = Heads(v_proj_, hidden);
    if (options_.norms_heads) {
      query = (*q_norm_)(query);
      key = (*k_norm_)(key);
    }
    query_rotated = Slice(query, -1, 0, options_.rotary_dims);
    query_pass = Slice(query, -1, options_.rotary_dims, head_dim_);
    key_rotated = Slice(key, -1, 0, options_.rotary_dims);
    key_pass = Slice(key, -1, options_.rotary_dims, head_dim_);
    {
      Rotated rotated = ApplyRotary(query_rotated, key_rotated, inputs.cos, inputs.sin);
      query_rotated = std::move(rotated.query);
      key_rotated = std::move(rotated.key);
    }
    query = Cat(query_rotated, query_pass, -1);
    key = Cat(key_rotated, key_pass, -1);
    if (inputs.cache != nullptr) inputs.cache->Update(index_, key, value);
    const AttentionCall call = {.scaling = 1 / std::sqrt(static_cast<double>(head_dim_)),
                                .dropout = tracer().training ? options_.attention_dropout : 0};
    result = options_.eager ? EagerAttention(query, key, value, inputs.mask, call)
                            : SdpaAttention(query, key, value, inputs.mask, call);
    result.output = Reshape(result.output, {hidden.size(0), hidden.size(1), query.size(1) * head_dim_});
    result.output = dense_(result.output);
    return result;
  }

 private:
  Tensor Heads(const LinearLayer& projection, const Tensor& hidden) const {
    Tensor projected = projection(hidden);
    const Dims by_head = {hidden.size(0), hidden.size(1), projected.size(-1) / head_dim_, head_dim_};
    return Transpose(View(std::move(projected), by_head), 1, 2);
  }

  const Options& options_;
  size_t index_;
  int64_t head_dim_;
  LinearLayer q_proj_;
  LinearLayer k_proj_;
  LinearLayer v_proj_;
  LinearLayer dense_;
  std::unique_ptr<LayerNormLayer> q_norm_;
  std::unique_ptr<LayerNormLayer> k_norm_;
};

class Mlp : public Layer {
 public:
  Mlp(Module& parent, const std::string& name, const ModelConfig& m, Activation activation)
      : Layer(parent, name),
        activation_(activation),
        fc1_(*this, "fc1", m.hidden, m.ffn, true),
        fc2_(*this, "fc2", m.ffn, m.hidden, true) {}

 protected:
  Tensor Forward(const Tensor& given) const override {
    Tensor hidden = fc1_(given);
    hidden = Activate(activation_, hidden);
    hidden = fc2_(hidden);
    return hidden;
  }

 private:
  Activation activation_;
  LinearLayer fc1_;
  LinearLayer fc2_;
};

class PhiLayer : public DecoderLayer {
 public:
  PhiLayer(Module& parent, size_t index, const RunConfig& run, const Options& options)
      : DecoderLayer(parent, "layers." + std::to_string(index), run.recompute),
        attention_(*this, "self_attn", run.model, options, index),
        mlp_(*this, "mlp", run.model, options.activation),
        input_norm_(*this, "input_layernorm", run.model.hidden, true, options.epsilon),
        drop_(*this, "resid_dropout", options.residual_dropout) {}

 protected:
  Tensor Forward(const Tensor& given, const LayerInputs& inputs) const override {
    Tensor feed_forward, weights, attended, residual, hidden;
    residual = given;
    hidden = input_norm_(given);
    {
      AttentionResult result = attention_(hidden, inputs);
      attended = std::move(result.output);
      weights = std::move(result.weights);
    }
    attended = drop_(attended);
    feed_forward = drop_(mlp_(hidden));
    hidden = Add(Add(attended, feed_forward), residual);
    return hidden;
  }

 private:
  Attention attention_;
  Mlp mlp_;
  LayerNormLayer input_norm_;
  DropoutLayer drop_;
};

class PhiBackbone : public Backbone {
 public:
  PhiBackbone(Module& parent, const RunConfig& run, const Options& options)
      : Backbone(parent, "model"),
        options_(options),
        embed_tokens_(*this, "embed_tokens", run.model.vocab, run.model.hidden) {
    for (size_t i = 0; i < static_cast<size_t>(run.model.layers); ++i) {
      layers_.push_back(std::make_unique<PhiLayer>(*this, i, run, options_));
    }
    rotary_ = std::make_unique<RotaryEmbedding>(*this, "rotary_emb", options.rotary_dims);
    drop_ = std::make_unique<DropoutLayer>(*this, "embed_dropout", options.embedding_dropout);
    norm_ = std::make_unique<LayerNormLayer>(*this, "final_layernorm", run.model.hidden, true, options.epsilon);
  }

  const ParameterPtr& embedding() const override { return embed_tokens_.weight(); }
  std::vector<std::optional<int64_t>> windows() const override {
    return std::vector<std::optional<int64_t>>(layers_.size());
  }

 protected:
  Tensor Forward(const Tensor& tokens, KeyValueCache* cache) const override {
    RotaryTables tables;
    Tensor hidden, mask, embeddings, position_ids;
    embeddings = embed_tokens_(tokens);
    position_ids = PositionIds(tracer(), tokens.size(1));
    mask = CausalMask(embeddings, position_ids, {.eager = options_.eager, .has_cache = cache != nullptr});
    embeddings = (*drop_)(embeddings);
    hidden = embeddings;
    tables = (*rotary_)(hidden, position_ids);
    for (const auto& layer : layers_) {
      hidden = (*layer)(hidden, {mask, position_ids, tables.cos, tables.sin, cache});
    }
    hidden = (*norm_)(hidden);
    return hidden;
  }

 private:
  Options options_;
  EmbeddingLayer embed_tokens_;
  std::vector<std::unique_ptr<PhiLayer>> layers_;
  std::unique_ptr<RotaryEmbedding> rotary_;
  std::unique_ptr<DropoutLayer> drop_;
  std::unique_ptr<LayerNormLayer> norm_;
};

Result<Options> ReadOptions(const RunConfig& run) {
  const ModelConfig& m = run.model;
  Options options;
  options.eager = run.training.attention == AttentionChoice::kEager;
  options.attention_dropout = options.residual_dropout = options.embedding_dropout = m.dropout;
  ConfigReader reader(m);
  reader.Bool("qk_layernorm", &options.norms_heads);
  reader.Number("attention_dropout", &options.attention_dropout, 0, kLargestDropout);
  reader.Number("resid_pdrop", &options.residual_dropout, 0, kLargestDropout);
  reader.Number("embd_pdrop", &options.embedding_dropout, 0, kLargestDropout);
  reader.Number("partial_rotary_factor", &options.rotary_factor, 0, 1);
  reader.Number("layer_norm_eps", &options.epsilon, 0, 1);
  reader.Act("hidden_act", &options.activation);
  reader.Ignore({"rope_theta"});
  reader.IgnoreCommon();
  RETURN_IF_ERROR(reader.Finish());
  options.rotary_dims = static_cast<int64_t>(static_cast<double>(m.head_dim) * options.rotary_factor);
  RETURN_IF_ERROR(CheckRotary(options.rotary_dims, m.head_dim));
  if (options.norms_heads && m.hidden / m.heads != m.head_dim) {
    return InvalidInput(
        "model.config.qk_layernorm: Phi norms heads of hidden / heads dimensions; model.head_dim has to be that");
  }
  return options;
}

}  // namespace

Result<std::unique_ptr<Model>> MakePhi(Tracer& tracer, const RunConfig& run) {
  ASSIGN_OR_RETURN(const Options options, ReadOptions(run));
  const auto backbone = [&](Module& parent) { return std::make_unique<PhiBackbone>(parent, run, options); };
  return std::unique_ptr<Model>(std::make_unique<CausalLm>(tracer, run, true, backbone));
}

}  // namespace tidemark::transformers
