// Source: transformers 5.23, models/t5/modeling_t5.py and integrations/sdpa_attention.py.
//
// Names live as they do there. Locals are declared in the reverse of Python's order, since C++ drops them last to
// first.
#include "graph/models/transformers/t5_attention.h"

#include <cmath>

#include "graph/autograd.h"
#include "graph/models/transformers/masks.h"

namespace tidemark::transformers {

T5Norm::T5Norm(Module& parent, const std::string& name, int64_t width, double epsilon)
    : Layer(parent, name), epsilon_(epsilon), weight_(AddParameter("weight", {width})) {}

Tensor T5Norm::Forward(const Tensor& x) const {
  Tensor variance, hidden;
  variance = MeanLast(Pow(To(x, DType::kFloat32), 2));
  hidden = Mul(x, Rsqrt(Add(variance, epsilon_)));
  if (IsHalf(weight_->tensor.dtype())) hidden = To(hidden, weight_->tensor.dtype());
  return Mul(weight_->tensor, hidden);
}

T5Attention::T5Attention(Module& parent, const std::string& name, const ModelConfig& m, const T5Options& options,
                         const Kind& kind)
    : Module(parent, name),
      options_(options),
      kind_(kind),
      heads_(m.heads),
      head_dim_(m.head_dim),
      q_(*this, "q", m.hidden, m.heads * m.head_dim, false),
      k_(*this, "k", m.hidden, m.heads * m.head_dim, false),
      v_(*this, "v", m.hidden, m.heads * m.head_dim, false),
      o_(*this, "o", m.heads * m.head_dim, m.hidden, false) {
  if (kind.relative_bias) relative_attention_bias_.emplace(*this, "relative_attention_bias", options.buckets, m.heads);
}

Tensor T5Attention::Heads(const LinearLayer& projection, const Tensor& x) const {
  return Transpose(View(projection(x), {x.size(0), x.size(1), heads_, head_dim_}), 1, 2);
}

// A cross-attention has no bias by position: zeros, which require grad where the layers are checkpointed.
Tensor T5Attention::BiasOfZeros(const Tensor& query, const Tensor& key) const {
  Tensor zeros = Full(tracer(), query.dtype(), {1, heads_, query.size(2), key.size(2)}, 0);
  if (options_.checkpoints && tracer().training) RequireGrad(zeros);
  return zeros;
}

// _relative_position_bucket: half of the buckets for near positions, each its own, the other half for ranges that grow.
Tensor T5Attention::Buckets(const Tensor& given) const {
  Tensor large, small, buckets, position;
  int64_t count = options_.buckets;
  const bool both_ways = !kind_.decoder;
  if (both_ways) {
    count /= 2;
    Tensor later = Mul(To(Compare(Comparison::kGreater, given, 0), DType::kInt64), static_cast<double>(count));
    buckets = Add(std::move(later), 0);
    position = Unary(OpKind::kAbs, given);
  } else {
    Tensor zeros = Full(tracer(), given.dtype(), given.sizes(), 0);
    position = Neg(Binary(OpKind::kMinimum, given, std::move(zeros)));
  }
  const int64_t exact = count / 2;
  const auto exact_count = static_cast<double>(exact);
  small = Compare(Comparison::kLess, position, exact_count);
  {
    Tensor logarithm = Unary(OpKind::kLog, Div(To(position, DType::kFloat32), exact_count));
    Tensor scaled = Mul(Div(std::move(logarithm), std::log(static_cast<double>(options_.max_distance) / exact_count)),
                        static_cast<double>(count - exact));
    large = Add(To(std::move(scaled), DType::kInt64), exact_count);
  }
  {
    Tensor last = Full(tracer(), large.dtype(), large.sizes(), static_cast<double>(count - 1));
    large = Binary(OpKind::kMinimum, large, std::move(last));
  }
  Tensor chosen = Where(small, position, large);
  if (both_ways) {
    AddInPlace(buckets, std::move(chosen));
  } else {
    buckets = Add(std::move(chosen), 0);
  }
  return buckets;
}

// compute_bias: [1, H, queries, keys]
Tensor T5Attention::RelativeBias(int64_t queries, int64_t keys) const {
  Tensor values, bucket, relative, memory, context;
  context = Add(Unsqueeze(Arange(tracer(), 0, queries), 1), 0);
  memory = Unsqueeze(Arange(tracer(), 0, keys), 0);
  relative = Sub(memory, context);
  bucket = Buckets(relative);
  values = (*relative_attention_bias_)(bucket);
  values = Unsqueeze(Permute(values, {2, 0, 1}), 0);
  return values;
}

namespace {

// create_position_bias_mask, where no mask was given: what scaled_dot_product_attention adds to the scores.
Tensor PositionBiasMask(const Tensor& position_bias, bool causal, const Tensor& query, const Tensor& key) {
  Tracer& tracer = query.tracer();
  Tensor mask, causal_mask;
  if (causal) {
    {
      Operand rows = Unsqueeze(Arange(tracer, 0, query.size(2)), 1);
      Operand columns = Unsqueeze(Arange(tracer, 0, key.size(2)), 0);
      causal_mask = Compare(Comparison::kGreaterEqual, std::move(rows), std::move(columns));
    }
    causal_mask = View(causal_mask, {1, 1, query.size(2), key.size(2)});
    mask = WhereOrNumber(causal_mask, position_bias, LowestOf(key.dtype()));
  } else {
    mask = position_bias;
  }
  return tidemark::Contiguous(mask);
}

}  // namespace

AttentionResult T5Attention::Attend(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask,
                                    const Tensor& position_bias) const {
  AttentionCall call = {.scaling = 1, .dropout = tracer().training ? options_.dropout : 0, .causal = false};
  if (options_.eager) return EagerAttentionUncast(query, key, value, position_bias, mask, call);
  const bool causal = kind_.decoder && !kind_.cross && query.size(2) > 1;
  const Tensor bias = PositionBiasMask(position_bias, causal, query, key);
  return SdpaAttention(query, key, value, bias, call);
}

T5AttentionResult T5Attention::operator()(const Tensor& hidden, const Tensor& mask, const Tensor& encoded,
                                          const Tensor& given_bias, KeyValueCache* cache) const {
  const InScope in_scope(tracer(), scope());
  T5AttentionResult result;
  Tensor value, key, query;
  result.position_bias = given_bias;
  query = Heads(q_, hidden);
  const Tensor& source = kind_.cross ? encoded : hidden;
  key = Heads(k_, source);
  value = Heads(v_, source);
  if (cache != nullptr) cache->Update(kind_.index, key, value);
  if (!result.position_bias.defined()) {
    result.position_bias = kind_.relative_bias ? RelativeBias(hidden.size(1), key.size(2)) : BiasOfZeros(query, key);
  }
  {
    AttentionResult attended = Attend(query, key, value, mask, result.position_bias);
    result.output = std::move(attended.output);
    result.weights = std::move(attended.weights);
  }
  result.output = tidemark::Contiguous(Reshape(result.output, {hidden.size(0), hidden.size(1), heads_ * head_dim_}));
  result.output = o_(result.output);
  return result;
}

}  // namespace tidemark::transformers
