#include <array>

#include "graph/autocast.h"
#include "graph/autograd.h"
#include "graph/functional.h"

namespace tidemark {
namespace {

// Saved: 0 self, 1 target, 2 total weight.
void NllLossGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0)) return;
  const Tensor self = n.Unpack(0);
  const Tensor target = n.Unpack(1);
  const Tensor total_weight = n.Unpack(2);
  out[0] =
      n.tracer->Emit(OpKind::kNllLossBackward, {&in[0], &self, &target, &total_weight},
                     Contiguous(self.dtype(), self.sizes(), Role::kLogitsAndLoss), {.integer = {n.data.integer[0]}});
}
constexpr NodeType kNllLossBackward = {"NllLossBackward0", &NllLossGradient};

}  // namespace

Tensor CrossEntropy(Operand logits, Operand targets, int64_t ignored) {
  Tracer& tracer = logits->tracer();
  const Role outer = std::exchange(tracer.result_role, Role::kLogitsAndLoss);
  const DType dtype = logits->dtype();                              // an explicit dtype: autocast doesn't ask for fp32
  Tensor log_probabilities = LogSoftmax(std::move(logits), dtype);  // nll_loss's argument, until it returns
  Tensor self = CastToFloat(log_probabilities);
  const NodeRef node = MakeNode(tracer, kNllLossBackward, {&self});
  if (node) {
    node->data.integer[0] = ignored;
    node->Save(self);
    node->Save(*targets);
  }
  const std::array types = {Contiguous(self.dtype(), {}), Contiguous(self.dtype(), {})};
  std::array<Tensor, 2> results;
  const std::array<const Tensor*, 2> inputs = {&self, &*targets};
  tracer.Emit(OpKind::kNllLoss, inputs, types, results, {.integer = {ignored}});
  if (node) {
    node->Save(results[1], true);
    node->SetHistory(results[0]);
  }
  tracer.result_role = outer;
  results[1].Reset();
  self.Reset();
  log_probabilities.Reset();
  targets.Drop();
  return std::move(results[0]);
}

}  // namespace tidemark
