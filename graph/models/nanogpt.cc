// GPT-2 as nanoGPT writes it (model.py at 3adf61e1): a fused projection of q, k and v, pre-norm blocks, GELU in its erf
// form, a head that may share the embedding's weight, and a loss on every position.
//
// Names live as they do there. Locals are declared in the reverse of Python's order, since C++ drops them last to
// first.
#include "graph/models/nanogpt.h"

#include <cmath>
#include <limits>

#include "graph/checkpoint.h"

namespace tidemark {
namespace {

constexpr int64_t kIgnored = -1;  // ignore_index

class Attention : public Layer {
 public:
  Attention(Module& parent, const std::string& name, const ModelConfig& m, bool written_out)
      : Layer(parent, name),
        heads_(m.heads),
        rate_(m.dropout),
        c_attn_(*this, "c_attn", m.hidden, 3 * m.hidden, m.bias),
        c_proj_(*this, "c_proj", m.hidden, m.hidden, m.bias),
        drop_scores_(*this, "attn_dropout", m.dropout),
        drop_(*this, "resid_dropout", m.dropout) {
    if (written_out) mask_ = AddBuffer("bias", dtype(), {1, 1, m.context, m.context}, {HostData::kLowerTriangle});
  }

 protected:
  Tensor Forward(const Tensor& x) const override {
    const Dims by_head = {x.size(0), x.size(1), heads_, x.size(2) / heads_};
    Tensor y, scores, v, k, q;
    {
      std::vector<Tensor> parts = Split(c_attn_(x), x.size(2), 2);
      q = std::move(parts[0]);
      k = std::move(parts[1]);
      v = std::move(parts[2]);
    }
    k = Transpose(View(k, by_head), 1, 2);
    q = Transpose(View(q, by_head), 1, 2);
    v = Transpose(View(v, by_head), 1, 2);
    if (mask_ != nullptr) {
      y = WrittenOut(q, k, v, scores);
    } else {
      const double rate = tracer().training ? rate_ : 0;
      y = ScaledDotProductAttention(q, k, v, Tensor(), {.causal = true, .dropout = rate});
    }
    y = View(tidemark::Contiguous(Transpose(y, 1, 2)), x.sizes());
    y = drop_(c_proj_(y));
    return y;
  }

 private:
  // `scores`: a name of the caller, which keeps the last version of them.
  Tensor WrittenOut(const Tensor& q, const Tensor& k, const Tensor& v, Tensor& scores) const {
    const int64_t length = q.size(2);
    scores = Mul(MatMul(q, Transpose(k, -2, -1)), 1.0 / std::sqrt(static_cast<double>(k.size(-1))));
    Tensor masked = Compare(Comparison::kEqual, Slice(Slice(mask_->tensor, 2, 0, length), 3, 0, length), 0);
    scores = MaskedFill(scores, std::move(masked), -std::numeric_limits<double>::infinity());
    scores = Softmax(scores);
    scores = drop_scores_(scores);
    return MatMul(scores, v);
  }

  int64_t heads_;
  double rate_;
  LinearLayer c_attn_;
  LinearLayer c_proj_;
  DropoutLayer drop_scores_;
  DropoutLayer drop_;
  ParameterPtr mask_;  // lower triangle; attention written out only
};

class Mlp : public Layer {
 public:
  Mlp(Module& parent, const std::string& name, const ModelConfig& m)
      : Layer(parent, name),
        c_fc_(*this, "c_fc", m.hidden, m.ffn, m.bias),
        c_proj_(*this, "c_proj", m.ffn, m.hidden, m.bias),
        drop_(*this, "dropout", m.dropout) {}

 protected:
  Tensor Forward(const Tensor& input) const override {
    Tensor x = c_fc_(input);
    x = Gelu(x);
    x = c_proj_(x);
    x = drop_(x);
    return x;
  }

 private:
  LinearLayer c_fc_;
  LinearLayer c_proj_;
  DropoutLayer drop_;
};

class Block : public Layer {
 public:
  Block(Module& parent, const std::string& name, const ModelConfig& m, bool written_out)
      : Layer(parent, name),
        ln_1_(*this, "ln_1", m.hidden, m.bias),
        attn_(*this, "attn", m, written_out),
        ln_2_(*this, "ln_2", m.hidden, m.bias),
        mlp_(*this, "mlp", m) {}

 protected:
  Tensor Forward(const Tensor& input) const override {
    Tensor x = input;
    x = Add(x, attn_(ln_1_(x)));
    x = Add(x, mlp_(ln_2_(x)));
    return x;
  }

 private:
  LayerNormLayer ln_1_;
  Attention attn_;
  LayerNormLayer ln_2_;
  Mlp mlp_;
};

class Gpt : public Model {
 public:
  Gpt(Tracer& tracer, const RunConfig& run)
      : Model(tracer, WeightDType(run.training.precision)),
        recompute_(run.recompute),
        wte_(*this, "wte", run.model.vocab, run.model.hidden),
        wpe_(*this, "wpe", run.model.context, run.model.hidden),
        drop_(*this, "drop", run.model.dropout) {
    const ModelConfig& m = run.model;
    for (int64_t i = 0; i < m.layers; ++i) {
      h_.push_back(std::make_unique<Block>(*this, "h." + std::to_string(i), m,
                                           run.training.attention == AttentionChoice::kEager));
    }
    ln_f_ = std::make_unique<LayerNormLayer>(*this, "ln_f", m.hidden, m.bias);
    lm_head_ = std::make_unique<LinearLayer>(*this, "lm_head", m.hidden, m.vocab, false,
                                             m.tied_embeddings ? wte_.weight() : nullptr);
  }

  ModelOutput Forward(const Tensor& tokens, const Tensor& targets) override {
    Tensor x, position_rows, token_rows, positions;
    positions = Arange(tracer(), 0, tokens.size(1));
    token_rows = wte_(tokens);
    position_rows = wpe_(positions);
    x = drop_(Add(token_rows, position_rows));
    for (const auto& block : h_) x = Run(*block, x);
    x = (*ln_f_)(x);
    ModelOutput out;
    out.logits = (*lm_head_)(x);
    tracer().SetRole(out.logits, Role::kLogitsAndLoss);
    const InScope in_loss(tracer(), scope());
    Operand flat_logits = View(out.logits, {tokens.NumElements(), out.logits.size(-1)});
    Operand flat_targets = View(targets, {targets.NumElements()});
    out.loss = CrossEntropy(std::move(flat_logits), std::move(flat_targets), kIgnored);
    return out;
  }

 private:
  Tensor Run(const Block& block, const Tensor& x) {
    if (!recompute_.has_value() || !tracer().training) return block(x);
    const Region region = [&block](const Tensors& inputs) { return Tensors{block(inputs[0])}; };
    Tensors result = recompute_->reentrant ? CheckpointReentrant(tracer(), {x}, region)
                                           : CheckpointNonReentrant(tracer(), {x}, region);
    return std::move(result[0]);
  }

  std::optional<RecomputeConfig> recompute_;
  EmbeddingLayer wte_;
  EmbeddingLayer wpe_;
  DropoutLayer drop_;
  std::vector<std::unique_ptr<Block>> h_;
  std::unique_ptr<LayerNormLayer> ln_f_;
  std::unique_ptr<LinearLayer> lm_head_;
};

}  // namespace

Result<std::unique_ptr<Model>> MakeNanogpt(Tracer& tracer, const RunConfig& run) {
  return std::unique_ptr<Model>(std::make_unique<Gpt>(tracer, run));
}

}  // namespace tidemark
