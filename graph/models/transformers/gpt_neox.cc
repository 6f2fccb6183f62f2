// GPT-NeoX as transformers 5.23 writes it (models/gpt_neox/modeling_gpt_neox.py): one projection to queries, keys and
// values of each head, rotary embeddings of a part of each head, attention and feed-forward side by side or in
// sequence.
//
// Names live as they do there. Locals are declared in the reverse of Python's order, since C++ drops them last to
// first.
#include "graph/models/transformers/gpt_neox.h"

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
  bool parallel = true;  // use_parallel_residual
  bool attention_bias = true;
  double attention_dropout = 0;
  double hidden_dropout = 0;
  double rotary_factor = 0.25;  // rotary_pct
  double epsilon = 1e-5;
  Activation activation = Activation::kGelu;
  int64_t rotary_dims = 0;
};

class Attention : public Module {
 public:
  Attention(Module& parent, const std::string& name, const ModelConfig& m, const Options& options, size_t index)
      : Module(parent, name),
        options_(options),
        index_(index),
        heads_(m.heads),
        query_key_value_(*this, "query_key_value", m.hidden, 3 * m.hidden, options.attention_bias),
        dense_(*this, "dense", m.hidden, m.hidden, options.attention_bias) {}

  AttentionResult operator()(Operand hidden_given, const LayerInputs& inputs) const {
    const InScope in_scope(tracer(), scope());
    const Tensor& hidden = *hidden_given;
    const int64_t head_dim = hidden.size(2) / heads_;
    AttentionResult result;
    {
      Tensor value, key, query, fused;
      fused = Transpose(View(query_key_value_(hidden), {hidden.size(0), hidden.size(1), heads_, 3 * head_dim}), 1, 2);
      {
        std::vector<Tensor> parts = Split(fused, head_dim, -1);
        query = std::move(parts[0]);
        key = std::move(parts[1]);
        value = std::move(parts[2]);
      }
      {
        Rotated rotated = ApplyPartialRotary(query, key, inputs.cos, inputs.sin);
        query = std::move(rotated.query);
        key = std::move(rotated.key);
      }
      if (inputs.cache != nullptr) inputs.cache->Update(index_, key, value);
      const AttentionCall call = {.scaling = 1 / std::sqrt(static_cast<double>(head_dim)),
                                  .dropout = tracer().training ? options_.attention_dropout : 0};
      result = options_.eager ? EagerAttention(query, key, value, inputs.mask, call)
                              : SdpaAttention(query, key, value, inputs.mask, call);
      result.output = Reshape(result.output, hidden.sizes());
      result.output = dense_(result.output);
    }
    hidden_given.Drop();
    return result;
  }

 private:
  const Options& options_;
  size_t index_;
  int64_t heads_;
  LinearLayer query_key_value_;
  LinearLayer dense_;
};

class Mlp : public Layer {
 public:
  Mlp(Module& parent, const std::string& name, const ModelConfig& m, Activation activation)
      : Layer(parent, name),
        activation_(activation),
        dense_h_to_4h_(*this, "dense_h_to_4h", m.hidden, m.ffn, true),
        dense_4h_to_h_(*this, "dense_4h_to_h", m.ffn, m.hidden, true) {}

 protected:
  Tensor Forward(const Tensor& given) const override {
    Tensor hidden = dense_h_to_4h_(given);
    hidden = Activate(activation_, hidden);
    hidden = dense_4h_to_h_(hidden);
    return hidden;
  }

 private:
  Activation activation_;
  LinearLayer dense_h_to_4h_;
  LinearLayer dense_4h_to_h_;
};

class NeoxLayer : public DecoderLayer {
 public:
  NeoxLayer(Module& parent, size_t index, const RunConfig& run, const Options& options)
      : DecoderLayer(parent, "layers." + std::to_string(index), run.recompute),
        parallel_(options.parallel),
        input_norm_(*this, "input_layernorm", run.model.hidden, true, options.epsilon),
        attention_norm_(*this, "post_attention_layernorm", run.model.hidden, true, options.epsilon),
        attention_drop_(*this, "post_attention_dropout", options.hidden_dropout),
        mlp_drop_(*this, "post_mlp_dropout", options.hidden_dropout),
        attention_(*this, "attention", run.model, options, index),
        mlp_(*this, "mlp", run.model, options.activation) {}

 protected:
  Tensor Forward(const Tensor& given, const LayerInputs& inputs) const override {
    Tensor fed, weights, attended, hidden;
    {
      AttentionResult result = attention_(input_norm_(given), inputs);
      attended = std::move(result.output);
      weights = std::move(result.weights);
    }
    attended = attention_drop_(attended);
    if (parallel_) {
      fed = mlp_(attention_norm_(given));
      fed = mlp_drop_(fed);
      hidden = Add(Add(fed, attended), given);
    } else {
      attended = Add(attended, given);
      fed = mlp_(attention_norm_(attended));
      fed = mlp_drop_(fed);
      hidden = Add(fed, attended);
    }
    return hidden;
  }

 private:
  bool parallel_;
  LayerNormLayer input_norm_;
  LayerNormLayer attention_norm_;
  DropoutLayer attention_drop_;
  DropoutLayer mlp_drop_;
  Attention attention_;
  Mlp mlp_;
};

class NeoxBackbone : public Backbone {
 public:
  NeoxBackbone(Module& parent, const RunConfig& run, const Options& options)
      : Backbone(parent, "gpt_neox"),
        options_(options),
        embed_in_(*this, "embed_in", run.model.vocab, run.model.hidden),
        drop_(*this, "emb_dropout", options.hidden_dropout) {
    for (size_t i = 0; i < static_cast<size_t>(run.model.layers); ++i) {
      layers_.push_back(std::make_unique<NeoxLayer>(*this, i, run, options_));
    }
    norm_ = std::make_unique<LayerNormLayer>(*this, "final_layer_norm", run.model.hidden, true, options.epsilon);
    rotary_ = std::make_unique<RotaryEmbedding>(*this, "rotary_emb", options.rotary_dims);
  }

  const ParameterPtr& embedding() const override { return embed_in_.weight(); }
  std::vector<std::optional<int64_t>> windows() const override {
    return std::vector<std::optional<int64_t>>(layers_.size());
  }

 protected:
  Tensor Forward(const Tensor& tokens, KeyValueCache* cache) const override {
    RotaryTables tables;
    Tensor hidden, mask, embeddings, position_ids;
    embeddings = embed_in_(tokens);
    position_ids = PositionIds(tracer(), tokens.size(1));
    mask = CausalMask(embeddings, position_ids, {.eager = options_.eager, .has_cache = cache != nullptr});
    hidden = drop_(embeddings);
    tables = (*rotary_)(hidden, position_ids);
    for (const auto& layer : layers_) {
      hidden = (*layer)(hidden, {mask, position_ids, tables.cos, tables.sin, cache});
    }
    hidden = (*norm_)(hidden);
    return hidden;
  }

 private:
  Options options_;
  EmbeddingLayer embed_in_;
  DropoutLayer drop_;
  std::vector<std::unique_ptr<NeoxLayer>> layers_;
  std::unique_ptr<LayerNormLayer> norm_;
  std::unique_ptr<RotaryEmbedding> rotary_;
};

Result<Options> ReadOptions(const RunConfig& run) {
  const ModelConfig& m = run.model;
  Options options;
  options.eager = run.training.attention == AttentionChoice::kEager;
  options.attention_dropout = options.hidden_dropout = m.dropout;
  ConfigReader reader(m);
  reader.Bool("use_parallel_residual", &options.parallel);
  reader.Bool("attention_bias", &options.attention_bias);
  reader.Number("attention_dropout", &options.attention_dropout, 0, kLargestDropout);
  reader.Number("hidden_dropout", &options.hidden_dropout, 0, kLargestDropout);
  reader.Number("rotary_pct", &options.rotary_factor, 0, 1);
  reader.Number("layer_norm_eps", &options.epsilon, 0, 1);
  reader.Act("hidden_act", &options.activation);
  reader.Ignore({"classifier_dropout", "is_decoder", "partial_rotary_factor", "rotary_emb_base"});
  reader.IgnoreCommon();
  RETURN_IF_ERROR(reader.Finish());
  if (m.hidden % m.heads != 0) {
    return InvalidInput("model.hidden: gpt_neox needs a multiple of model.heads");
  }
  options.rotary_dims = static_cast<int64_t>(static_cast<double>(m.head_dim) * options.rotary_factor);
  RETURN_IF_ERROR(CheckRotary((options.rotary_dims + 1) / 2 * 2, m.hidden / m.heads));
  return options;
}

}  // namespace

Result<std::unique_ptr<Model>> MakeGptNeox(Tracer& tracer, const RunConfig& run) {
  ASSIGN_OR_RETURN(const Options options, ReadOptions(run));
  const auto backbone = [&](Module& parent) { return std::make_unique<NeoxBackbone>(parent, run, options); };
  return std::unique_ptr<Model>(std::make_unique<CausalLm>(tracer, run, false, backbone));
}

}  // namespace tidemark::transformers
