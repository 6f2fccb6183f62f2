#include "graph/models/transformers/causal_lm.h"

namespace tidemark::transformers {

Tensor CausalLmLoss(const Tensor& logits_given, const Tensor& labels_given) {
  Tensor shifted, labels, logits;
  logits = To(logits_given, DType::kFloat32);
  logits.tracer().SetRole(logits, Role::kLogitsAndLoss);
  labels = Pad(labels_given, labels_given.size(1) + 1, kIgnoredLabel);
  shifted = tidemark::Contiguous(Slice(labels, 1, 1, labels.size(1)));
  logits = View(logits, {logits.NumElements() / logits.size(-1), logits.size(-1)});
  shifted = View(shifted, {shifted.NumElements()});
  return CrossEntropy(logits, shifted);
}

}  // namespace tidemark::transformers
