#include "graph/models/transformers/attention.h"

#include "graph/functional.h"

namespace tidemark::transformers {
namespace {

constexpr int64_t kLargestGroupedHead = 256;  // use_gqa_in_sdpa

// pack_gqa: the heads of one group as the rows of one head, for a single query.
Tensor PackGroups(const Tensor& query, int64_t times) {
  return Reshape(query, {query.size(0), query.size(1) / times, times, query.size(3)});
}

}  // namespace

Tensor RepeatKeyValue(const Tensor& heads, int64_t times) {
  if (times == 1) return heads;
  const int64_t batch = heads.size(0), groups = heads.size(1), length = heads.size(2), dim = heads.size(3);
  Tensor one = Unsqueeze(heads, 2);
  // heads[:, :, None, :, :]: Python leaves out slices of everything where it knows that they are.
  if (heads.tracer().open_length) one = Slice(one, 3, 0, length);
  const Tensor stretched = Expand(one, {batch, groups, times, length, dim});
  return Reshape(stretched, {batch, groups * times, length, dim});
}

AttentionResult SdpaAttention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask,
                              const AttentionCall& call) {
  const int64_t heads = query.size(1);
  const int64_t length = query.size(2);
  const int64_t times = heads / key.size(1);
  const Tensor* q = &query;
  const Tensor* k = &key;
  const Tensor* v = &value;
  Tensor repeated_value, repeated_key, packed_query;
  const bool grouped = times > 1 && !mask.defined() && key.size(-1) <= kLargestGroupedHead;
  if (times > 1 && !grouped && length == 1) {
    packed_query = PackGroups(query, times);
    q = &packed_query;
  } else if (times > 1 && !grouped) {
    repeated_key = RepeatKeyValue(key, times);
    repeated_value = RepeatKeyValue(value, times);
    k = &repeated_key;
    v = &repeated_value;
  }
  AttentionResult result;
  result.output = ScaledDotProductAttention(*q, *k, *v, mask,
                                            {.causal = length > 1 && !mask.defined() && call.causal,
                                             .dropout = call.dropout,
                                             .grouped = grouped,
                                             .scale = call.scaling});
  result.output = Reshape(result.output, {query.size(0), heads, length, value.size(3)});
  result.output = tidemark::Contiguous(Transpose(result.output, 1, 2));
  return result;
}

AttentionResult EagerAttention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask,
                               const AttentionCall& call) {
  const int64_t times = query.size(1) / key.size(1);
  AttentionResult result;
  Tensor values, keys;
  keys = RepeatKeyValue(key, times);
  values = RepeatKeyValue(value, times);
  result.weights = Mul(MatMul(query, Transpose(keys, 2, 3)), call.scaling);
  if (mask.defined()) result.weights = Add(result.weights, mask);
  result.weights = To(Softmax(result.weights, DType::kFloat32), query.dtype());
  result.weights = Dropout(result.weights, call.dropout, true);
  result.output = MatMul(result.weights, values);
  result.output = tidemark::Contiguous(Transpose(result.output, 1, 2));
  return result;
}

AttentionResult EagerAttentionUncast(const Tensor& query, const Tensor& key, const Tensor& value,
                                     const Tensor& position_bias, const Tensor& mask, const AttentionCall& call) {
  AttentionResult result;
  result.weights = Mul(MatMul(query, Transpose(key, 2, 3)), call.scaling);
  if (position_bias.defined()) result.weights = Add(result.weights, position_bias);
  if (mask.defined()) result.weights = Add(result.weights, mask);
  result.weights = Softmax(result.weights);
  result.weights = Dropout(result.weights, call.dropout, true);
  result.output = MatMul(result.weights, value);
  result.output = tidemark::Contiguous(Transpose(result.output, 1, 2));
  return result;
}

}  // namespace tidemark::transformers
