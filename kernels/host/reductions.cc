// Kernels that reduce, and softmaxes. Sums are kept in double precision and in order.
#include <array>
#include <atomic>
#include <cmath>
#include <limits>

#include "kernels/host/kernel.h"
#include "kernels/host/map.h"

namespace tidemark::host {
namespace {

void Append(TensorSpan& t, int64_t size, int64_t stride) {
  t.sizes.Append(size);
  t.strides.Append(stride);
}

// result[k] = finish(fold of step(sum, value) over what is reduced to k). A dimension is reduced whose size in the
// result is 1, or which is missing there in front.
template <typename Step, typename Finish>
RunOutcome Reduce(const KernelCall& c, const Step& step, const Finish& finish) {
  const TensorSpan& in = c.in[0];
  const TensorSpan& out = c.out[0];
  // Reduced dimensions first, the kept ones behind: blocks of results are folded together.
  TensorSpan source = in;
  source.sizes = source.strides = {};
  const int leading = in.sizes.size() - out.sizes.size();
  const auto is_reduced = [&](int i) { return i < leading || (out.sizes[i - leading] == 1 && in.sizes[i] != 1); };
  int64_t reduced = 1;
  for (int i = 0; i < in.sizes.size(); ++i) {
    if (!is_reduced(i)) continue;
    Append(source, in.sizes[i], in.strides[i]);
    reduced *= in.sizes[i];
  }
  for (int i = 0; i < in.sizes.size(); ++i) {
    if (!is_reduced(i)) Append(source, in.sizes[i], in.strides[i]);
  }
  const Elements values(source);
  const Elements result(out);
  const int64_t kept = result.size();
  constexpr int64_t kTogether = 64;
  Parallel((kept + kTogether - 1) / kTogether, reduced * kTogether, [&](int64_t block) {
    const int64_t begin = block * kTogether;
    const int64_t n = std::min(kTogether, kept - begin);
    std::array<double, kTogether> sums{};
    if (kept == 1) {  // one run
      std::array<double, kChunk> run;
      for (int64_t i = 0; i < reduced; i += kChunk) {
        const int64_t count = std::min(kChunk, reduced - i);
        values.Load(i, count, run.data());
        for (int64_t k = 0; k < count; ++k) sums[0] = step(sums[0], run[static_cast<size_t>(k)]);
      }
    } else {
      std::array<double, kTogether> row;
      for (int64_t i = 0; i < reduced; ++i) {
        values.Load(i * kept + begin, n, row.data());
        for (size_t k = 0; k < static_cast<size_t>(n); ++k) sums[k] = step(sums[k], row[k]);
      }
    }
    for (size_t k = 0; k < static_cast<size_t>(n); ++k) sums[k] = finish(sums[k], reduced);
    result.Store(begin, n, sums.data());
  });
  return RunOutcome::kDone;
}

double Plus(double sum, double value) { return sum + value; }

Result<RunOutcome> Sum(const KernelCall& c) {
  return Reduce(c, Plus, [](double sum, int64_t) { return sum; });
}
Result<RunOutcome> Mean(const KernelCall& c) {
  return Reduce(c, Plus, [](double sum, int64_t n) { return sum / static_cast<double>(n); });
}
Result<RunOutcome> Norm(const KernelCall& c) {
  return Reduce(
      c, [](double sum, double v) { return sum + v * v; }, [](double sum, int64_t) { return std::sqrt(sum); });
}
Result<RunOutcome> Any(const KernelCall& c) {
  return Reduce(
      c, [](double any, double v) { return any != 0 || v != 0 ? 1.0 : 0.0; }, [](double any, int64_t) { return any; });
}
Result<RunOutcome> All(const KernelCall& c) {  // folds "there is a false one"
  return Reduce(
      c, [](double found, double v) { return found != 0 || v == 0 ? 1.0 : 0.0; },
      [](double found, int64_t) { return 1.0 - found; });
}

// f(row of floats) for each row of the last dimension of in0, written to out0. Further operands are rows, too.
template <typename F>
RunOutcome ForRows(const KernelCall& c, const F& f) {
  const int64_t width = c.out[0].sizes.back();
  std::vector<Elements> sources;
  for (const TensorSpan& t : c.in) sources.emplace_back(t);
  const Elements result(c.out[0]);
  std::atomic<bool> valid = true;
  Parallel(result.size() / width, width, [&](int64_t row) {
    std::array<std::vector<float>, 2> values;
    for (size_t k = 0; k < sources.size(); ++k) {
      values[k].resize(static_cast<size_t>(width));
      if (!sources[k].Load(row * width, width, values[k].data())) valid = false;
    }
    f(values);
    result.Store(row * width, width, values[0].data());
  });
  return valid ? RunOutcome::kDone : RunOutcome::kBadIndex;
}

using Rows = std::array<std::vector<float>, 2>;

float Highest(const std::vector<float>& row) {
  float highest = -std::numeric_limits<float>::infinity();
  for (const float v : row) {
    if (!(v <= highest)) highest = v;  // a NaN stays
  }
  return highest;
}

// Replaces values by exp(value - highest); returns their sum.
double Exponentials(std::vector<float>& row, float highest) {
  double sum = 0;
  for (float& v : row) {
    v = std::exp(v - highest);
    sum += static_cast<double>(v);
  }
  return sum;
}

void SoftmaxOf(std::vector<float>& row) {
  const auto factor = static_cast<float>(1 / Exponentials(row, Highest(row)));
  for (float& v : row) v *= factor;
}

Result<RunOutcome> Softmax(const KernelCall& c) {
  return ForRows(c, [](Rows& rows) { SoftmaxOf(rows[0]); });
}
Result<RunOutcome> SafeSoftmax(const KernelCall& c) {
  return ForRows(c, [](Rows& rows) {
    if (Highest(rows[0]) == -std::numeric_limits<float>::infinity()) {
      std::fill(rows[0].begin(), rows[0].end(), 0.0F);
    } else {
      SoftmaxOf(rows[0]);
    }
  });
}
Result<RunOutcome> SoftmaxBackward(const KernelCall& c) {
  return ForRows(c, [](Rows& rows) {
    double sum = 0;
    for (size_t i = 0; i < rows[0].size(); ++i)
      sum += static_cast<double>(rows[0][i]) * static_cast<double>(rows[1][i]);
    const auto mean = static_cast<float>(sum);
    for (size_t i = 0; i < rows[0].size(); ++i) rows[0][i] = rows[1][i] * (rows[0][i] - mean);
  });
}
Result<RunOutcome> LogSoftmax(const KernelCall& c) {
  return ForRows(c, [](Rows& rows) {
    const float highest = Highest(rows[0]);
    double sum = 0;
    for (const float v : rows[0]) sum += static_cast<double>(std::exp(v - highest));
    const float shift = highest + static_cast<float>(std::log(sum));
    for (float& v : rows[0]) v -= shift;
  });
}
Result<RunOutcome> LogSoftmaxBackward(const KernelCall& c) {
  return ForRows(c, [](Rows& rows) {
    double sum = 0;
    for (const float v : rows[0]) sum += static_cast<double>(v);
    const auto total = static_cast<float>(sum);
    for (size_t i = 0; i < rows[0].size(); ++i) rows[0][i] -= std::exp(rows[1][i]) * total;
  });
}

Result<RunOutcome> Cumsum(const KernelCall& c) {
  const int64_t width = c.out[0].sizes.back();
  const Elements source(c.in[0]);
  const Elements result(c.out[0]);
  std::vector<double> row(static_cast<size_t>(width));
  for (int64_t begin = 0; begin < source.size(); begin += width) {
    source.Load(begin, width, row.data());
    double sum = 0;
    for (double& v : row) v = sum += v;
    result.Store(begin, width, row.data());
  }
  return RunOutcome::kDone;
}

}  // namespace

std::span<const KernelEntry> ReductionKernels() {
  static constexpr std::array kEntries = {
      KernelEntry{OpKind::kSum, &Sum},
      KernelEntry{OpKind::kMean, &Mean},
      KernelEntry{OpKind::kNorm, &Norm},
      KernelEntry{OpKind::kAny, &Any},
      KernelEntry{OpKind::kAll, &All},
      KernelEntry{OpKind::kSoftmax, &Softmax},
      KernelEntry{OpKind::kSafeSoftmax, &SafeSoftmax},
      KernelEntry{OpKind::kSoftmaxBackward, &SoftmaxBackward},
      KernelEntry{OpKind::kLogSoftmax, &LogSoftmax},
      KernelEntry{OpKind::kLogSoftmaxBackward, &LogSoftmaxBackward},
      KernelEntry{OpKind::kCumsum, &Cumsum},
  };
  return kEntries;
}

}  // namespace tidemark::host
