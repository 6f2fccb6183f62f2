// Attention as it is written: softmax(scale * q k^T + mask) v, a head at a time, and its gradients. The device's fused
// kernels compute the same without keeping the scores.
#include <array>
#include <cmath>
#include <limits>

#include "kernels/host/elements.h"
#include "kernels/host/gemm.h"
#include "kernels/host/kernel.h"
#include "kernels/host/parallel.h"
#include "kernels/random.h"

namespace tidemark::host {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// One head of one sequence of a [B, heads, T, D] tensor.
TensorSpan HeadOf(const TensorSpan& t, int64_t batch, int64_t head) {
  TensorSpan matrix = t;
  matrix.data += (batch * t.strides[0] + head * t.strides[1]) * SizeOf(t.dtype).count();
  matrix.sizes = {t.sizes[2], t.sizes[3]};
  matrix.strides = {t.strides[2], t.strides[3]};
  return matrix;
}

struct Shape {
  int64_t batch, heads, queries, dim, kv_heads, keys, value_dim;
  int64_t group() const { return heads / kv_heads; }
};

Shape ShapeOf(const TensorSpan& q, const TensorSpan& k, const TensorSpan& v) {
  return {q.sizes[0], q.sizes[1], q.sizes[2], q.sizes[3], k.sizes[1], k.sizes[2], v.sizes[3]};
}

ConstMatrix Rows(const std::vector<float>& values, int64_t rows, int64_t columns) {
  return {values.data(), rows, columns, columns, 1};
}

// What the attributes and the mask make of the scores of a head.
class Scores {
 public:
  Scores(const Attributes& a, const TensorSpan* mask, const Shape& shape) : a_(a), mask_(mask), shape_(shape) {}

  // scale * q k^T + mask, minus infinity where causality says so.
  std::vector<float> Of(const std::vector<float>& q, const std::vector<float>& k, int64_t batch, int64_t head) const {
    std::vector<float> scores(static_cast<size_t>(shape_.queries * shape_.keys));
    Gemm(Rows(q, shape_.queries, shape_.dim), Rows(k, shape_.keys, shape_.dim).Transposed(),
         {scores.data(), shape_.keys}, static_cast<float>(a_.number));
    if (mask_ != nullptr) {
      const std::vector<float> mask = Floats(HeadOf(*mask_, batch, head));
      for (size_t i = 0; i < scores.size(); ++i) scores[i] += mask[i];
    }
    if (a_.integer[0] != 0) {
      for (int64_t i = 0; i < shape_.queries; ++i) {
        for (int64_t j = i + 1; j < shape_.keys; ++j) scores[static_cast<size_t>(i * shape_.keys + j)] = kMinusInfinity;
      }
    }
    return scores;
  }

  bool has_dropout() const { return a_.integer[1] > 0; }
  // What dropout multiplies the probability of query i and key j with.
  float Kept(int64_t batch, int64_t head, int64_t i, int64_t j) const {
    const int64_t index = ((batch * shape_.heads + head) * shape_.queries + i) * shape_.keys + j;
    if (!Survives(a_.integer[2], index, a_.integer[1])) return 0;
    return static_cast<float>(1 / (1 - static_cast<double>(a_.integer[1]) / kProbabilityUnit));
  }
  void Drop(std::vector<float>& values, int64_t batch, int64_t head) const {
    if (!has_dropout()) return;
    for (int64_t i = 0; i < shape_.queries; ++i) {
      for (int64_t j = 0; j < shape_.keys; ++j)
        values[static_cast<size_t>(i * shape_.keys + j)] *= Kept(batch, head, i, j);
    }
  }

 private:
  const Attributes& a_;
  const TensorSpan* mask_;
  const Shape& shape_;
};

// Turns a row of scores into probabilities; returns the log of the sum of their exponentials.
float SoftmaxOf(float* row, int64_t n) {
  float highest = kMinusInfinity;
  for (int64_t j = 0; j < n; ++j) {
    if (!(row[j] <= highest)) highest = row[j];
  }
  if (highest == kMinusInfinity) {
    std::fill(row, row + n, 0.0F);
    return kMinusInfinity;
  }
  double sum = 0;
  for (int64_t j = 0; j < n; ++j) {
    row[j] = std::exp(row[j] - highest);
    sum += static_cast<double>(row[j]);
  }
  const auto factor = static_cast<float>(1 / sum);
  for (int64_t j = 0; j < n; ++j) row[j] *= factor;
  return highest + static_cast<float>(std::log(sum));
}

void Forward(const KernelCall& c, const TensorSpan& result, const TensorSpan* sums) {
  const Shape shape = ShapeOf(c.in[0], c.in[1], c.in[2]);
  const Scores scoring(c.attributes, c.in.size() > 3 ? &c.in[3] : nullptr, shape);
  const int64_t work = shape.queries * shape.keys * shape.dim;
  Parallel(shape.batch * shape.heads, work, [&](int64_t at) {
    const int64_t batch = at / shape.heads;
    const int64_t head = at % shape.heads;
    const std::vector<float> q = Floats(HeadOf(c.in[0], batch, head));
    const std::vector<float> k = Floats(HeadOf(c.in[1], batch, head / shape.group()));
    const std::vector<float> v = Floats(HeadOf(c.in[2], batch, head / shape.group()));
    std::vector<float> p = scoring.Of(q, k, batch, head);
    for (int64_t i = 0; i < shape.queries; ++i) {
      const float log_sum = SoftmaxOf(&p[static_cast<size_t>(i * shape.keys)], shape.keys);
      if (sums == nullptr) continue;
      const int64_t offset = batch * sums->strides[0] + head * sums->strides[1] + i * sums->strides[2];
      StoreNumber(sums->dtype, sums->data + offset * SizeOf(sums->dtype).count(), static_cast<double>(log_sum));
    }
    scoring.Drop(p, batch, head);
    std::vector<float> y(static_cast<size_t>(shape.queries * shape.value_dim));
    Gemm(Rows(p, shape.queries, shape.keys), Rows(v, shape.keys, shape.value_dim), {y.data(), shape.value_dim});
    StoreFloats(HeadOf(result, batch, head), y.data());
  });
}

void Zero(const TensorSpan& t) {
  const std::vector<float> zeros(static_cast<size_t>(NumElements(t.sizes)));
  StoreFloats(t, zeros.data());
}

Result<RunOutcome> FlashForward(const KernelCall& c) {
  Forward(c, c.out[0], &c.out[1]);
  for (size_t i = 2; i < c.out.size(); ++i) Zero(c.out[i]);
  return RunOutcome::kDone;
}

Result<RunOutcome> EfficientForward(const KernelCall& c) {
  size_t result = 0;  // behind seed and offset, where there are such
  while (!IsFloating(c.out[result].dtype)) Zero(c.out[result++]);
  const TensorSpan* sums = result + 1 < c.out.size() ? &c.out[result + 1] : nullptr;
  if (sums != nullptr) Zero(*sums);  // its end isn't written
  Forward(c, c.out[result], sums);
  return RunOutcome::kDone;
}

// The gradients of one head: of q, and added to those of k and v.
class HeadGradients {
 public:
  HeadGradients(const KernelCall& c, const TensorSpan* mask, const TensorSpan* mask_gradient)
      : c_(c),
        shape_(ShapeOf(c.in[1], c.in[2], c.in[3])),
        scoring_(c.attributes, mask, shape_),
        mask_gradient_(mask_gradient),
        scratch_(c.Scratch("sums of gradient times result")) {}
  const Shape& shape() const { return shape_; }

  void Run(int64_t batch, int64_t head, const std::vector<float>& k, const std::vector<float>& v,
           std::vector<float>& dk, std::vector<float>& dv) const {
    const int64_t rows = shape_.queries;
    const std::vector<float> dy = Floats(HeadOf(c_.in[0], batch, head));
    const std::vector<float> q = Floats(HeadOf(c_.in[1], batch, head));
    std::vector<float> p = Probabilities(q, k, batch, head);
    std::vector<float> dp(p.size());
    Gemm(Rows(dy, rows, shape_.value_dim), Rows(v, shape_.keys, shape_.value_dim).Transposed(),
         {dp.data(), shape_.keys});
    std::vector<float> dropped = p;
    scoring_.Drop(dropped, batch, head);
    Gemm(Rows(dropped, rows, shape_.keys).Transposed(), Rows(dy, rows, shape_.value_dim), {dv.data(), shape_.value_dim},
         1, true);
    scoring_.Drop(dp, batch, head);
    const std::vector<float> delta = Delta(dy, batch, head);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < shape_.keys; ++j) {
        const auto at = static_cast<size_t>(i * shape_.keys + j);
        p[at] *= dp[at] - delta[static_cast<size_t>(i)];
      }
    }
    if (mask_gradient_ != nullptr) StoreFloats(HeadOf(*mask_gradient_, batch, head), p.data());
    const auto scale = static_cast<float>(c_.attributes.number);
    std::vector<float> dq(q.size());
    Gemm(Rows(p, rows, shape_.keys), Rows(k, shape_.keys, shape_.dim), {dq.data(), shape_.dim}, scale);
    Gemm(Rows(p, rows, shape_.keys).Transposed(), Rows(q, rows, shape_.dim), {dk.data(), shape_.dim}, scale, true);
    StoreFloats(HeadOf(c_.out[0], batch, head), dq.data());
  }

 private:
  // From the log of the sums that forward kept.
  std::vector<float> Probabilities(const std::vector<float>& q, const std::vector<float>& k, int64_t batch,
                                   int64_t head) const {
    const TensorSpan& sums = c_.in[5];
    std::vector<float> p = scoring_.Of(q, k, batch, head);
    for (int64_t i = 0; i < shape_.queries; ++i) {
      const int64_t offset = batch * sums.strides[0] + head * sums.strides[1] + i * sums.strides[2];
      const auto log_sum = static_cast<float>(LoadNumber(sums.dtype, sums.data + offset * SizeOf(sums.dtype).count()));
      float* row = &p[static_cast<size_t>(i * shape_.keys)];
      for (int64_t j = 0; j < shape_.keys; ++j) row[j] = log_sum == kMinusInfinity ? 0 : std::exp(row[j] - log_sum);
    }
    return p;
  }

  // Sums of gradient times result, by way of the scratch that the device's kernel keeps them in.
  std::vector<float> Delta(const std::vector<float>& dy, int64_t batch, int64_t head) const {
    const std::vector<float> y = Floats(HeadOf(c_.in[4], batch, head));
    std::vector<float> delta(static_cast<size_t>(shape_.queries));
    const int64_t first = (batch * shape_.heads + head) * shape_.queries;
    for (int64_t i = 0; i < shape_.queries; ++i) {
      double sum = 0;
      for (int64_t d = 0; d < shape_.value_dim; ++d) {
        const auto at = static_cast<size_t>(i * shape_.value_dim + d);
        sum += static_cast<double>(dy[at]) * static_cast<double>(y[at]);
      }
      delta[static_cast<size_t>(i)] = static_cast<float>(sum);
    }
    if (scratch_ == nullptr) return delta;
    float* kept = reinterpret_cast<float*>(scratch_->data) + first;
    std::copy(delta.begin(), delta.end(), kept);
    return {kept, kept + shape_.queries};
  }

  const KernelCall& c_;
  Shape shape_;
  Scores scoring_;
  const TensorSpan* mask_gradient_;
  const ScratchSpan* scratch_;
};

Result<RunOutcome> Backward(const KernelCall& c) {
  const HeadGradients head_gradients(c, c.in.size() > 6 ? &c.in[6] : nullptr, c.out.size() > 3 ? &c.out[3] : nullptr);
  const Shape& shape = head_gradients.shape();
  const int64_t work = shape.group() * shape.queries * shape.keys * shape.dim;
  Parallel(shape.batch * shape.kv_heads, work, [&](int64_t at) {
    const int64_t batch = at / shape.kv_heads;
    const int64_t kv_head = at % shape.kv_heads;
    const std::vector<float> k = Floats(HeadOf(c.in[2], batch, kv_head));
    const std::vector<float> v = Floats(HeadOf(c.in[3], batch, kv_head));
    std::vector<float> dk(k.size()), dv(v.size());
    for (int64_t i = 0; i < shape.group(); ++i) {
      head_gradients.Run(batch, kv_head * shape.group() + i, k, v, dk, dv);
    }
    StoreFloats(HeadOf(c.out[1], batch, kv_head), dk.data());
    StoreFloats(HeadOf(c.out[2], batch, kv_head), dv.data());
  });
  return RunOutcome::kDone;
}

}  // namespace

std::span<const KernelEntry> AttentionKernels() {
  static constexpr std::array kEntries = {
      KernelEntry{OpKind::kFlashForward, &FlashForward},         KernelEntry{OpKind::kFlashBackward, &Backward},
      KernelEntry{OpKind::kEfficientForward, &EfficientForward}, KernelEntry{OpKind::kEfficientBackward, &Backward},
      KernelEntry{OpKind::kCudnnForward, &EfficientForward},     KernelEntry{OpKind::kCudnnBackward, &Backward},
  };
  return kEntries;
}

}  // namespace tidemark::host
