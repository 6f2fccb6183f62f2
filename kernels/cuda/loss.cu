// The negative log likelihood and its gradient.
#include "kernels/cuda/map.h"

namespace tidemark::cuda {
namespace {

__global__ void NllLossKernel(View logits, View targets, View loss, View count, int64_t classes, int64_t ignored,
                              int* bad) {
  float* shared = SharedFloats();
  float sum = 0;
  float counted = 0;
  for (int64_t i = ThreadInBlock(); i < targets.size; i += ThreadsInBlock()) {
    const int64_t target = targets.Load<int64_t>(i);
    if (target == ignored) continue;
    if (target < 0 || target >= classes) {
      *bad = 1;
      continue;
    }
    sum -= logits.Load<float>(i * classes + target);
    counted += 1;
  }
  sum = BlockSum(sum, shared);
  counted = BlockSum(counted, shared);
  if (ThreadInBlock() != 0) return;
  loss.Store<float>(0, sum / counted);
  count.Store<float>(0, counted);
}

__global__ void NllLossBackwardKernel(View gradient, View targets, View count, View out, int64_t classes,
                                      int64_t ignored, int* bad) {
  const float value = -gradient.Load<float>(0) / count.Load<float>(0);
  for (int64_t i = FirstElement(); i < out.size; i += ElementStride()) {
    const int64_t target = targets.Load<int64_t>(i / classes);
    if (target != ignored && (target < 0 || target >= classes)) *bad = 1;
    out.Store<float>(i, target != ignored && target == i % classes ? value : 0);
  }
}

Status NllLoss(const KernelCall& c, const Context& x) {
  constexpr unsigned kThreads = 1024;
  Launch(x, {.threads = kThreads, .shared_floats = kThreads, .barriers = true}, &NllLossKernel, ViewOf(c.in[0]),
         ViewOf(c.in[1]), ViewOf(c.out[0]), ViewOf(c.out[1]), c.in[0].sizes.back(), c.attributes.integer[0],
         x.bad_index);
  return {};
}

Status NllLossBackward(const KernelCall& c, const Context& x) {
  const View out = ViewOf(c.out[0]);
  Launch(x, Over(out.size), &NllLossBackwardKernel, ViewOf(c.in[0]), ViewOf(c.in[2]), ViewOf(c.in[3]), out,
         c.in[1].sizes.back(), c.attributes.integer[0], x.bad_index);
  return {};
}

constexpr KernelEntry kEntries[] = {
    {OpKind::kNllLoss, &NllLoss, true},
    {OpKind::kNllLossBackward, &NllLossBackward, true},
};

}  // namespace

std::span<const KernelEntry> LossKernels() { return kEntries; }

}  // namespace tidemark::cuda
