// Layer norm and its gradients.
#include <cmath>

#include "kernels/cuda/map.h"

namespace tidemark::cuda {
namespace {

// A block for each row.
__global__ void LayerNormKernel(View in, View weight, View bias, View out, View mean, View deviation, int64_t width,
                                double epsilon) {
  const int64_t begin = BlockX() * width;
  float* shared = SharedFloats();
  float mine = 0;
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock()) mine += in.Load<float>(begin + i);
  const float m = BlockSum(mine, shared) / static_cast<float>(width);
  mine = 0;
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock()) {
    const float centred = in.Load<float>(begin + i) - m;
    mine += centred * centred;
  }
  const float variance = BlockSum(mine, shared) / static_cast<float>(width);
  const float d = 1 / std::sqrt(variance + static_cast<float>(epsilon));
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock()) {
    const float shift = bias.data == nullptr ? 0 : bias.Load<float>(i);
    out.Store<float>(begin + i, (in.Load<float>(begin + i) - m) * d * weight.Load<float>(i) + shift);
  }
  if (ThreadInBlock() == 0) {
    mean.Store<float>(BlockX(), m);
    deviation.Store<float>(BlockX(), d);
  }
}

__global__ void InputGradientKernel(View gradient, View in, View mean, View deviation, View weight, View out,
                                    int64_t width) {
  const int64_t begin = BlockX() * width;
  float* shared = SharedFloats();
  const float m = mean.Load<float>(BlockX());
  const float d = deviation.Load<float>(BlockX());
  float sum = 0;
  float product = 0;
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock()) {
    const float g = gradient.Load<float>(begin + i) * weight.Load<float>(i);
    sum += g;
    product += g * (in.Load<float>(begin + i) - m) * d;
  }
  const float a = BlockSum(sum, shared) / static_cast<float>(width);
  const float b = BlockSum(product, shared) / static_cast<float>(width);
  for (int64_t i = ThreadInBlock(); i < width; i += ThreadsInBlock()) {
    const float g = gradient.Load<float>(begin + i) * weight.Load<float>(i);
    out.Store<float>(begin + i, (g - a - (in.Load<float>(begin + i) - m) * d * b) * d);
  }
}

// A block for each column: sums over rows.
__global__ void WeightGradientKernel(View gradient, View in, View mean, View deviation, View weight_gradient,
                                     View bias_gradient, int64_t width) {
  const int64_t column = BlockX();
  float* shared = SharedFloats();
  float of_weight = 0;
  float of_bias = 0;
  for (int64_t row = ThreadInBlock(); row < gradient.size / width; row += ThreadsInBlock()) {
    const float g = gradient.Load<float>(row * width + column);
    of_bias += g;
    of_weight += g * (in.Load<float>(row * width + column) - mean.Load<float>(row)) * deviation.Load<float>(row);
  }
  of_weight = BlockSum(of_weight, shared);
  of_bias = BlockSum(of_bias, shared);
  if (ThreadInBlock() != 0) return;
  weight_gradient.Store<float>(column, of_weight);
  if (bias_gradient.data != nullptr) bias_gradient.Store<float>(column, of_bias);
}

Shape ForBlocks(int64_t n) {
  return {.grid = {n}, .threads = kRowThreads, .shared_floats = kRowThreads, .barriers = true};
}

Status LayerNorm(const KernelCall& c, const Context& x) {
  const View in = ViewOf(c.in[0]);
  const int64_t width = c.in[0].sizes.back();
  Launch(x, ForBlocks(in.size / width), &LayerNormKernel, in, ViewOf(c.in[1]),
         c.in.size() > 2 ? ViewOf(c.in[2]) : View{}, ViewOf(c.out[0]), ViewOf(c.out[1]), ViewOf(c.out[2]), width,
         c.attributes.number);
  return {};
}

Status LayerNormBackward(const KernelCall& c, const Context& x) {
  const View gradient = ViewOf(c.in[0]);
  const View in = ViewOf(c.in[1]);
  const View mean = ViewOf(c.in[2]);
  const View deviation = ViewOf(c.in[3]);
  const int64_t width = c.in[1].sizes.back();
  Launch(x, ForBlocks(in.size / width), &InputGradientKernel, gradient, in, mean, deviation, ViewOf(c.in[4]),
         ViewOf(c.out[0]), width);
  if (c.out.size() < 2) return {};
  Launch(x, ForBlocks(width), &WeightGradientKernel, gradient, in, mean, deviation, ViewOf(c.out[1]),
         c.out.size() > 2 ? ViewOf(c.out[2]) : View{}, width);
  return {};
}

constexpr KernelEntry kEntries[] = {
    {OpKind::kLayerNorm, &LayerNorm},
    {OpKind::kLayerNormBackward, &LayerNormBackward},
};

}  // namespace

std::span<const KernelEntry> NormalizationKernels() { return kEntries; }

}  // namespace tidemark::cuda
