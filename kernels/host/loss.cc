// The negative log likelihood and its gradient.
#include <array>
#include <optional>

#include "kernels/host/kernel.h"
#include "kernels/host/map.h"

namespace tidemark::host {
namespace {

// Targets, or nothing if one is neither a class nor the ignored number.
std::optional<std::vector<int64_t>> TargetsOf(const TensorSpan& t, int64_t classes, int64_t ignored) {
  std::vector<int64_t> targets = Integers(t);
  for (const int64_t target : targets) {
    if (target != ignored && (target < 0 || target >= classes)) return std::nullopt;
  }
  return targets;
}

Result<RunOutcome> NllLoss(const KernelCall& c) {
  const int64_t classes = c.in[0].sizes.back();
  const int64_t ignored = c.attributes.integer[0];
  const auto targets = TargetsOf(c.in[1], classes, ignored);
  if (!targets) return RunOutcome::kBadIndex;
  const Elements logits(c.in[0]);
  double sum = 0;
  double count = 0;
  for (size_t i = 0; i < targets->size(); ++i) {
    if ((*targets)[i] == ignored) continue;
    float value = 0;
    logits.Load(static_cast<int64_t>(i) * classes + (*targets)[i], 1, &value);
    sum -= static_cast<double>(value);
    count += 1;
  }
  if (c.attributes.integer[1] == 0) sum /= count;
  Elements(c.out[0]).Store(0, 1, &sum);
  Elements(c.out[1]).Store(0, 1, &count);
  return RunOutcome::kDone;
}

Result<RunOutcome> NllLossBackward(const KernelCall& c) {
  const int64_t classes = c.in[1].sizes.back();
  const int64_t ignored = c.attributes.integer[0];
  const auto targets = TargetsOf(c.in[2], classes, ignored);
  if (!targets) return RunOutcome::kBadIndex;
  const float value = -Floats(c.in[0])[0] / Floats(c.in[3])[0];
  const Elements result(c.out[0]);
  Parallel(static_cast<int64_t>(targets->size()), classes, [&](int64_t i) {
    std::vector<float> row(static_cast<size_t>(classes));
    const int64_t target = (*targets)[static_cast<size_t>(i)];
    if (target != ignored) row[static_cast<size_t>(target)] = value;
    result.Store(i * classes, classes, row.data());
  });
  return RunOutcome::kDone;
}

}  // namespace

std::span<const KernelEntry> LossKernels() {
  static constexpr std::array kEntries = {
      KernelEntry{OpKind::kNllLoss, &NllLoss},
      KernelEntry{OpKind::kNllLossBackward, &NllLossBackward},
  };
  return kEntries;
}

}  // namespace tidemark::host
