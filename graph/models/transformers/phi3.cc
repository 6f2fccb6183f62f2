// Phi-3 as transformers 5.23 writes it (models/phi3/modeling_phi3.py): one projection to queries, keys and values, one
// to gate and up, rotary embeddings of the first dimensions of each head, dropout behind attention and feed-forward.
//
// Names live as they do there. Locals are declared in the reverse of Python's order, since C++ drops them last to
// first.
#include "graph/models/transformers/phi3.h"

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
  double attention_dropout = 0;
  double residual_dropout = 0;
  double rotary_factor = 1;
  double epsilon = 1e-5;
  Activation activation = Activation::kSilu;
  std::optional<int64_t> window;
  int64_t rotary_dims = 0;
};

class Attention : public Module {
 public:
  Attention(Module& parent, const std::string& name, const ModelConfig& m, const Options& options, size_t index)
      : Module(parent, name),
        options_(options),
        index_(index),
        head_dim_(m.head_dim),
        query_width_(m.heads * m.head_dim),
        key_width_(m.kv_heads * m.head_dim),
        o_proj_(*this, "o_proj", query_width_, m.hidden, false),
        qkv_proj_(*this, "qkv_proj", m.hidden, query_width_ + 2 * key_width_, false) {}

  AttentionResult operator()(const Tensor& hidden, const LayerInputs& inputs) const {
    const InScope in_scope(tracer(), scope());
    AttentionResult result;
    Tensor value, key, query, qkv;
    qkv = qkv_proj_(hidden);
    query = Slice(qkv, -1, 0, query_width_);
    key = Slice(qkv, -1, query_width_, query_width_ + key_width_);
    value = Slice(qkv, -1, query_width_ + key_width_, qkv.size(-1));
    query = Heads(query);
    key = Heads(key);
    value = Heads(value);
    {
      Rotated rotated = RotateAndPass(query, key, inputs.cos, inputs.sin);
      query = std::move(rotated.query);
      key = std::move(rotated.key);
    }
    if (inputs.cache != nullptr) inputs.cache->Update(index_, key, value);
    const AttentionCall call = {.scaling = 1 / std::sqrt(static_cast<double>(head_dim_)),
                                .dropout = tracer().training ? options_.attention_dropout : 0};
    result = options_.eager ? EagerAttention(query, key, value, inputs.mask, call)
                            : SdpaAttention(query, key, value, inputs.mask, call);
    result.output = Reshape(result.output, {hidden.size(0), hidden.size(1), query_width_});
    result.output = o_proj_(result.output);
    return result;
  }

 private:
  Tensor Heads(const Tensor& part) const {
    return Transpose(View(part, {part.size(0), part.size(1), part.size(2) / head_dim_, head_dim_}), 1, 2);
  }

  const Options& options_;
  size_t index_;
  int64_t head_dim_;
  int64_t query_width_;
  int64_t key_width_;
  LinearLayer o_proj_;
  LinearLayer qkv_proj_;
};

class Mlp : public Layer {
 public:
  Mlp(Module& parent, const std::string& name, const ModelConfig& m, Activation activation)
      : Layer(parent, name),
        activation_(activation),
        gate_up_proj_(*this, "gate_up_proj", m.hidden, 2 * m.ffn, false),
        down_proj_(*this, "down_proj", m.ffn, m.hidden, false) {}

 protected:
  Tensor Forward(const Tensor& given) const override {
    Tensor gate, up;
    up = gate_up_proj_(given);
    {
      std::vector<Tensor> parts = Split(up, up.size(-1) / 2, 2);
      gate = std::move(parts[0]);
      up = std::move(parts[1]);
    }
    up = Mul(up, Activate(activation_, gate));
    return down_proj_(up);
  }

 private:
  Activation activation_;
  LinearLayer gate_up_proj_;
  LinearLayer down_proj_;
};

class Phi3Layer : public DecoderLayer {
 public:
  Phi3Layer(Module& parent, size_t index, const RunConfig& run, const Options& options)
      : DecoderLayer(parent, "layers." + std::to_string(index), run.recompute),
        attention_(*this, "self_attn", run.model, options, index),
        mlp_(*this, "mlp", run.model, options.activation),
        input_norm_(*this, "input_layernorm", run.model.hidden, options.epsilon),
        attention_norm_(*this, "post_attention_layernorm", run.model.hidden, options.epsilon),
        attention_drop_(*this, "resid_attn_dropout", options.residual_dropout),
        mlp_drop_(*this, "resid_mlp_dropout", options.residual_dropout) {}

 protected:
  Tensor Forward(const Tensor& given, const LayerInputs& inputs) const override {
    Tensor weights, residual, hidden;
    residual = given;
    hidden = input_norm_(given);
    {
      AttentionResult result = attention_(hidden, inputs);
      hidden = std::move(result.output);
      weights = std::move(result.weights);
    }
    hidden = Add(residual, attention_drop_(hidden));
    residual = hidden;
    hidden = attention_norm_(hidden);
    hidden = mlp_(hidden);
    hidden = Add(residual, mlp_drop_(hidden));
    return hidden;
  }

 private:
  Attention attention_;
  Mlp mlp_;
  RmsNorm input_norm_;
  RmsNorm attention_norm_;
  DropoutLayer attention_drop_;
  DropoutLayer mlp_drop_;
};

class Phi3Backbone : public Backbone {
 public:
  Phi3Backbone(Module& parent, const RunConfig& run, const Options& options)
      : Backbone(parent, "model"),
        options_(options),
        embed_tokens_(*this, "embed_tokens", run.model.vocab, run.model.hidden) {
    for (size_t i = 0; i < static_cast<size_t>(run.model.layers); ++i) {
      layers_.push_back(std::make_unique<Phi3Layer>(*this, i, run, options_));
    }
    norm_ = std::make_unique<RmsNorm>(*this, "norm", run.model.hidden, options_.epsilon);
    rotary_ = std::make_unique<RotaryEmbedding>(*this, "rotary_emb", options_.rotary_dims);
  }

  const ParameterPtr& embedding() const override { return embed_tokens_.weight(); }
  std::vector<std::optional<int64_t>> windows() const override {
    return std::vector<std::optional<int64_t>>(layers_.size(), options_.window);
  }

 protected:
  Tensor Forward(const Tensor& tokens, KeyValueCache* cache) const override {
    RotaryTables tables;
    Tensor hidden, mask, embeddings, position_ids;
    embeddings = embed_tokens_(tokens);
    position_ids = PositionIds(tracer(), tokens.size(1));
    mask = CausalMask(embeddings, position_ids,
                      {.eager = options_.eager, .has_cache = cache != nullptr, .window = options_.window});
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
  std::vector<std::unique_ptr<Phi3Layer>> layers_;
  std::unique_ptr<RmsNorm> norm_;
  std::unique_ptr<RotaryEmbedding> rotary_;
};

Result<Options> ReadOptions(const RunConfig& run) {
  const ModelConfig& m = run.model;
  Options options;
  options.eager = run.training.attention == AttentionChoice::kEager;
  options.attention_dropout = options.residual_dropout = m.dropout;
  ConfigReader reader(m);
  reader.Number("attention_dropout", &options.attention_dropout, 0, kLargestDropout);
  reader.Number("resid_pdrop", &options.residual_dropout, 0, kLargestDropout);
  reader.Number("partial_rotary_factor", &options.rotary_factor, 0, 1);
  reader.Number("rms_norm_eps", &options.epsilon, 0, 1);
  reader.OptionalInteger("sliding_window", &options.window);
  reader.Act("hidden_act", &options.activation);
  reader.Ignore({"embd_pdrop", "rope_theta", "original_max_position_embeddings"});  // embd_pdrop: no module has it
  reader.IgnoreCommon();
  RETURN_IF_ERROR(reader.Finish());
  options.rotary_dims = static_cast<int64_t>(static_cast<double>(m.head_dim) * options.rotary_factor);
  RETURN_IF_ERROR(CheckRotary(options.rotary_dims, m.head_dim));
  return options;
}

}  // namespace

Result<std::unique_ptr<Model>> MakePhi3(Tracer& tracer, const RunConfig& run) {
  ASSIGN_OR_RETURN(const Options options, ReadOptions(run));
  const auto backbone = [&](Module& parent) { return std::make_unique<Phi3Backbone>(parent, run, options); };
  return std::unique_ptr<Model>(std::make_unique<CausalLm>(tracer, run, false, backbone));
}

}  // namespace tidemark::transformers
