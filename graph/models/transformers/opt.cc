// OPT as transformers 5.23 writes it (models/opt/modeling_opt.py): learned positions that a running sum over a mask of
// ones counts, layer norms before attention and feed-forward (OPT-350M: behind them), ReLU, biases.
//
// Names live as they do there. Locals are declared in the reverse of Python's order, since C++ drops them last to
// first.
#include "graph/models/transformers/opt.h"

#include <cmath>

#include "graph/models/transformers/attention.h"
#include "graph/models/transformers/causal_lm.h"
#include "graph/models/transformers/config_reader.h"
#include "graph/models/transformers/decoder_layer.h"
#include "graph/models/transformers/layers.h"
#include "graph/models/transformers/masks.h"

namespace tidemark::transformers {
namespace {

constexpr int64_t kPositionOffset = 2;  // rows of the table before position 0

struct Options {
  bool eager = false;
  bool norm_first = true;           // do_layer_norm_before
  bool removes_final_norm = false;  // _remove_final_layer_norm
  bool bias = true;                 // enable_bias
  double dropout = 0;
  double attention_dropout = 0;
  int64_t embedding_width = 0;  // word_embed_proj_dim
  Activation activation = Activation::kRelu;
};

class Attention : public Module {
 public:
  Attention(Module& parent, const ModelConfig& m, const Options& options, size_t index)
      : Module(parent, "self_attn"),
        options_(options),
        index_(index),
        heads_(m.heads),
        k_proj_(*this, "k_proj", m.hidden, m.hidden, options.bias),
        v_proj_(*this, "v_proj", m.hidden, m.hidden, options.bias),
        q_proj_(*this, "q_proj", m.hidden, m.hidden, options.bias),
        out_proj_(*this, "out_proj", m.hidden, m.hidden, options.bias) {}

  AttentionResult operator()(const Tensor& hidden, const LayerInputs& inputs) const {
    const InScope in_scope(tracer(), scope());
    const int64_t head_dim = hidden.size(2) / heads_;
    AttentionResult result;
    Tensor value, key, query;
    query = Mul(q_proj_(hidden), 1 / std::sqrt(static_cast<double>(head_dim)));
    query = Heads(query);
    key = k_proj_(hidden);
    value = v_proj_(hidden);
    key = Heads(key);
    value = Heads(value);
    if (inputs.cache != nullptr) inputs.cache->Update(index_, key, value);
    const AttentionCall call = {.scaling = 1, .dropout = tracer().training ? options_.attention_dropout : 0};
    result = options_.eager ? EagerAttention(query, key, value, inputs.mask, call)
                            : SdpaAttention(query, key, value, inputs.mask, call);
    result.output = Reshape(result.output, hidden.sizes());
    result.output = out_proj_(result.output);
    return result;
  }

 private:
  Tensor Heads(const Tensor& x) const {
    return Transpose(View(x, {x.size(0), x.size(1), heads_, x.size(2) / heads_}), 1, 2);
  }

  const Options& options_;
  size_t index_;
  int64_t heads_;
  LinearLayer k_proj_;
  LinearLayer v_proj_;
  LinearLayer q_proj_;
  LinearLayer out_proj_;
};

class OptLayer : public DecoderLayer {
 public:
  OptLayer(Module& parent, size_t index, const RunConfig& run, const Options& options)
      : DecoderLayer(parent, "layers." + std::to_string(index), run.recompute),
        options_(options),
        attention_(*this, run.model, options, index),
        attention_norm_(*this, "self_attn_layer_norm", run.model.hidden, true),
        fc1_(*this, "fc1", run.model.hidden, run.model.ffn, options.bias),
        fc2_(*this, "fc2", run.model.ffn, run.model.hidden, options.bias),
        final_norm_(*this, "final_layer_norm", run.model.hidden, true) {}

 protected:
  Tensor Forward(const Tensor& given, const LayerInputs& inputs) const override {
    Tensor weights, residual, hidden;
    residual = given;
    hidden = given;
    if (options_.norm_first) hidden = attention_norm_(hidden);
    {
      AttentionResult result = attention_(hidden, inputs);
      hidden = std::move(result.output);
      weights = std::move(result.weights);
    }
    hidden = Dropout(hidden, options_.dropout, tracer().training);
    hidden = Add(residual, hidden);
    if (!options_.norm_first) hidden = attention_norm_(hidden);
    hidden = Reshape(hidden, {hidden.size(0) * hidden.size(1), hidden.size(2)});
    residual = hidden;
    if (options_.norm_first) hidden = final_norm_(hidden);
    hidden = fc1_(hidden);
    hidden = Activate(options_.activation, hidden);
    hidden = fc2_(hidden);
    hidden = Dropout(hidden, options_.dropout, tracer().training);
    hidden = View(Add(residual, hidden), given.sizes());
    if (!options_.norm_first) hidden = final_norm_(hidden);
    return hidden;
  }

 private:
  const Options& options_;
  Attention attention_;
  LayerNormLayer attention_norm_;
  LinearLayer fc1_;
  LinearLayer fc2_;
  LayerNormLayer final_norm_;
};

class OptBackbone : public Backbone {
 public:
  OptBackbone(Module& parent, const RunConfig& run, const Options& options)
      : Backbone(parent, "model.decoder"),
        options_(options),
        embed_tokens_(*this, "embed_tokens", run.model.vocab, options.embedding_width),
        embed_positions_(*this, "embed_positions", run.model.context + kPositionOffset, run.model.hidden) {
    const ModelConfig& m = run.model;
    if (options_.embedding_width != m.hidden) {
      project_out_ = std::make_unique<LinearLayer>(*this, "project_out", m.hidden, options_.embedding_width, false);
      project_in_ = std::make_unique<LinearLayer>(*this, "project_in", options_.embedding_width, m.hidden, false);
    }
    if (options_.norm_first && !options_.removes_final_norm) {
      final_norm_ = std::make_unique<LayerNormLayer>(*this, "final_layer_norm", m.hidden, true);
    }
    for (size_t i = 0; i < static_cast<size_t>(m.layers); ++i) {
      layers_.push_back(std::make_unique<OptLayer>(*this, i, run, options_));
    }
  }

  const ParameterPtr& embedding() const override { return embed_tokens_.weight(); }
  std::vector<std::optional<int64_t>> windows() const override {
    return std::vector<std::optional<int64_t>>(layers_.size());
  }

 protected:
  Tensor Forward(const Tensor& tokens, KeyValueCache* cache) const override {
    Tensor hidden, position_embeddings, mask, attention_mask, position_ids, embeddings;
    embeddings = embed_tokens_(View(tokens, tokens.sizes()));
    attention_mask = Full(tracer(), DType::kFloat32, tokens.sizes(), 1);
    position_ids = Unary(OpKind::kCumsum, attention_mask);
    position_ids = To(Sub(Mul(position_ids, attention_mask), 1), DType::kInt64);
    position_ids = Slice(position_ids, 1, 0, position_ids.size(1));
    mask = CausalMask(embeddings, Tensor(), {.eager = options_.eager, .has_cache = cache != nullptr});
    position_embeddings = embed_positions_(Add(position_ids, static_cast<double>(kPositionOffset)));
    if (project_in_ != nullptr) embeddings = (*project_in_)(embeddings);
    hidden = Add(embeddings, position_embeddings);
    const Tensor none;
    for (const auto& layer : layers_) hidden = (*layer)(hidden, {mask, position_ids, none, none, cache});
    if (final_norm_ != nullptr) hidden = (*final_norm_)(hidden);
    if (project_out_ != nullptr) hidden = (*project_out_)(hidden);
    return hidden;
  }

 private:
  Options options_;
  EmbeddingLayer embed_tokens_;
  EmbeddingLayer embed_positions_;
  std::unique_ptr<LinearLayer> project_out_;
  std::unique_ptr<LinearLayer> project_in_;
  std::unique_ptr<LayerNormLayer> final_norm_;
  std::vector<std::unique_ptr<OptLayer>> layers_;
};

Result<Options> ReadOptions(const RunConfig& run) {
  const ModelConfig& m = run.model;
  Options options;
  options.eager = run.training.attention == AttentionChoice::kEager;
  options.dropout = options.attention_dropout = m.dropout;
  options.embedding_width = m.hidden;
  bool affine = true;
  double layer_drop = 0;
  ConfigReader reader(m);
  reader.Number("dropout", &options.dropout, 0, kLargestDropout);
  reader.Number("attention_dropout", &options.attention_dropout, 0, kLargestDropout);
  reader.Number("layerdrop", &layer_drop, 0, 1);
  reader.Integer("word_embed_proj_dim", &options.embedding_width);
  reader.Bool("do_layer_norm_before", &options.norm_first);
  reader.Bool("_remove_final_layer_norm", &options.removes_final_norm);
  reader.Bool("enable_bias", &options.bias);
  reader.Bool("layer_norm_elementwise_affine", &affine);
  reader.Act("activation_function", &options.activation);
  reader.Ignore({"init_std"});
  reader.IgnoreCommon();
  RETURN_IF_ERROR(reader.Finish());
  if (layer_drop > 0) {
    return InvalidInput("model.config.layerdrop: which layers are left out is random; it can't be simulated above 0");
  }
  if (!affine) {
    return InvalidInput("model.config.layer_norm_elementwise_affine: false can't be simulated: norms have weights");
  }
  if (m.hidden % m.heads != 0) return InvalidInput("model.hidden: opt needs a multiple of model.heads");
  return options;
}

}  // namespace

Result<std::unique_ptr<Model>> MakeOpt(Tracer& tracer, const RunConfig& run) {
  ASSIGN_OR_RETURN(const Options options, ReadOptions(run));
  const auto backbone = [&](Module& parent) { return std::make_unique<OptBackbone>(parent, run, options); };
  return std::unique_ptr<Model>(std::make_unique<CausalLm>(tracer, run, false, backbone));
}

}  // namespace tidemark::transformers
