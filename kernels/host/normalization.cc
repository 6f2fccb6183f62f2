// Layer norm and its gradients.
#include <array>
#include <cmath>

#include "kernels/host/kernel.h"
#include "kernels/host/map.h"

namespace tidemark::host {
namespace {

Result<RunOutcome> LayerNorm(const KernelCall& c) {
  const int64_t width = c.in[0].sizes.back();
  const auto n = static_cast<size_t>(width);
  const std::vector<float> weight = Floats(c.in[1]);
  const std::vector<float> bias = c.in.size() > 2 ? Floats(c.in[2]) : std::vector<float>(n);
  const Elements source(c.in[0]);
  const Elements result(c.out[0]);
  const Elements means(c.out[1]);
  const Elements deviations(c.out[2]);
  Parallel(source.size() / width, width, [&](int64_t row) {
    std::vector<float> x(n);
    source.Load(row * width, width, x.data());
    double sum = 0;
    for (const float v : x) sum += static_cast<double>(v);
    const double mean = sum / static_cast<double>(width);
    double squares = 0;
    for (const float v : x) squares += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
    const auto deviation =
        static_cast<float>(1 / std::sqrt(squares / static_cast<double>(width) + c.attributes.number));
    const auto shift = static_cast<float>(mean);
    for (size_t i = 0; i < n; ++i) x[i] = (x[i] - shift) * deviation * weight[i] + bias[i];
    result.Store(row * width, width, x.data());
    means.Store(row, 1, &shift);
    deviations.Store(row, 1, &deviation);
  });
  return RunOutcome::kDone;
}

// Rows are summed in blocks, and those in order: how many threads there are changes nothing.
constexpr int64_t kBlocks = 16;

struct Sums {
  std::vector<double> weight, bias;
};

Result<RunOutcome> LayerNormBackward(const KernelCall& c) {
  const int64_t width = c.in[1].sizes.back();
  const auto n = static_cast<size_t>(width);
  const std::vector<float> mean = Floats(c.in[2]);
  const std::vector<float> deviation = Floats(c.in[3]);
  const std::vector<float> weight = Floats(c.in[4]);
  const Elements gradient(c.in[0]);
  const Elements source(c.in[1]);
  const Elements result(c.out[0]);
  const int64_t rows = source.size() / width;
  const int64_t rows_of_block = (rows + kBlocks - 1) / kBlocks;
  std::vector<Sums> sums(kBlocks);
  Parallel(kBlocks, rows_of_block * width, [&](int64_t block) {
    Sums& s = sums[static_cast<size_t>(block)];
    s.weight.assign(n, 0);
    s.bias.assign(n, 0);
    std::vector<float> g(n), x(n);
    for (int64_t row = block * rows_of_block; row < std::min(rows, (block + 1) * rows_of_block); ++row) {
      const auto r = static_cast<size_t>(row);
      gradient.Load(row * width, width, g.data());
      source.Load(row * width, width, x.data());
      double sum = 0;
      double product = 0;
      for (size_t i = 0; i < n; ++i) {
        x[i] = (x[i] - mean[r]) * deviation[r];
        s.weight[i] += static_cast<double>(g[i]) * static_cast<double>(x[i]);
        s.bias[i] += static_cast<double>(g[i]);
        g[i] *= weight[i];
        sum += static_cast<double>(g[i]);
        product += static_cast<double>(g[i]) * static_cast<double>(x[i]);
      }
      const auto a = static_cast<float>(sum / static_cast<double>(width));
      const auto b = static_cast<float>(product / static_cast<double>(width));
      for (size_t i = 0; i < n; ++i) g[i] = (g[i] - a - x[i] * b) * deviation[r];
      result.Store(row * width, width, g.data());
    }
  });
  for (size_t block = 1; block < kBlocks; ++block) {
    for (size_t i = 0; i < n; ++i) {
      sums[0].weight[i] += sums[block].weight[i];
      sums[0].bias[i] += sums[block].bias[i];
    }
  }
  if (c.out.size() > 1) Elements(c.out[1]).Store(0, width, sums[0].weight.data());
  if (c.out.size() > 2) Elements(c.out[2]).Store(0, width, sums[0].bias.data());
  return RunOutcome::kDone;
}

}  // namespace

std::span<const KernelEntry> NormalizationKernels() {
  static constexpr std::array kEntries = {
      KernelEntry{OpKind::kLayerNorm, &LayerNorm},
      KernelEntry{OpKind::kLayerNormBackward, &LayerNormBackward},
  };
  return kEntries;
}

}  // namespace tidemark::host
