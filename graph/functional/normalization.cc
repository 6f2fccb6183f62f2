#include <array>

#include "graph/autocast.h"
#include "graph/autograd.h"
#include "graph/base/check.h"
#include "graph/functional.h"

namespace tidemark {
namespace {

// d(mean)/dx: the gradient over n, at full size.
void MeanGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0)) return;
  const Tensor full = Expand(in[0], n.data.sizes);
  out[0] = Div(full, static_cast<double>(n.data.sizes.back()));
}
constexpr NodeType kMeanBackward = {"MeanBackward1", &MeanGradient};

void SoftmaxGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0)) return;
  const Tensor result = n.Unpack(0);
  out[0] = n.tracer->Emit(OpKind::kSoftmaxBackward, {&in[0], &result}, Contiguous(n.data.dtype, in[0].sizes()));
}
constexpr NodeType kSoftmaxBackward = {"SoftmaxBackward0", &SoftmaxGradient};

void LogSoftmaxGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0)) return;
  const Tensor result = n.Unpack(0);
  out[0] = n.tracer->Emit(OpKind::kLogSoftmaxBackward, {&in[0], &result}, Contiguous(n.data.dtype, in[0].sizes()));
}
constexpr NodeType kLogSoftmaxBackward = {"LogSoftmaxBackward0", &LogSoftmaxGradient};

// Saved: 0 input, 1 weight, 2 mean, 3 reciprocal deviation. Edges: input, weight, bias.
void LayerNormGradient(Node& n, Gradients& in, Gradients& out) {
  const Tensor input = n.Unpack(0);
  const Tensor weight = n.Unpack(1);
  const Tensor mean = n.Unpack(2);
  const Tensor deviation = n.Unpack(3);
  std::array<ResultType, 3> types;
  std::array<Tensor, 3> results;
  size_t count = 0;
  types[count++] = Contiguous(input.dtype(), input.sizes());
  types[count++] = Contiguous(weight.dtype(), weight.sizes(), Role::kGradient);
  if (n.Wants(2)) types[count++] = Contiguous(weight.dtype(), weight.sizes(), Role::kGradient);
  const std::array<const Tensor*, 5> inputs = {&in[0], &input, &mean, &deviation, &weight};
  n.tracer->Emit(OpKind::kLayerNormBackward, inputs, std::span(types.data(), count), std::span(results.data(), count));
  for (size_t i = 0; i < count; ++i) out[i] = std::move(results[i]);
}
constexpr NodeType kNativeLayerNormBackward = {"NativeLayerNormBackward0", &LayerNormGradient};

void EmbeddingGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0)) return;
  const Tensor indices = n.Unpack(0);
  out[0] = n.tracer->Emit(OpKind::kEmbeddingBackward, {&in[0], &indices},
                          Contiguous(in[0].dtype(), n.data.sizes, Role::kGradient));
}
constexpr NodeType kEmbeddingBackward = {"EmbeddingBackward0", &EmbeddingGradient};

Tensor SoftmaxOf(OpKind kind, const NodeType& type, Operand a, std::optional<DType> dtype) {
  Tracer& tracer = a->tracer();
  // Autocast asks for fp32 where the caller didn't say.
  if (!dtype.has_value() && tracer.autocast.enabled && IsHalf(a->dtype())) dtype = DType::kFloat32;
  const DType to = dtype.value_or(a->dtype());
  // Only float16 is converted inside the kernel.
  if (to != a->dtype() && a->dtype() != DType::kFloat16) a = Operand(To(std::move(a), to));
  const NodeRef node = MakeNode(tracer, type, {&*a});
  Tensor result = tracer.Emit(kind, {&*a}, Contiguous(to, a->sizes()));
  if (node) {
    node->data.dtype = a->dtype();
    node->Save(result, true);
    node->SetHistory(result);
  }
  a.Drop();
  return result;
}

}  // namespace

Tensor MeanLast(Operand a) {
  Tracer& tracer = a->tracer();
  const NodeRef node = MakeNode(tracer, kMeanBackward, {&*a});
  Dims sizes = a->sizes();
  sizes[sizes.size() - 1] = 1;
  Tensor result = tracer.Emit(OpKind::kMean, {&*a}, Contiguous(a->dtype(), sizes));
  if (node) {
    node->data.sizes = a->sizes();
    node->SetHistory(result);
  }
  a.Drop();
  return result;
}

Tensor SumTo(Operand a, const Dims& sizes) {
  if (a->sizes() == sizes) return a.Take();
  Tracer& tracer = a->tracer();
  const int leading = a->dims() - sizes.size();
  Dims kept;
  for (int i = 0; i < a->dims(); ++i) {
    const bool summed = i < leading || (sizes[i - leading] == 1 && a->size(i) != 1);
    kept.Append(summed ? 1 : a->size(i));
  }
  const bool to_float = tracer.autocast.enabled && IsHalf(a->dtype());  // autocast asks for sums in fp32
  Tensor sum = tracer.Emit(OpKind::kSum, {&*a}, Contiguous(to_float ? DType::kFloat32 : a->dtype(), kept));
  a.Drop();
  return leading == 0 ? sum : tracer.View(sum, {}, sizes, ContiguousStrides(sizes));
}

Tensor Softmax(Operand a, std::optional<DType> dtype) {
  return SoftmaxOf(OpKind::kSoftmax, kSoftmaxBackward, std::move(a), dtype);
}

Tensor LogSoftmax(Operand a, std::optional<DType> dtype) {
  return SoftmaxOf(OpKind::kLogSoftmax, kLogSoftmaxBackward, std::move(a), dtype);
}

Tensor LayerNorm(Operand x, const Tensor& weight, const Tensor& bias, double epsilon) {
  Tracer& tracer = x->tracer();
  const Tensor bias_cast = bias.defined() ? CastToFloat(bias) : Tensor();
  const Tensor weight_cast = CastToFloat(weight);
  Tensor input = CastToFloat(std::move(x));
  const NodeRef node = MakeNode(tracer, kNativeLayerNormBackward, {&input, &weight_cast, &bias_cast});
  if (node) {
    node->Save(input);
    node->Save(weight_cast);
  }
  Dims statistics = input.sizes();
  statistics[statistics.size() - 1] = 1;
  const std::array types = {Contiguous(input.dtype(), input.sizes()), Contiguous(DType::kFloat32, statistics),
                            Contiguous(DType::kFloat32, statistics)};
  std::array<Tensor, 3> results;
  const std::array<const Tensor*, 3> inputs = {&input, &weight_cast, &bias_cast};
  tracer.Emit(OpKind::kLayerNorm, inputs, types, results, {.number = epsilon});
  if (node) {
    node->Save(results[1], true);
    node->Save(results[2], true);
    node->SetHistory(results[0]);
  }
  results[2].Reset();
  results[1].Reset();
  return std::move(results[0]);
}

Tensor Embedding(const Tensor& weight, Operand indices) {
  Tracer& tracer = weight.tracer();
  const NodeRef node = MakeNode(tracer, kEmbeddingBackward, {&weight});
  if (node) {
    node->data.sizes = weight.sizes();
    node->Save(*indices);
  }
  Tensor flat;  // index_select takes one dimension
  if (!ViewStrides(indices->sizes(), indices->strides(), {indices->NumElements()}).has_value()) {
    const GradMode no_grad(tracer, false);
    flat = Clone(*indices);
  }
  Dims sizes = indices->sizes();
  sizes.Append(weight.size(1));
  Tensor result =
      tracer.Emit(OpKind::kEmbedding, {&weight, flat.defined() ? &flat : &*indices}, Contiguous(weight.dtype(), sizes));
  flat.Reset();
  if (node) node->SetHistory(result);
  indices.Drop();
  return result;
}

}  // namespace tidemark
