// T5 as transformers 5.23 writes it (models/t5/modeling_t5.py, T5ForConditionalGeneration): an encoder, a decoder whose
// input are the labels shifted by one place, and a head that shares the embedding.
//
// Names live as they do there. Locals are declared in the reverse of Python's order, since C++ drops them last to
// first.
#include "graph/models/transformers/t5.h"

#include <cmath>

#include "graph/models/transformers/config_reader.h"
#include "graph/models/transformers/decoder_layer.h"
#include "graph/models/transformers/masks.h"
#include "graph/models/transformers/t5_attention.h"

namespace tidemark::transformers {
namespace {

// A cache of its own for each kind of attention.
struct T5Cache {
  explicit T5Cache(size_t layers) : self(Layers(layers)), cross(Layers(layers)) {}
  static std::vector<std::optional<int64_t>> Layers(size_t layers) {
    return std::vector<std::optional<int64_t>>(layers);
  }
  // What they hold, for ModelOutput::cache: the self-attention's is dropped first.
  std::vector<Tensor> Release() {
    std::vector<Tensor> all = cross.Release();
    for (Tensor& t : self.Release()) all.push_back(std::move(t));
    return all;
  }
  KeyValueCache self;
  KeyValueCache cross;
};

// T5DenseActDense and T5DenseGatedActDense.
class Dense : public Layer {
 public:
  Dense(Module& parent, const ModelConfig& m, const T5Options& options)
      : Layer(parent, "DenseReluDense"),
        activation_(options.activation),
        wi_(*this, options.gated ? "wi_0" : "wi", m.hidden, m.ffn, false) {
    if (options.gated) wi_1_.emplace(*this, "wi_1", m.hidden, m.ffn, false);
    wo_.emplace(*this, "wo", m.ffn, m.hidden, false);
    drop_.emplace(*this, "dropout", options.dropout);
  }

 protected:
  Tensor Forward(const Tensor& given) const override {
    Tensor linear, gelu, hidden;
    if (wi_1_.has_value()) {
      gelu = Activate(activation_, wi_(given));
      linear = (*wi_1_)(given);
      hidden = Mul(gelu, linear);
    } else {
      hidden = wi_(given);
      hidden = Activate(activation_, hidden);
    }
    hidden = (*drop_)(hidden);
    hidden = To(hidden, wo_->weight()->dtype);
    hidden = (*wo_)(hidden);
    return hidden;
  }

 private:
  Activation activation_;
  LinearLayer wi_;
  std::optional<LinearLayer> wi_1_;
  std::optional<LinearLayer> wo_;
  std::optional<DropoutLayer> drop_;
};

class FeedForward : public Layer {
 public:
  FeedForward(Module& parent, const std::string& name, const ModelConfig& m, const T5Options& options)
      : Layer(parent, name),
        dense_(*this, m, options),
        norm_(*this, "layer_norm", m.hidden, options.epsilon),
        drop_(*this, "dropout", options.dropout) {}

 protected:
  Tensor Forward(const Tensor& hidden) const override {
    Tensor forwarded = norm_(hidden);
    forwarded = dense_(forwarded);
    return Add(hidden, drop_(forwarded));
  }

 private:
  Dense dense_;
  T5Norm norm_;
  DropoutLayer drop_;
};

// T5LayerSelfAttention and T5LayerCrossAttention.
class AttentionLayer : public Module {
 public:
  AttentionLayer(Module& parent, const std::string& name, const ModelConfig& m, const T5Options& options,
                 const T5Attention::Kind& kind)
      : Module(parent, name),
        attention_(*this, kind.cross ? "EncDecAttention" : "SelfAttention", m, options, kind),
        norm_(*this, "layer_norm", m.hidden, options.epsilon),
        drop_(*this, "dropout", options.dropout) {}

  T5AttentionResult operator()(const Tensor& hidden, const Tensor& mask, const Tensor& encoded,
                               const Tensor& position_bias, KeyValueCache* cache) const {
    const InScope in_scope(tracer(), scope());
    T5AttentionResult result;
    Tensor normed = norm_(hidden);
    result = attention_(normed, mask, encoded, position_bias, cache);
    result.output = Add(hidden, drop_(result.output));
    return result;
  }

 private:
  T5Attention attention_;
  T5Norm norm_;
  DropoutLayer drop_;
};

// A clamp of what is infinite in float16.
Tensor ClampInfinities(Tensor& hidden, Tensor& limit) {
  constexpr double kLargest = 65504;
  constexpr double kMargin = 1000;
  Tracer& tracer = hidden.tracer();
  {
    Tensor magnitude = Unary(OpKind::kAbs, hidden);
    Tensor is_infinite = Unary(OpKind::kIsInf, std::move(magnitude), DType::kBool);
    Tensor any = tracer.Emit(OpKind::kAny, {&is_infinite}, tidemark::Contiguous(DType::kBool, {}));
    is_infinite.Reset();
    limit = WhereNumbers(std::move(any), kLargest - kMargin, kLargest);
  }
  return Clamp(hidden, Neg(limit), limit);
}

class Block : public Module {
 public:
  Block(Module& parent, const RunConfig& run, const T5Options& options, bool decoder, size_t index)
      : Module(parent, "block." + std::to_string(index)),
        recompute_(run.recompute),
        self_(*this, "layer.0", run.model, options, {.decoder = decoder, .relative_bias = index == 0, .index = index}) {
    if (decoder) cross_.emplace(*this, "layer.1", run.model, options, T5Attention::Kind{true, true, false, index});
    feed_forward_.emplace(*this, decoder ? "layer.2" : "layer.1", run.model, options);
  }

  struct Inputs {
    const Tensor& mask;
    const Tensor& position_bias;
    const Tensor& encoded;
    const Tensor& cross_bias;
  };

  // (hidden_states, self_attn_position_bias, cross_attn_position_bias)
  Tensors operator()(const Tensor& hidden, const Inputs& inputs, T5Cache* cache) const {
    Region region = [this, cache](const Tensors& a) { return Run(a[0], {a[1], a[2], a[3], a[5]}, cache); };
    const Tensor no_mask;
    return RunLayer(tracer(), recompute_,
                    {hidden, inputs.mask, inputs.position_bias, inputs.encoded, no_mask, inputs.cross_bias},
                    std::move(region));
  }

 private:
  Tensors Run(const Tensor& given, const Inputs& inputs, T5Cache* cache) const {
    const InScope in_scope(tracer(), scope());
    Tensor cross_bias, limit, weights, bias, hidden;
    {
      T5AttentionResult result =
          self_(given, inputs.mask, Tensor(), inputs.position_bias, cache != nullptr ? &cache->self : nullptr);
      hidden = std::move(result.output);
      bias = std::move(result.position_bias);
      weights = std::move(result.weights);
    }
    if (hidden.dtype() == DType::kFloat16) hidden = ClampInfinities(hidden, limit);
    if (cross_.has_value()) {
      T5AttentionResult result =
          (*cross_)(hidden, Tensor(), inputs.encoded, inputs.cross_bias, cache != nullptr ? &cache->cross : nullptr);
      hidden = std::move(result.output);
      cross_bias = std::move(result.position_bias);
      weights = std::move(result.weights);
      if (hidden.dtype() == DType::kFloat16) hidden = ClampInfinities(hidden, limit);
    }
    hidden = (*feed_forward_)(hidden);
    if (hidden.dtype() == DType::kFloat16) hidden = ClampInfinities(hidden, limit);
    return {std::move(hidden), std::move(bias), std::move(cross_bias)};
  }

  std::optional<RecomputeConfig> recompute_;
  AttentionLayer self_;
  std::optional<AttentionLayer> cross_;
  std::optional<FeedForward> feed_forward_;
};

class Stack : public Module {
 public:
  Stack(Module& parent, const std::string& name, const RunConfig& run, const T5Options& options, bool decoder,
        const ParameterPtr& shared)
      : Module(parent, name),
        options_(options),
        decoder_(decoder),
        embed_tokens_(*this, "embed_tokens", run.model.vocab, run.model.hidden, shared) {
    const int64_t layers = decoder ? options.decoder_layers : run.model.layers;
    for (size_t i = 0; i < static_cast<size_t>(layers); ++i) {
      blocks_.push_back(std::make_unique<Block>(*this, run, options, decoder, i));
    }
    norm_.emplace(*this, "final_layer_norm", run.model.hidden, options.epsilon);
    drop_.emplace(*this, "dropout", options.dropout);
  }

  // `encoded`: the encoder's result, for the decoder.
  Tensor operator()(const Tensor& tokens, const Tensor& encoded, T5Cache* cache) const {
    const InScope in_scope(tracer(), scope());
    Tensor new_cross_bias, new_bias, hidden, cross_bias, bias, embeddings, mask;
    embeddings = embed_tokens_(tokens);
    if (decoder_) {
      const Tensor no_positions;
      mask = CausalMask(embeddings, no_positions, {.eager = options_.eager, .has_cache = cache != nullptr});
    }
    hidden = (*drop_)(embeddings);
    for (const auto& block : blocks_) {
      {
        Tensors results = (*block)(hidden, {mask, bias, encoded, cross_bias}, cache);
        hidden = std::move(results[0]);
        new_bias = std::move(results[1]);
        new_cross_bias = std::move(results[2]);
      }
      bias = new_bias;
      if (decoder_) cross_bias = new_cross_bias;
    }
    hidden = (*norm_)(hidden);
    hidden = (*drop_)(hidden);
    return hidden;
  }

 private:
  const T5Options& options_;
  bool decoder_;
  EmbeddingLayer embed_tokens_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::optional<T5Norm> norm_;
  std::optional<DropoutLayer> drop_;
};

// _shift_right: the decoder's input.
Tensor ShiftRight(const Tensor& labels) {
  Tracer& tracer = labels.tracer();
  const int64_t length = labels.size(1);
  const Tensor shifted = Full(tracer, labels.dtype(), labels.sizes(), 0);
  {
    const Tensor target = Slice(shifted, 1, 1, length);
    const Tensor source = Clone(Slice(labels, 1, 0, length - 1));
    tracer.EmitInPlace(OpKind::kCopyInto, {&target, &source}, {&target});
  }
  const Tensor ignored = Compare(Comparison::kEqual, shifted, static_cast<double>(kIgnoredLabel));
  tracer.EmitInPlace(OpKind::kMaskedFill, {&shifted, &ignored}, {&shifted}, {.number = 0});
  return shifted;
}

class T5 : public Model {
 public:
  T5(Tracer& tracer, const RunConfig& run, const T5Options& options)
      : Model(tracer, WeightDType(run.training.precision)),
        options_(options),
        recompute_(run.recompute),
        use_cache_(run.model.use_cache),
        shared_(*this, "shared", run.model.vocab, run.model.hidden),
        encoder_(*this, "encoder", run, options_, false, shared_.weight()),
        decoder_(*this, "decoder", run, options_, true, shared_.weight()),
        lm_head_(*this, "lm_head", run.model.hidden, run.model.vocab, false, shared_.weight()) {}

  ModelOutput Forward(const Tensor& tokens, const Tensor& targets) override {
    ModelOutput out;
    std::optional<T5Cache> cache;
    if (use_cache_ && !Checkpoints(tracer(), recompute_)) cache.emplace(static_cast<size_t>(options_.decoder_layers));
    const Tensor none;
    Tensor sequence, decoded, encoded, decoder_tokens;
    encoded = encoder_(tokens, none, nullptr);
    decoder_tokens = ShiftRight(targets);
    decoded = decoder_(decoder_tokens, encoded, cache ? &*cache : nullptr);
    sequence = decoded;
    if (options_.scale_outputs) sequence = Mul(sequence, 1 / std::sqrt(static_cast<double>(sequence.size(-1))));
    out.logits = lm_head_(sequence);
    tracer().SetRole(out.logits, Role::kLogitsAndLoss);
    {
      Operand flat_logits = View(out.logits, {targets.NumElements(), out.logits.size(-1)});
      Operand flat_targets = View(targets, {targets.NumElements()});
      out.loss = CrossEntropy(std::move(flat_logits), std::move(flat_targets));
    }
    if (cache) out.cache = cache->Release();
    out.encoder = encoded;
    return out;
  }

 private:
  T5Options options_;
  std::optional<RecomputeConfig> recompute_;
  bool use_cache_;
  EmbeddingLayer shared_;
  Stack encoder_;
  Stack decoder_;
  LinearLayer lm_head_;
};

// feed_forward_proj: an activation, or "gated-" and an activation.
Status ReadFeedForward(ConfigReader& reader, T5Options& options) {
  std::string text = "relu";
  reader.Text("feed_forward_proj", &text);
  constexpr std::string_view kGated = "gated-";
  options.gated = text.starts_with(kGated);
  if (options.gated) text.erase(0, kGated.size());
  if (options.gated && text == "gelu") text = "gelu_new";
  ASSIGN_OR_RETURN(options.activation, ParseActivation(text, "model.config.feed_forward_proj"));
  return {};
}

Status ReadOptions(const ModelConfig& model, T5Options& options) {
  options.dropout = model.dropout;
  options.decoder_layers = model.layers;
  options.scale_outputs = model.tied_embeddings;
  ConfigReader reader(model);
  const Status feed_forward = ReadFeedForward(reader, options);
  reader.Number("dropout_rate", &options.dropout, 0, kLargestDropout);
  reader.Number("layer_norm_epsilon", &options.epsilon, 0, 1);
  reader.Integer("num_decoder_layers", &options.decoder_layers);
  reader.Integer("relative_attention_num_buckets", &options.buckets, 4);
  reader.Integer("relative_attention_max_distance", &options.max_distance);
  reader.Ignore({"classifier_dropout", "decoder_start_token_id", "initializer_factor", "is_encoder_decoder"});
  reader.IgnoreCommon();
  RETURN_IF_ERROR(reader.Finish());
  return feed_forward;
}

}  // namespace

Result<std::unique_ptr<Model>> MakeT5(Tracer& tracer, const RunConfig& run) {
  T5Options options;
  options.eager = run.training.attention == AttentionChoice::kEager;
  options.checkpoints = run.recompute.has_value();
  RETURN_IF_ERROR(ReadOptions(run.model, options));
  return std::unique_ptr<Model>(std::make_unique<T5>(tracer, run, options));
}

}  // namespace tidemark::transformers
