// Llama and its variants as transformers 5.23 writes them (models/llama/modeling_llama.py; mistral, qwen2, qwen3,
// gemma).
//
// Names live as they do there. Locals are declared in the reverse of Python's order, since C++ drops them last to
// first.
#include "graph/models/transformers/llama.h"

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

// What tells the variants apart.
struct Variant {
  bool input_bias = false;  // of the projections to queries, keys and values
  bool output_bias = false;
  bool mlp_bias = false;
  bool gemma = false;         // norms that scale by 1 + weight, embeddings that are scaled
  bool head_norms = false;    // RMSNorm of each head's queries and keys
  bool mask_by_kind = false;  // a mask for full attention, and one for sliding layers if there are any
  bool eager = false;
  double dropout = 0;  // of attention weights
  double epsilon = 1e-6;
  Activation activation = Activation::kSilu;
  std::vector<std::optional<int64_t>> windows;  // by layer
};

class Attention : public Module {
 public:
  Attention(Module& parent, const std::string& name, const ModelConfig& m, const Variant& variant, size_t index)
      : Module(parent, name),
        variant_(variant),
        index_(index),
        head_dim_(m.head_dim),
        q_proj_(*this, "q_proj", m.hidden, m.heads * m.head_dim, variant.input_bias),
        k_proj_(*this, "k_proj", m.hidden, m.kv_heads * m.head_dim, variant.input_bias),
        v_proj_(*this, "v_proj", m.hidden, m.kv_heads * m.head_dim, variant.input_bias),
        o_proj_(*this, "o_proj", m.heads * m.head_dim, m.hidden, variant.output_bias) {
    if (!variant.head_norms) return;
    q_norm_ = std::make_unique<RmsNorm>(*this, "q_norm", m.head_dim, variant.epsilon);
    k_norm_ = std::make_unique<RmsNorm>(*this, "k_norm", m.head_dim, variant.epsilon);
  }

  AttentionResult operator()(const Tensor& hidden, const LayerInputs& inputs) const {
    const InScope in_scope(tracer(), scope());
    AttentionResult result;
    Tensor value, key, query;
    query = Heads(q_proj_, q_norm_.get(), hidden);
    key = Heads(k_proj_, k_norm_.get(), hidden);
    value = Heads(v_proj_, nullptr, hidden);
    {
      Rotated rotated = ApplyRotary(query, key, inputs.cos, inputs.sin);
      query = std::move(rotated.query);
      key = std::move(rotated.key);
    }
    if (inputs.cache != nullptr) inputs.cache->Update(index_, key, value);
    const AttentionCall call = {.scaling = 1 / std::sqrt(static_cast<double>(head_dim_)),
                                .dropout = tracer().training ? variant_.dropout : 0};
    result = variant_.eager ? EagerAttention(query, key, value, inputs.mask, call)
                            : SdpaAttention(query, key, value, inputs.mask, call);
    const int64_t width = query.size(1) * head_dim_;
    result.output = Reshape(result.output, {hidden.size(0), hidden.size(1), width});
    result.output = o_proj_(result.output);
    return result;
  }

 private:
  // norm(proj(hidden).view(B, T, heads, D)).transpose(1, 2)
  Tensor Heads(const LinearLayer& projection, const RmsNorm* norm, const Tensor& hidden) const {
    Tensor projected = projection(hidden);
    const Dims by_head = {hidden.size(0), hidden.size(1), projected.size(-1) / head_dim_, head_dim_};
    Tensor heads = View(std::move(projected), by_head);
    if (norm != nullptr) heads = (*norm)(std::move(heads));
    return Transpose(std::move(heads), 1, 2);
  }

  const Variant& variant_;
  size_t index_;
  int64_t head_dim_;
  LinearLayer q_proj_;
  LinearLayer k_proj_;
  LinearLayer v_proj_;
  LinearLayer o_proj_;
  std::unique_ptr<RmsNorm> q_norm_;
  std::unique_ptr<RmsNorm> k_norm_;
};

class Mlp : public Layer {
 public:
  Mlp(Module& parent, const std::string& name, const ModelConfig& m, const Variant& variant)
      : Layer(parent, name),
        activation_(variant.activation),
        gate_proj_(*this, "gate_proj", m.hidden, m.ffn, variant.mlp_bias),
        up_proj_(*this, "up_proj", m.hidden, m.ffn, variant.mlp_bias),
        down_proj_(*this, "down_proj", m.ffn, m.hidden, variant.mlp_bias) {}

 protected:
  Tensor Forward(const Tensor& x) const override {
    Operand gate = Activate(activation_, gate_proj_(x));
    Operand up = up_proj_(x);
    return down_proj_(Mul(std::move(gate), std::move(up)));
  }

 private:
  Activation activation_;
  LinearLayer gate_proj_;
  LinearLayer up_proj_;
  LinearLayer down_proj_;
};

std::unique_ptr<RmsNorm> MakeNorm(Module& parent, const std::string& name, int64_t width, const Variant& variant) {
  if (variant.gemma) return std::make_unique<GemmaRmsNorm>(parent, name, width, variant.epsilon);
  return std::make_unique<RmsNorm>(parent, name, width, variant.epsilon);
}

class LlamaLayer : public DecoderLayer {
 public:
  LlamaLayer(Module& parent, size_t index, const RunConfig& run, const ModelConfig& m, const Variant& variant)
      : DecoderLayer(parent, "layers." + std::to_string(index), run.recompute),
        attention_(*this, "self_attn", m, variant, index),
        mlp_(*this, "mlp", m, variant),
        input_norm_(MakeNorm(*this, "input_layernorm", m.hidden, variant)),
        attention_norm_(MakeNorm(*this, "post_attention_layernorm", m.hidden, variant)) {}

 protected:
  Tensor Forward(const Tensor& given, const LayerInputs& inputs) const override {
    Tensor weights, residual, hidden;
    residual = given;
    hidden = (*input_norm_)(given);
    {
      AttentionResult result = attention_(hidden, inputs);
      hidden = std::move(result.output);
      weights = std::move(result.weights);
    }
    hidden = Add(residual, hidden);
    residual = hidden;
    hidden = (*attention_norm_)(hidden);
    hidden = mlp_(hidden);
    hidden = Add(residual, hidden);
    return hidden;
  }

 private:
  Attention attention_;
  Mlp mlp_;
  std::unique_ptr<RmsNorm> input_norm_;
  std::unique_ptr<RmsNorm> attention_norm_;
};

class LlamaBackbone : public Backbone {
 public:
  LlamaBackbone(Module& parent, const RunConfig& run, Variant variant)
      : Backbone(parent, "model"), variant_(std::move(variant)) {
    const ModelConfig& m = run.model;
    embed_tokens_ = variant_.gemma ? std::make_unique<ScaledEmbedding>(*this, "embed_tokens", m.vocab, m.hidden)
                                   : std::make_unique<EmbeddingLayer>(*this, "embed_tokens", m.vocab, m.hidden);
    for (size_t i = 0; i < static_cast<size_t>(m.layers); ++i) {
      layers_.push_back(std::make_unique<LlamaLayer>(*this, i, run, m, variant_));
    }
    norm_ = MakeNorm(*this, "norm", m.hidden, variant_);
    rotary_ = std::make_unique<RotaryEmbedding>(*this, "rotary_emb", m.head_dim);
    for (const auto& window : variant_.windows) {
      if (window.has_value()) window_ = window;
    }
  }

  const ParameterPtr& embedding() const override { return embed_tokens_->weight(); }
  std::vector<std::optional<int64_t>> windows() const override { return variant_.windows; }

 protected:
  Tensor Forward(const Tensor& tokens, KeyValueCache* cache) const override {
    RotaryTables tables;
    Tensor hidden, sliding_mask, mask, embeddings, position_ids;
    embeddings = (*embed_tokens_)(tokens);
    position_ids = PositionIds(tracer(), tokens.size(1));
    const MaskOptions full = {.eager = variant_.eager, .has_cache = cache != nullptr};
    MaskOptions sliding = full;
    sliding.window = window_;
    mask = CausalMask(embeddings, position_ids, variant_.mask_by_kind ? full : sliding);
    if (variant_.mask_by_kind && window_.has_value()) sliding_mask = CausalMask(embeddings, position_ids, sliding);
    hidden = embeddings;
    tables = (*rotary_)(hidden, position_ids);
    for (size_t i = 0; i < layers_.size(); ++i) {
      const bool slides = variant_.mask_by_kind && variant_.windows[i].has_value();
      hidden = (*layers_[i])(hidden, {slides ? sliding_mask : mask, position_ids, tables.cos, tables.sin, cache});
    }
    hidden = (*norm_)(hidden);
    return hidden;
  }

 private:
  Variant variant_;
  std::optional<int64_t> window_;
  std::unique_ptr<EmbeddingLayer> embed_tokens_;
  std::vector<std::unique_ptr<LlamaLayer>> layers_;
  std::unique_ptr<RmsNorm> norm_;
  std::unique_ptr<RotaryEmbedding> rotary_;
};

Variant CommonVariant(const RunConfig& run) {
  Variant variant;
  variant.eager = run.training.attention == AttentionChoice::kEager;
  variant.dropout = run.model.dropout;
  variant.windows.resize(static_cast<size_t>(run.model.layers));
  return variant;
}

void ReadCommon(ConfigReader& reader, Variant& variant) {
  reader.Act("hidden_act", &variant.activation);
  reader.Number("attention_dropout", &variant.dropout, 0, kLargestDropout);
  reader.Number("rms_norm_eps", &variant.epsilon, 0, 1);
  reader.Ignore({"rope_theta", "partial_rotary_factor"});
  reader.IgnoreCommon();
}

// use_sliding_window: layers from max_window_layers on slide.
void ReadWindows(ConfigReader& reader, Variant& variant) {
  constexpr int64_t kWindow = 4096;
  constexpr int64_t kMaxWindowLayers = 28;
  bool uses = false;
  std::optional<int64_t> window = kWindow;
  int64_t first = kMaxWindowLayers;
  reader.Bool("use_sliding_window", &uses);
  reader.OptionalInteger("sliding_window", &window);
  reader.Integer("max_window_layers", &first, 0);
  if (!uses) return;
  for (size_t i = static_cast<size_t>(first); i < variant.windows.size(); ++i) variant.windows[i] = window;
}

Result<std::unique_ptr<Model>> Make(Tracer& tracer, const RunConfig& run, ConfigReader& reader, Variant variant) {
  RETURN_IF_ERROR(reader.Finish());
  RETURN_IF_ERROR(CheckRotary(run.model.head_dim, run.model.head_dim));
  const auto backbone = [&](Module& parent) {
    return std::make_unique<LlamaBackbone>(parent, run, std::move(variant));
  };
  return std::unique_ptr<Model>(std::make_unique<CausalLm>(tracer, run, false, backbone));
}

}  // namespace

Result<std::unique_ptr<Model>> MakeLlama(Tracer& tracer, const RunConfig& run) {
  Variant variant = CommonVariant(run);
  bool attention_bias = run.model.bias;
  variant.mlp_bias = run.model.bias;
  ConfigReader reader(run.model);
  ReadCommon(reader, variant);
  reader.Bool("attention_bias", &attention_bias);
  reader.Bool("mlp_bias", &variant.mlp_bias);
  reader.Ignore({"pretraining_tp", "sliding_window", "use_sliding_window", "max_window_layers"});
  variant.input_bias = variant.output_bias = attention_bias;
  return Make(tracer, run, reader, std::move(variant));
}

Result<std::unique_ptr<Model>> MakeMistral(Tracer& tracer, const RunConfig& run) {
  constexpr int64_t kWindow = 4096;
  Variant variant = CommonVariant(run);
  std::optional<int64_t> window = kWindow;
  ConfigReader reader(run.model);
  ReadCommon(reader, variant);
  reader.OptionalInteger("sliding_window", &window);
  for (auto& of_layer : variant.windows) of_layer = window;
  return Make(tracer, run, reader, std::move(variant));
}

Result<std::unique_ptr<Model>> MakeQwen2(Tracer& tracer, const RunConfig& run) {
  Variant variant = CommonVariant(run);
  variant.input_bias = true;
  variant.mask_by_kind = true;
  ConfigReader reader(run.model);
  ReadCommon(reader, variant);
  ReadWindows(reader, variant);
  return Make(tracer, run, reader, std::move(variant));
}

Result<std::unique_ptr<Model>> MakeQwen3(Tracer& tracer, const RunConfig& run) {
  Variant variant = CommonVariant(run);
  bool attention_bias = run.model.bias;
  variant.head_norms = true;
  variant.mask_by_kind = true;
  ConfigReader reader(run.model);
  ReadCommon(reader, variant);
  ReadWindows(reader, variant);
  reader.Bool("attention_bias", &attention_bias);
  variant.input_bias = variant.output_bias = attention_bias;
  return Make(tracer, run, reader, std::move(variant));
}

Result<std::unique_ptr<Model>> MakeGemma(Tracer& tracer, const RunConfig& run) {
  Variant variant = CommonVariant(run);
  variant.gemma = true;
  variant.activation = Activation::kGeluTanh;
  bool attention_bias = false;
  bool sees_both_ways = false;
  ConfigReader reader(run.model);
  ReadCommon(reader, variant);
  reader.Bool("attention_bias", &attention_bias);
  reader.Bool("use_bidirectional_attention", &sees_both_ways);
  reader.Ignore({"hidden_activation"});  // of older files; the class reads hidden_act
  if (sees_both_ways) {
    return InvalidInput("model.config.use_bidirectional_attention can't be simulated; set it to false");
  }
  if (variant.activation == Activation::kGelu) variant.activation = Activation::kGeluTanh;  // as the class does
  variant.input_bias = variant.output_bias = attention_bias;
  return Make(tracer, run, reader, std::move(variant));
}

}  // namespace tidemark::transformers
