// GPT-2 as transformers 5.23 writes it (models/gpt2/modeling_gpt2.py): a fused projection, Conv1D instead of Linear,
// and GELU written out in its tanh form.
//
// Names live as they do there. Locals are declared in the reverse of Python's order, since C++ drops them last to
// first.
#include "graph/models/transformers/gpt2.h"

#include <cmath>

#include "graph/models/transformers/attention.h"
#include "graph/models/transformers/causal_lm.h"
#include "graph/models/transformers/config_reader.h"
#include "graph/models/transformers/decoder_layer.h"
#include "graph/models/transformers/masks.h"

namespace tidemark::transformers {
namespace {

struct Options {
  bool eager = false;
  double attention_dropout = 0;
  double embedding_dropout = 0;
  double residual_dropout = 0;
  double epsilon = 1e-5;
  bool scale_weights = true;    // by 1 / sqrt(head dimension)
  bool scale_by_layer = false;  // and by 1 / (index + 1)
  Activation activation = Activation::kGeluNew;
};

// A linear layer whose weight is [in, out].
class Conv1D : public Layer {
 public:
  Conv1D(Module& parent, const std::string& name, int64_t in, int64_t out)
      : Layer(parent, name), weight_(AddParameter("weight", {in, out})), bias_(AddParameter("bias", {out})) {}

 protected:
  Tensor Forward(const Tensor& given) const override {
    Dims sizes = given.sizes();
    sizes[sizes.size() - 1] = bias_->sizes[0];
    Tensor x =
        Addmm(bias_->tensor, View(given, {given.NumElements() / given.size(-1), given.size(-1)}), weight_->tensor);
    x = View(x, sizes);
    return x;
  }

 private:
  ParameterPtr weight_;
  ParameterPtr bias_;
};

// eager_attention_forward: autocast decides the softmax's format, the values' format is that of the product.
AttentionResult WrittenOut(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask,
                           const AttentionCall& call) {
  AttentionResult result;
  result.weights = Mul(MatMul(query, Transpose(key, -1, -2)), call.scaling);
  if (mask.defined()) result.weights = Add(result.weights, mask);
  result.weights = Softmax(result.weights);
  result.weights = To(result.weights, value.dtype());
  result.weights = Dropout(result.weights, call.dropout, true);
  result.output = MatMul(result.weights, value);
  result.output = Transpose(result.output, 1, 2);
  return result;
}

class Attention : public Module {
 public:
  Attention(Module& parent, const ModelConfig& m, const Options& options, int64_t index)
      : Module(parent, "attn"),
        options_(options),
        index_(index),
        heads_(m.heads),
        c_attn_(*this, "c_attn", m.hidden, 3 * m.hidden),
        c_proj_(*this, "c_proj", m.hidden, m.hidden),
        drop_(*this, "resid_dropout", options.residual_dropout) {}

  AttentionResult operator()(const Tensor& hidden, const LayerInputs& inputs) const {
    const InScope in_scope(tracer(), scope());
    const int64_t width = hidden.size(-1);
    const Dims by_head = {hidden.size(0), hidden.size(1), heads_, width / heads_};
    AttentionResult result;
    Tensor value, key, query;
    {
      std::vector<Tensor> parts = Split(c_attn_(hidden), width, 2);
      query = std::move(parts[0]);
      key = std::move(parts[1]);
      value = std::move(parts[2]);
    }
    key = Transpose(View(key, by_head), 1, 2);
    value = Transpose(View(value, by_head), 1, 2);
    query = Transpose(View(query, by_head), 1, 2);
    if (inputs.cache != nullptr) inputs.cache->Update(static_cast<size_t>(index_), key, value);
    const AttentionCall call = {.scaling = Scaling(by_head[3]),
                                .dropout = tracer().training ? options_.attention_dropout : 0};
    result = options_.eager ? WrittenOut(query, key, value, inputs.mask, call)
                            : SdpaAttention(query, key, value, inputs.mask, call);
    result.output = tidemark::Contiguous(Reshape(result.output, hidden.sizes()));
    result.output = c_proj_(result.output);
    result.output = drop_(result.output);
    return result;
  }

 private:
  double Scaling(int64_t head_dim) const {
    const double scale = options_.scale_weights ? 1 / std::sqrt(static_cast<double>(head_dim)) : 1;
    return options_.scale_by_layer ? scale / static_cast<double>(index_ + 1) : scale;
  }

  const Options& options_;
  int64_t index_;
  int64_t heads_;
  Conv1D c_attn_;
  Conv1D c_proj_;
  DropoutLayer drop_;
};

class Mlp : public Layer {
 public:
  Mlp(Module& parent, const ModelConfig& m, const Options& options)
      : Layer(parent, "mlp"),
        activation_(options.activation),
        c_fc_(*this, "c_fc", m.hidden, m.ffn),
        c_proj_(*this, "c_proj", m.ffn, m.hidden),
        drop_(*this, "dropout", options.residual_dropout) {}

 protected:
  Tensor Forward(const Tensor& given) const override {
    Tensor hidden = c_fc_(given);
    hidden = Activate(activation_, hidden);
    hidden = c_proj_(hidden);
    hidden = drop_(hidden);
    return hidden;
  }

 private:
  Activation activation_;
  Conv1D c_fc_;
  Conv1D c_proj_;
  DropoutLayer drop_;
};

class Block : public Module {
 public:
  Block(Module& parent, const RunConfig& run, const Options& options, int64_t index)
      : Module(parent, "h." + std::to_string(index)),
        recompute_(run.recompute),
        ln_1_(*this, "ln_1", run.model.hidden, true, options.epsilon),
        attn_(*this, run.model, options, index),
        ln_2_(*this, "ln_2", run.model.hidden, true, options.epsilon),
        mlp_(*this, run.model, options) {}

  // Positional arguments are the hidden states and the mask; position_ids are in the checkpoint's closure.
  Tensor operator()(const Tensor& hidden, const LayerInputs& inputs) const {
    if (!Checkpoints(tracer(), recompute_)) return Run(hidden, inputs);
    const auto kept = std::make_shared<const Tensor>(inputs.position_ids, HolderKind::kCheckpoint);
    Region region = [this, kept](const Tensors& arguments) {
      return Tensors{Run(arguments[0], {arguments[1], *kept, Tensor(), Tensor()})};
    };
    Tensors result = RunLayer(tracer(), recompute_, {hidden, inputs.mask}, std::move(region));
    return std::move(result[0]);
  }

 private:
  Tensor Run(const Tensor& given, const LayerInputs& inputs) const {
    const InScope in_scope(tracer(), scope());
    Tensor feed_forward, weights, attention, residual, hidden;
    residual = given;
    hidden = ln_1_(given);
    {
      AttentionResult result = attn_(hidden, inputs);
      attention = std::move(result.output);
      weights = std::move(result.weights);
    }
    hidden = Add(attention, residual);
    residual = hidden;
    hidden = ln_2_(hidden);
    feed_forward = mlp_(hidden);
    hidden = Add(residual, feed_forward);
    return hidden;
  }

  std::optional<RecomputeConfig> recompute_;
  LayerNormLayer ln_1_;
  Attention attn_;
  LayerNormLayer ln_2_;
  Mlp mlp_;
};

class Gpt2Backbone : public Backbone {
 public:
  Gpt2Backbone(Module& parent, const RunConfig& run, const Options& options)
      : Backbone(parent, "transformer"),
        options_(options),
        wte_(*this, "wte", run.model.vocab, run.model.hidden),
        wpe_(*this, "wpe", run.model.context, run.model.hidden),
        drop_(*this, "drop", options.embedding_dropout) {
    for (int64_t i = 0; i < run.model.layers; ++i) h_.push_back(std::make_unique<Block>(*this, run, options_, i));
    ln_f_ = std::make_unique<LayerNormLayer>(*this, "ln_f", run.model.hidden, true, options_.epsilon);
  }

  const ParameterPtr& embedding() const override { return wte_.weight(); }
  std::vector<std::optional<int64_t>> windows() const override {
    return std::vector<std::optional<int64_t>>(h_.size());
  }

 protected:
  Tensor Forward(const Tensor& tokens, KeyValueCache* cache) const override {
    Tensor mask, hidden, position_embeddings, embeddings, position_ids;
    embeddings = wte_(View(tokens, tokens.sizes()));
    position_ids = PositionIds(tracer(), tokens.size(1));
    position_embeddings = wpe_(position_ids);
    hidden = Add(embeddings, position_embeddings);
    mask = CausalMask(embeddings, position_ids, {.eager = options_.eager, .has_cache = cache != nullptr});
    hidden = drop_(hidden);
    const Tensor none;
    for (const auto& block : h_) hidden = (*block)(hidden, {mask, position_ids, none, none, cache});
    hidden = (*ln_f_)(hidden);
    hidden = View(hidden, hidden.sizes());
    return hidden;
  }

 private:
  Options options_;
  EmbeddingLayer wte_;
  EmbeddingLayer wpe_;
  DropoutLayer drop_;
  std::vector<std::unique_ptr<Block>> h_;
  std::unique_ptr<LayerNormLayer> ln_f_;
};

Status ReadOptions(const ModelConfig& model, Options& options) {
  options.attention_dropout = options.embedding_dropout = options.residual_dropout = model.dropout;
  bool cross_attention = false;
  bool upcast = false;
  ConfigReader reader(model);
  reader.Number("attn_pdrop", &options.attention_dropout, 0, kLargestDropout);
  reader.Number("embd_pdrop", &options.embedding_dropout, 0, kLargestDropout);
  reader.Number("resid_pdrop", &options.residual_dropout, 0, kLargestDropout);
  reader.Number("layer_norm_epsilon", &options.epsilon, 0, 1);
  reader.Act("activation_function", &options.activation);
  reader.Bool("scale_attn_weights", &options.scale_weights);
  reader.Bool("scale_attn_by_inverse_layer_idx", &options.scale_by_layer);
  reader.Bool("reorder_and_upcast_attn", &upcast);
  reader.Bool("add_cross_attention", &cross_attention);
  reader.Ignore(
      {"summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout"});
  reader.IgnoreCommon();
  RETURN_IF_ERROR(reader.Finish());
  if (upcast && options.eager) {
    return InvalidInput(
        "model.config.reorder_and_upcast_attn can't be simulated with eager attention; set it to false");
  }
  if (cross_attention) {
    return InvalidInput("model.config.add_cross_attention can't be simulated; set it to false");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Model>> MakeGpt2(Tracer& tracer, const RunConfig& run) {
  Options options;
  options.eager = run.training.attention == AttentionChoice::kEager;
  RETURN_IF_ERROR(ReadOptions(run.model, options));
  const auto backbone = [&](Module& parent) { return std::make_unique<Gpt2Backbone>(parent, run, options); };
  return std::unique_ptr<Model>(std::make_unique<CausalLm>(tracer, run, false, backbone));
}

}  // namespace tidemark::transformers
