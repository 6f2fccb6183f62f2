// What the causal language models share: a backbone of decoder layers, a head, and the loss.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "graph/functional.h"
#include "graph/model.h"
#include "graph/models/transformers/cache.h"

namespace tidemark::transformers {

// ForCausalLMLoss: logits in fp32 [B, T, V], labels [B, T] shifted by one place.
Tensor CausalLmLoss(const Tensor& logits, const Tensor& labels);

// LlamaModel, GPTNeoXModel, …: from tokens to the last hidden state.
class Backbone : public Module {
 public:
  using Module::Module;
  // `cache`: null without use_cache.
  Tensor operator()(const Tensor& tokens, KeyValueCache* cache) const {
    const InScope in_scope(tracer(), scope());
    return Forward(tokens, cache);
  }
  virtual const ParameterPtr& embedding() const = 0;
  // By layer, its sliding window, for the cache.
  virtual std::vector<std::optional<int64_t>> windows() const = 0;

 protected:
  virtual Tensor Forward(const Tensor& tokens, KeyValueCache* cache) const = 0;
};

// LlamaForCausalLM and the like.
class CausalLm : public Model {
 public:
  // `Make` makes the backbone as a child: its parameters come before the head's.
  template <typename Make>
  CausalLm(Tracer& tracer, const RunConfig& run, bool head_bias, Make make)
      : Model(tracer, WeightDType(run.training.precision)),
        recompute_(run.recompute),
        use_cache_(run.model.use_cache),
        backbone_(make(*this)),
        lm_head_(*this, "lm_head", backbone_->embedding()->sizes[1], run.model.vocab, head_bias,
                 run.model.tied_embeddings ? backbone_->embedding() : nullptr) {}

  ModelOutput Forward(const Tensor& tokens, const Tensor& targets) override;

 private:
  std::optional<RecomputeConfig> recompute_;
  bool use_cache_;
  std::unique_ptr<Backbone> backbone_;
  LinearLayer lm_head_;
};

}  // namespace tidemark::transformers
