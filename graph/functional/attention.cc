#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "graph/autocast.h"
#include "graph/autograd.h"
#include "graph/base/check.h"
#include "graph/functional.h"

namespace tidemark {
namespace {

constexpr double kInverseOfDropoutUnit = 4294967296.0;  // Attributes::integer holds a probability in 1/2^32

Attributes AttentionAttributes(Tracer& tracer, const AttentionOptions& options, int64_t head_dim) {
  return {.number = options.scale.value_or(1.0 / std::sqrt(static_cast<double>(head_dim))),
          .integer = {options.causal ? 1 : 0, static_cast<int64_t>(options.dropout * kInverseOfDropoutUnit),
                      options.dropout > 0 ? tracer.next_random++ : 0}};
}

Attributes AttributesOf(const Node& n) {
  return {.number = n.data.number, .integer = {n.data.integer[0], n.data.integer[1], n.data.integer[2]}};
}

void Remember(Node& n, const Attributes& a) {
  n.data.number = a.number;
  for (size_t i = 0; i < 3; ++i) n.data.integer[i] = a.integer[i];
}

Dims DenseLike(const Tensor& t) {
  return IsDense(t.sizes(), t.strides()) ? t.strides() : DenseStridesLike(t.sizes(), t.strides());
}

// [B, heads, T, D], stored [B, T, heads, D].
ResultType HeadsInside(DType dtype, const Dims& sizes) {
  const int64_t row = sizes[1] * sizes[3];
  return {dtype, {sizes, {sizes[2] * row, sizes[3], row, 1}}};
}

// --- Flash. Saved: 0 key, 1 query, 2 value, 3 log of the sums, 4 result, 5 random state, 6 unused.

void FlashGradient(Node& n, Gradients& in, Gradients& out) {
  const Tensor key = n.Unpack(0);
  const Tensor query = n.Unpack(1);
  const Tensor value = n.Unpack(2);
  const Tensor sums = n.Unpack(3);
  const Tensor result = n.Unpack(4);
  const Tensor random_state = n.Unpack(5);
  const Tensor unused = n.Unpack(6);
  std::array<ResultType, 3> types;
  const std::array<const Tensor*, 3> sources = {&query, &key, &value};
  for (size_t i = 0; i < 3; ++i) {
    types[i] = {sources[i]->dtype(), {sources[i]->sizes(), DenseLike(*sources[i])}};
  }
  const std::array<const Tensor*, 8> inputs = {&in[0], &query, &key, &value, &result, &sums, &random_state, &unused};
  n.tracer->Emit(OpKind::kFlashBackward, std::span(inputs).first(n.tracer->functional ? 8 : 6), types,
                 std::span(out.data(), 3), AttributesOf(n));
}
constexpr NodeType kFlashBackward = {"ScaledDotProductFlashAttentionBackward0", &FlashGradient};

Tensor FlashForward(Operand q, Operand k, Operand v, const Attributes& attributes) {
  Tracer& tracer = q->tracer();
  const NodeRef node = MakeNode(tracer, kFlashBackward, {&*q, &*k, &*v});
  if (node) {
    for (const Operand* t : {&k, &q, &v}) node->Save(**t);
    Remember(*node, attributes);
  }
  const std::array types = {ResultType{q->dtype(), {q->sizes(), DenseLike(*q)}},
                            Contiguous(DType::kFloat32, {q->size(0), q->size(1), q->size(2)}),
                            Contiguous(DType::kUInt64, {2}), Contiguous(DType::kUInt64, {})};
  std::array<Tensor, 4> results;
  const std::array<const Tensor*, 3> inputs = {&*q, &*k, &*v};
  tracer.Emit(OpKind::kFlashForward, inputs, types, results, attributes);
  if (node) {
    node->Save(results[1], true);
    node->Save(results[0], true);
    node->Save(results[2], true);
    node->Save(results[3], true);
    node->SetHistory(results[0]);
  }
  for (const size_t i : {1U, 2U, 3U}) results[i].Reset();
  Drop(q, k, v);
  return std::move(results[0]);
}

// Flash attention wants head dimensions that are multiples of 8: others are padded, and the result is cut.
Tensor Flash(const Tensor& q, const Tensor& k, const Tensor& v, const Attributes& attributes) {
  const int64_t dim = q.size(-1);
  if (dim % 8 == 0) return FlashForward(q, k, v, attributes);
  const int64_t padded = (dim + 7) / 8 * 8;
  Tensor q_padded = Pad(q, padded);
  Tensor k_padded = Pad(k, padded);
  Tensor v_padded = Pad(v, padded);
  return Slice(FlashForward(q_padded, k_padded, v_padded, attributes), -1, 0, dim);
}

// --- Efficient, and cuDNN's: edges are query, key, value, mask.

// What their nodes saved.
struct Saved {
  explicit Saved(Node& n)
      : mask(n.Unpack(0)),
        key(n.Unpack(1)),
        query(n.Unpack(2)),
        value(n.Unpack(3)),
        sums(n.Unpack(4)),
        result(n.Unpack(5)),
        offset(n.Unpack(6)),
        seed(n.Unpack(7)) {}
  const Tensor mask, key, query, value, sums, result, offset, seed;
};

void EfficientGradient(Node& n, Gradients& in, Gradients& out) {
  const Saved s(n);
  std::array<ResultType, 4> types = {HeadsInside(s.query.dtype(), s.query.sizes()),
                                     HeadsInside(s.key.dtype(), s.key.sizes()),
                                     HeadsInside(s.value.dtype(), s.value.sizes())};
  size_t count = 3;
  if (n.Wants(3)) {
    // The last dimension is stored with a stride of a multiple of 16.
    const int64_t last = (s.mask.size(3) + 15) / 16 * 16;
    const Dims strides = {s.mask.size(1) * s.mask.size(2) * last, s.mask.size(2) * last, last, 1};
    types[count++] = {
        .dtype = s.query.dtype(), .layout = {s.mask.sizes(), strides}, .elements = s.mask.size(0) * strides[0]};
  }
  std::array<const Tensor*, 9> inputs = {&in[0], &s.query, &s.key, &s.value, &s.result, &s.sums, &s.mask};
  if (n.tracer->functional)
    inputs = {&in[0], &s.query, &s.key, &s.value, &s.mask, &s.result, &s.sums, &s.seed, &s.offset};
  n.tracer->Emit(OpKind::kEfficientBackward, std::span(inputs).first(n.tracer->functional ? 9 : 7),
                 std::span(types.data(), count), std::span(out.data(), count), AttributesOf(n));
}
constexpr NodeType kEfficientBackward = {"ScaledDotProductEfficientAttentionBackward0", &EfficientGradient};

bool Aligned(const Tensor& mask) {
  for (int i = 0; i + 1 < mask.dims(); ++i) {
    if (mask.strides()[i] % 8 != 0) return false;
  }
  return mask.strides().back() == 1;
}

Tensor Efficient(const Tensor& q, const Tensor& k, const Tensor& v, Tensor mask, const AttentionOptions& options) {
  Tracer& tracer = q.tracer();
  if (mask.defined()) {
    const int64_t last = mask.size(-1);
    if (!Aligned(mask) && !mask.tracer().open_length)
      mask = Slice(Pad(std::move(mask), last + 8 - last % 8), -1, 0, last);
    mask = Expand(std::move(mask), {q.size(0), q.size(1), q.size(2), k.size(2)});
  }
  const Attributes attributes = AttentionAttributes(q.tracer(), options, q.size(-1));
  const NodeRef node = MakeNode(tracer, kEfficientBackward, {&q, &k, &v, &mask});
  if (node) {
    for (const Tensor* t : {&static_cast<const Tensor&>(mask), &k, &q, &v}) node->Save(*t);
    Remember(*node, attributes);
  }
  const Dims result_sizes = {q.size(0), q.size(1), q.size(2), v.size(3)};
  std::array<ResultType, 4> types;
  std::array<Tensor, 4> results;
  size_t count = 0;
  const bool has_seed = options.dropout == 0;
  if (has_seed) {
    types[count++] = Contiguous(DType::kInt64, {});
    types[count++] = Contiguous(DType::kInt64, {});
  }
  const size_t result = count;
  types[count++] = HeadsInside(q.dtype(), result_sizes);
  const int64_t padded = (q.size(2) + 31) / 32 * 32;
  if (node) types[count++] = Contiguous(DType::kFloat32, {q.size(0), q.size(1), padded});
  const std::array<const Tensor*, 4> inputs = {&q, &k, &v, &mask};
  tracer.Emit(OpKind::kEfficientForward, inputs, std::span(types.data(), count), std::span(results.data(), count),
              attributes);
  if (node) {
    node->Save(results[result + 1], true);
    node->Save(results[result], true);
    if (has_seed) {
      node->Save(results[1], true);
      node->Save(results[0], true);
    }
    node->SetHistory(results[result]);
  }
  if (node) results[result + 1].Reset();
  for (size_t i = 0; i < result; ++i) results[i].Reset();
  return std::move(results[result]);
}

// --- cuDNN's. No mask learns: such go elsewhere.

void CudnnGradient(Node& n, Gradients& in, Gradients& out) {
  const Saved s(n);
  const std::array<const Tensor*, 7> inputs = {&in[0], &s.query, &s.key, &s.value, &s.result, &s.sums, &s.mask};
  std::array<ResultType, 3> types;
  for (size_t i = 0; i < 3; ++i) {
    const Tensor& source = *inputs[i + 1];
    types[i] = {source.dtype(), {source.sizes(), DenseLike(source)}};
  }
  n.tracer->Emit(OpKind::kCudnnBackward, inputs, types, std::span(out.data(), 3), AttributesOf(n));
}
constexpr NodeType kCudnnBackward = {"ScaledDotProductCudnnAttentionBackward0", &CudnnGradient};

Tensor Cudnn(const Tensor& q, const Tensor& k, const Tensor& v, Tensor mask, const AttentionOptions& options) {
  Tracer& tracer = q.tracer();
  if (mask.defined()) mask = Expand(std::move(mask), {q.size(0), q.size(1), q.size(2), k.size(2)});
  const Attributes attributes = AttentionAttributes(tracer, options, q.size(-1));
  const NodeRef node = MakeNode(tracer, kCudnnBackward, {&q, &k, &v, &mask});
  if (node) {
    for (const Tensor* t : {&static_cast<const Tensor&>(mask), &k, &q, &v}) node->Save(*t);
    Remember(*node, attributes);
  }
  const std::array types = {Contiguous(DType::kInt64, {}), Contiguous(DType::kInt64, {}),
                            ResultType{q.dtype(), {q.sizes(), DenseLike(q)}},
                            Contiguous(DType::kFloat32, {q.size(0), q.size(1), q.size(2)})};
  const size_t count = node ? 4 : 3;
  std::array<Tensor, 4> results;
  const std::array<const Tensor*, 4> inputs = {&q, &k, &v, &mask};
  tracer.Emit(OpKind::kCudnnForward, inputs, std::span(types).first(count), std::span(results).first(count),
              attributes);
  if (node) {
    for (const size_t i : {3U, 2U, 1U, 0U}) node->Save(results[i], true);
    node->SetHistory(results[2]);
  }
  for (const size_t i : {3U, 0U, 1U}) results[i].Reset();
  return std::move(results[2]);
}

// --- Math: the operator written out.

void SafeSoftmaxGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0)) return;
  const Tensor result = n.Unpack(0);
  out[0] = n.tracer->Emit(OpKind::kSoftmaxBackward, {&in[0], &result}, Contiguous(result.dtype(), in[0].sizes()));
}
constexpr NodeType kSafeSoftmaxBackward = {"SafeSoftmaxBackward0", &SafeSoftmaxGradient};

Tensor SafeSoftmax(Operand a) {
  Tracer& tracer = a->tracer();
  const NodeRef node = MakeNode(tracer, kSafeSoftmaxBackward, {&*a});
  Tensor result = tracer.Emit(OpKind::kSafeSoftmax, {&*a}, Contiguous(a->dtype(), a->sizes()));
  if (node) {
    node->Save(result, true);
    node->SetHistory(result);
  }
  a.Drop();
  return result;
}

// 0 where the mask is true, minus infinity where it isn't.
Tensor AsFloatingMask(Operand mask, DType dtype) {
  Tracer& tracer = mask->tracer();
  Tensor low = Full(tracer, dtype, {}, -std::numeric_limits<double>::infinity());
  Tensor zero = Full(tracer, dtype, {}, 0);
  Tensor result = tracer.Emit(OpKind::kWhere, {&*mask, &zero, &low}, Contiguous(dtype, mask->sizes()));
  zero.Reset();
  low.Reset();
  mask.Drop();
  return result;
}

Tensor RepeatHeads(const Tensor& t, int64_t heads) {
  if (t.size(1) == heads) return t;
  const int64_t times = heads / t.size(1);
  Tensor stretched = Expand(Unsqueeze(t, 2), {t.size(0), t.size(1), times, t.size(2), t.size(3)});
  return View(Clone(std::move(stretched)), {t.size(0), heads, t.size(2), t.size(3)});
}

Tensor Math(const Tensor& q_given, const Tensor& k_given, const Tensor& v_given, const Tensor& mask_given,
            const AttentionOptions& options) {
  Tracer& tracer = q_given.tracer();
  const DType origin = q_given.dtype();
  const DType accumulate = IsHalf(origin) ? DType::kFloat32 : origin;
  Tensor weights_returned;
  Tensor q = To(q_given, accumulate);
  Tensor k = To(k_given, accumulate);
  Tensor v = To(v_given, accumulate);
  const double scale = std::sqrt(options.scale.value_or(1.0 / std::sqrt(static_cast<double>(q.size(-1)))));
  Tensor mask = mask_given;
  Tensor scaled_q = Mul(q, scale);
  if (options.causal) {
    Tensor ones = Full(tracer, DType::kBool, {q.size(2), k.size(2)}, 1);
    Tensor lower = Unary(OpKind::kTril, std::move(ones));
    mask = AsFloatingMask(std::move(lower), q.dtype());
  }
  Tensor k_heads = options.grouped ? RepeatHeads(k, q.size(1)) : k;
  Tensor v_heads = options.grouped ? RepeatHeads(v, q.size(1)) : v;
  Tensor weights = MatMul(scaled_q, Mul(Transpose(k_heads, -2, -1), scale));
  if (mask.defined()) AddInPlace(weights, mask);
  weights = SafeSoftmax(std::move(weights));
  weights = Dropout(std::move(weights), options.dropout, true);
  weights_returned = To(weights, origin);
  return To(MatMul(weights, v_heads), origin);
}

// --- Choice

bool FlashSupports(const Tracer& tracer, const Tensor& q, const Tensor& mask, const AttentionOptions& options) {
  const int capability = tracer.device().compute_capability;
  if (!IsHalf(q.dtype()) || mask.defined() || q.size(-1) > 256 || capability < 80) return false;
  const bool needs_grad = tracer.grad_enabled && q.requires_grad();
  const bool small_shared_memory = (capability >= 86 && capability <= 89) || capability >= 120;
  const int64_t dim = (q.size(-1) + 7) / 8 * 8;
  if (!small_shared_memory || !needs_grad) return true;
  return !(dim > 192 && dim <= 224) && !(dim > 224 && options.dropout > 0);
}

bool EfficientSupports(const Tracer& tracer, const Tensor& q) {
  if (q.dtype() == DType::kBFloat16 && tracer.device().compute_capability < 80) return false;
  return q.size(-1) % (IsHalf(q.dtype()) ? 8 : 4) == 0;
}

// Source: PyTorch 2.14, aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (check_prefer_cudnn_attention and the
// checks of use_cudnn_attention); compared with its choices on sm_90, 100 and 103.
bool PrefersCudnn(const Tracer& tracer, const Tensor& q, const Tensor& k, const Tensor& mask, double dropout) {
  const int capability = tracer.device().compute_capability;
  const bool hopper = capability == 90;
  if (!hopper && capability != 100 && capability != 103) return false;
  if (!IsHalf(q.dtype()) || dropout > 0 || (mask.defined() && mask.requires_grad())) return false;
  if (k.size(2) < 2 || (!hopper && q.size(2) < 2)) return false;
  const int64_t dim = q.size(-1);
  const bool needs_grad = tracer.grad_enabled && (q.requires_grad() || k.requires_grad());
  return dim % 8 == 0 && (dim <= 128 || (dim == 256 && hopper) || (dim <= 256 && !needs_grad));
}

// Source: PyTorch 2.14, aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (select_sdp_backend).
AttentionKernel Choose(Tracer& tracer, const Tensor& q, const Tensor& k, const Tensor& mask,
                       const AttentionOptions& options) {
  const bool flash = FlashSupports(tracer, q, mask, options);
  const bool efficient = EfficientSupports(tracer, q);
  switch (tracer.attention) {
    case AttentionChoice::kFlash:
      if (!flash)
        tracer.Refuse("training.attention: flash attention takes no mask, no fp32 and not every head dimension");
      return flash ? AttentionKernel::kFlash : AttentionKernel::kMath;
    case AttentionChoice::kEfficient:
      if (!efficient) {
        tracer.Refuse(
            "training.attention: efficient attention takes head dimensions that are multiples of 4 (16-bit: 8)");
      }
      return efficient ? AttentionKernel::kEfficient : AttentionKernel::kMath;
    case AttentionChoice::kMath:
      return AttentionKernel::kMath;
    default:
      break;
  }
  if (PrefersCudnn(tracer, q, k, mask, options.dropout)) {
    if (tracer.device().compute_capability == 90 && !tracer.functional) {
      tracer.Assume("cuDNN's attention takes the workspace that cuDNN 9.19 and 9.24 take on an H100");
      return AttentionKernel::kCudnn;
    }
    tracer.Assume(fmt::format(
        "on this device PyTorch prefers cuDNN's attention where nothing is dropped, and what it takes {} isn't known: "
        "assumed {} attention instead (torch.backends.cuda.enable_cudnn_sdp(False) makes it so)",
        tracer.functional ? "in compiled code" : "there",
        flash       ? "flash"
        : efficient ? "efficient"
                    : "math"));
  }
  if (flash) return AttentionKernel::kFlash;
  return efficient ? AttentionKernel::kEfficient : AttentionKernel::kMath;
}

}  // namespace

Tensor ScaledDotProductAttention(Operand q_given, Operand k_given, Operand v_given, Operand mask_given,
                                 const AttentionOptions& options) {
  const Tensor cast_mask = mask_given.defined() ? CastToHalf(std::move(mask_given)) : Tensor();  // until the end
  Tensor v = CastToHalf(std::move(v_given));
  Tensor k = CastToHalf(std::move(k_given));
  Tensor q = CastToHalf(std::move(q_given));
  const AutocastOff off(q.tracer());
  Tensor mask = cast_mask;
  if (mask.defined() && mask.dtype() == DType::kBool) mask = AsFloatingMask(std::move(mask), q.dtype());
  switch (Choose(q.tracer(), q, k, mask, options)) {
    case AttentionKernel::kFlash:
      return Flash(q, k, v, AttentionAttributes(q.tracer(), options, q.size(-1)));
    case AttentionKernel::kEfficient:
      return Efficient(q, k, v, std::move(mask), options);
    case AttentionKernel::kCudnn:
      return Cudnn(q, k, v, std::move(mask), options);
    case AttentionKernel::kMath:
      return Math(q, k, v, mask, options);
  }
  return {};
}

}  // namespace tidemark
