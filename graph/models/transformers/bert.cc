// BERT as transformers 5.23 writes it (models/bert/modeling_bert.py, BertForMaskedLM): post-norm layers that see both
// ways, three embeddings, and a loss on every position.
//
// Names live as they do there. Locals are declared in the reverse of Python's order, since C++ drops them last to
// first.
#include "graph/models/transformers/bert.h"

#include <cmath>

#include "graph/models/transformers/attention.h"
#include "graph/models/transformers/config_reader.h"
#include "graph/models/transformers/decoder_layer.h"

namespace tidemark::transformers {
namespace {

struct Options {
  bool eager = false;
  double attention_dropout = 0;
  double hidden_dropout = 0;
  double epsilon = 1e-12;
  int64_t token_types = 2;
  Activation activation = Activation::kGelu;
};

class Embeddings : public Module {
 public:
  Embeddings(Module& parent, const ModelConfig& m, const Options& options)
      : Module(parent, "embeddings"),
        word_(*this, "word_embeddings", m.vocab, m.hidden),
        position_(*this, "position_embeddings", m.context, m.hidden),
        token_type_(*this, "token_type_embeddings", options.token_types, m.hidden),
        norm_(*this, "LayerNorm", m.hidden, true, options.epsilon),
        drop_(*this, "dropout", options.hidden_dropout),
        position_ids_(AddBuffer("position_ids", DType::kInt64, {1, m.context})),
        token_type_ids_(AddBuffer("token_type_ids", DType::kInt64, {1, m.context})) {}

  const ParameterPtr& word() const { return word_.weight(); }

  Tensor operator()(const Tensor& tokens) const {
    const InScope in_scope(tracer(), scope());
    const int64_t batch = tokens.size(0);
    const int64_t length = tokens.size(1);
    Tensor positions, hidden, types, gathered, words, position_ids, type_ids;
    position_ids = Slice(position_ids_->tensor, 1, 0, length);
    gathered = Expand(token_type_ids_->tensor, token_type_ids_->sizes);
    gathered =
        tracer().Emit(OpKind::kGather, {&gathered, &position_ids}, tidemark::Contiguous(DType::kInt64, {1, length}));
    type_ids = Expand(gathered, {batch, length});
    words = word_(tokens);
    types = token_type_(type_ids);
    hidden = Add(words, types);
    positions = position_(position_ids);
    hidden = Add(hidden, positions);
    hidden = norm_(hidden);
    hidden = drop_(hidden);
    return hidden;
  }

 private:
  EmbeddingLayer word_;
  EmbeddingLayer position_;
  EmbeddingLayer token_type_;
  LayerNormLayer norm_;
  DropoutLayer drop_;
  ParameterPtr position_ids_;
  ParameterPtr token_type_ids_;
};

class SelfAttention : public Module {
 public:
  SelfAttention(Module& parent, const ModelConfig& m, const Options& options)
      : Module(parent, "self"),
        options_(options),
        head_dim_(m.hidden / m.heads),
        query_(*this, "query", m.hidden, m.heads * head_dim_, true),
        key_(*this, "key", m.hidden, m.heads * head_dim_, true),
        value_(*this, "value", m.hidden, m.heads * head_dim_, true) {}

  AttentionResult operator()(const Tensor& hidden) const {
    const InScope in_scope(tracer(), scope());
    const Dims by_head = {hidden.size(0), hidden.size(1), hidden.size(2) / head_dim_, head_dim_};
    AttentionResult result;
    Tensor value, key, query;
    query = Transpose(View(query_(hidden), by_head), 1, 2);
    key = Transpose(View(key_(hidden), by_head), 1, 2);
    value = Transpose(View(value_(hidden), by_head), 1, 2);
    const AttentionCall call = {.scaling = 1 / std::sqrt(static_cast<double>(head_dim_)),
                                .dropout = tracer().training ? options_.attention_dropout : 0,
                                .causal = false};
    const Tensor none;
    result = options_.eager ? EagerAttentionUncast(query, key, value, none, none, call)
                            : SdpaAttention(query, key, value, none, call);
    result.output = tidemark::Contiguous(Reshape(result.output, hidden.sizes()));
    return result;
  }

 private:
  const Options& options_;
  int64_t head_dim_;
  LinearLayer query_;
  LinearLayer key_;
  LinearLayer value_;
};

// BertSelfOutput and BertOutput: LayerNorm(dropout(dense(hidden)) + input)
class Output : public Module {
 public:
  Output(Module& parent, int64_t in, int64_t width, const Options& options)
      : Module(parent, "output"),
        dense_(*this, "dense", in, width, true),
        norm_(*this, "LayerNorm", width, true, options.epsilon),
        drop_(*this, "dropout", options.hidden_dropout) {}

  Tensor operator()(const Tensor& given, const Tensor& input) const {
    const InScope in_scope(tracer(), scope());
    Tensor hidden = dense_(given);
    hidden = drop_(hidden);
    hidden = norm_(Add(hidden, input));
    return hidden;
  }

 private:
  LinearLayer dense_;
  LayerNormLayer norm_;
  DropoutLayer drop_;
};

class Attention : public Module {
 public:
  Attention(Module& parent, const ModelConfig& m, const Options& options)
      : Module(parent, "attention"), self_(*this, m, options), output_(*this, m.hidden, m.hidden, options) {}

  AttentionResult operator()(const Tensor& hidden) const {
    const InScope in_scope(tracer(), scope());
    AttentionResult result = self_(hidden);
    result.output = output_(result.output, hidden);
    return result;
  }

 private:
  SelfAttention self_;
  Output output_;
};

class Intermediate : public Layer {
 public:
  Intermediate(Module& parent, const ModelConfig& m, const Options& options)
      : Layer(parent, "intermediate"), activation_(options.activation), dense_(*this, "dense", m.hidden, m.ffn, true) {}

 protected:
  Tensor Forward(const Tensor& given) const override {
    Tensor hidden = dense_(given);
    hidden = Activate(activation_, hidden);
    return hidden;
  }

 private:
  Activation activation_;
  LinearLayer dense_;
};

class BertLayer : public Module {
 public:
  BertLayer(Module& parent, const RunConfig& run, const Options& options, int64_t index)
      : Module(parent, "layer." + std::to_string(index)),
        recompute_(run.recompute),
        attention_(*this, run.model, options),
        intermediate_(*this, run.model, options),
        output_(*this, run.model.ffn, run.model.hidden, options) {}

  Tensor operator()(const Tensor& hidden) const {
    Region region = [this](const Tensors& arguments) { return Tensors{Run(arguments[0])}; };
    Tensors result = RunLayer(tracer(), recompute_, {hidden}, std::move(region));
    return std::move(result[0]);
  }

 private:
  Tensor Run(const Tensor& hidden) const {
    const InScope in_scope(tracer(), scope());
    Tensor result, weights, attention;
    {
      AttentionResult attended = attention_(hidden);
      attention = std::move(attended.output);
      weights = std::move(attended.weights);
    }
    result = FeedForward(attention);
    return result;
  }

  Tensor FeedForward(const Tensor& attention) const {
    const Tensor intermediate = intermediate_(attention);
    return output_(intermediate, attention);
  }

  std::optional<RecomputeConfig> recompute_;
  Attention attention_;
  Intermediate intermediate_;
  Output output_;
};

class Encoder : public Module {
 public:
  Encoder(Module& parent, const RunConfig& run, const Options& options) : Module(parent, "encoder") {
    for (int64_t i = 0; i < run.model.layers; ++i) {
      layers_.push_back(std::make_unique<BertLayer>(*this, run, options, i));
    }
  }

  Tensor operator()(const Tensor& given) const {
    const InScope in_scope(tracer(), scope());
    Tensor hidden = given;
    for (const auto& layer : layers_) hidden = (*layer)(hidden);
    return hidden;
  }

 private:
  std::vector<std::unique_ptr<BertLayer>> layers_;
};

class BertBackbone : public Module {
 public:
  BertBackbone(Module& parent, const RunConfig& run, const Options& options)
      : Module(parent, "bert"), embeddings_(*this, run.model, options), encoder_(*this, run, options) {}

  const ParameterPtr& word() const { return embeddings_.word(); }

  Tensor operator()(const Tensor& tokens) const {
    const InScope in_scope(tracer(), scope());
    const Tensor embedded = embeddings_(tokens);
    return encoder_(embedded);
  }

 private:
  Embeddings embeddings_;
  Encoder encoder_;
};

class Transform : public Layer {
 public:
  Transform(Module& parent, const ModelConfig& m, const Options& options)
      : Layer(parent, "transform"),
        activation_(options.activation),
        dense_(*this, "dense", m.hidden, m.hidden, true),
        norm_(*this, "LayerNorm", m.hidden, true, options.epsilon) {}

 protected:
  Tensor Forward(const Tensor& given) const override {
    Tensor hidden = dense_(given);
    hidden = Activate(activation_, hidden);
    hidden = norm_(hidden);
    return hidden;
  }

 private:
  Activation activation_;
  LinearLayer dense_;
  LayerNormLayer norm_;
};

// The decoder to the vocabulary. Its bias is the head's, its weight the embedding's, unless nothing is tied: then the
// head's bias is a parameter that nothing uses.
class Decoder : public Layer {
 public:
  Decoder(Module& parent, int64_t in, int64_t out, ParameterPtr weight, ParameterPtr bias)
      : Layer(parent, "decoder"), weight_(std::move(weight)), bias_(std::move(bias)) {
    weight_ != nullptr ? Share(weight_) : void(weight_ = AddParameter("weight", {out, in}));
    bias_ != nullptr ? Share(bias_) : void(bias_ = AddParameter("bias", {out}));
  }

 protected:
  Tensor Forward(const Tensor& x) const override { return Linear(x, weight_->tensor, bias_->tensor); }

 private:
  ParameterPtr weight_;
  ParameterPtr bias_;
};

class PredictionHead : public Layer {
 public:
  PredictionHead(Module& parent, const ModelConfig& m, const Options& options, const ParameterPtr& word)
      : Layer(parent, "predictions"),
        bias_(AddParameter("bias", {m.vocab})),
        transform_(*this, m, options),
        decoder_(*this, m.hidden, m.vocab, m.tied_embeddings ? word : nullptr, m.tied_embeddings ? bias_ : nullptr) {}

 protected:
  Tensor Forward(const Tensor& given) const override {
    Tensor hidden = transform_(given);
    hidden = decoder_(hidden);
    return hidden;
  }

 private:
  ParameterPtr bias_;
  Transform transform_;
  Decoder decoder_;
};

class MaskedLmHead : public Layer {
 public:
  MaskedLmHead(Module& parent, const ModelConfig& m, const Options& options, const ParameterPtr& word)
      : Layer(parent, "cls"), predictions_(*this, m, options, word) {}

 protected:
  Tensor Forward(const Tensor& hidden) const override { return predictions_(hidden); }

 private:
  PredictionHead predictions_;
};

class BertForMaskedLm : public Model {
 public:
  BertForMaskedLm(Tracer& tracer, const RunConfig& run, const Options& options)
      : Model(tracer, WeightDType(run.training.precision)),
        options_(options),
        bert_(*this, run, options_),
        cls_(*this, run.model, options_, bert_.word()) {}

  ModelOutput Forward(const Tensor& tokens, const Tensor& targets) override {
    ModelOutput out;
    const Tensor hidden = bert_(tokens);
    out.logits = cls_(hidden);
    tracer().SetRole(out.logits, Role::kLogitsAndLoss);
    Operand flat_logits = View(out.logits, {tokens.NumElements(), out.logits.size(-1)});
    Operand flat_targets = View(targets, {targets.NumElements()});
    out.loss = CrossEntropy(std::move(flat_logits), std::move(flat_targets));
    return out;
  }

 private:
  Options options_;
  BertBackbone bert_;
  MaskedLmHead cls_;
};

Status ReadOptions(const ModelConfig& model, Options& options) {
  options.attention_dropout = options.hidden_dropout = model.dropout;
  bool is_decoder = false;
  bool cross_attention = false;
  int64_t chunk = 0;
  ConfigReader reader(model);
  reader.Act("hidden_act", &options.activation);
  reader.Number("attention_probs_dropout_prob", &options.attention_dropout, 0, kLargestDropout);
  reader.Number("hidden_dropout_prob", &options.hidden_dropout, 0, kLargestDropout);
  reader.Number("layer_norm_eps", &options.epsilon, 0, 1);
  reader.Integer("type_vocab_size", &options.token_types);
  reader.Integer("chunk_size_feed_forward", &chunk, 0);
  reader.Bool("is_decoder", &is_decoder);
  reader.Bool("add_cross_attention", &cross_attention);
  reader.Ignore({"classifier_dropout"});
  reader.IgnoreCommon();
  RETURN_IF_ERROR(reader.Finish());
  if (is_decoder || cross_attention) {
    return InvalidInput("model.config.is_decoder, add_cross_attention: BERT as a decoder can't be simulated");
  }
  if (chunk != 0) return InvalidInput("model.config.chunk_size_feed_forward: only 0 (no chunks) can be simulated");
  return {};
}

}  // namespace

Result<std::unique_ptr<Model>> MakeBert(Tracer& tracer, const RunConfig& run) {
  Options options;
  options.eager = run.training.attention == AttentionChoice::kEager;
  RETURN_IF_ERROR(ReadOptions(run.model, options));
  return std::unique_ptr<Model>(std::make_unique<BertForMaskedLm>(tracer, run, options));
}

}  // namespace tidemark::transformers
