#include "graph/models/transformers/causal_lm.h"

#include "graph/models/transformers/decoder_layer.h"

namespace tidemark::transformers {

Tensor CausalLmLoss(const Tensor& logits_given, const Tensor& labels_given) {
  Tensor shifted, labels, logits;
  logits = To(logits_given, DType::kFloat32);
  logits.tracer().SetRole(logits, Role::kLogitsAndLoss);
  labels = Pad(labels_given, labels_given.size(1) + 1, static_cast<double>(kIgnoredLabel));
  shifted = tidemark::Contiguous(Slice(labels, 1, 1, labels.size(1)));
  logits = View(logits, {logits.NumElements() / logits.size(-1), logits.size(-1)});
  shifted = View(shifted, {shifted.NumElements()});
  return CrossEntropy(logits, shifted);
}

ModelOutput CausalLm::Forward(const Tensor& tokens, const Tensor& targets) {
  ModelOutput out;
  std::optional<KeyValueCache> cache;
  if (use_cache_ && !Checkpoints(tracer(), recompute_)) cache.emplace(backbone_->windows());
  Tensor hidden, last_hidden;
  last_hidden = (*backbone_)(tokens, cache ? &*cache : nullptr);
  hidden = last_hidden;
  hidden = Slice(hidden, 1, 0, hidden.size(1));  // logits_to_keep: all
  out.logits = lm_head_(hidden);
  tracer().SetRole(out.logits, Role::kLogitsAndLoss);
  out.loss = CausalLmLoss(out.logits, targets);
  if (cache) out.cache = cache->Release();
  return out;
}

}  // namespace tidemark::transformers
