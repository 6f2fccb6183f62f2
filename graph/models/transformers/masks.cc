#include "graph/models/transformers/masks.h"

#include <algorithm>
#include <limits>

#include "graph/functional.h"

namespace tidemark::transformers {
namespace {

// find_packed_sequence_indices: sequences are packed where positions jump. A captured program (torch.compile) can't ask
// whether they are: it gets each token's sequence. Otherwise undefined: none are.
Tensor FindPackedSequences(const Tensor& position_ids) {
  Tracer& tracer = position_ids.tracer();
  Tensor packed, difference, before_first;
  before_first = Sub(Slice(position_ids, 1, 0, 1), 1);
  {
    const Tensor with_first = Cat({before_first, position_ids}, 1);
    const int64_t length = with_first.size(1);
    difference = Sub(Slice(with_first, 1, 1, length), Slice(with_first, 1, 0, length - 1));
  }
  packed = Unary(OpKind::kCumsum, Compare(Comparison::kNotEqual, difference, 1), DType::kInt64);
  if (tracer.functional) return packed;
  const int64_t last = packed.size(1) - 1;
  const ViewOp select = {OpKind::kSelect, {.integer = {1, last}}};
  Tensor all;
  const Tensor in_one =
      Compare(Comparison::kEqual, tracer.View(packed, select, {packed.size(0)}, {packed.strides()[0]}, last), 0);
  tracer.Assume(
      "transformers reads from the device whether positions jump (find_packed_sequence_indices): assumed that they "
      "don't, so that no sequences are packed and no mask is made for that");
  all = tracer.Emit(OpKind::kAll, {&in_one}, Contiguous(DType::kBool, {}));
  return {};
}

// and_masks(sliding_window_overlay, causal_mask_function)
Tensor SlidingWindow(const Tensor& queries, const Tensor& keys, int64_t window) {
  Tensor result = Full(queries.tracer(), DType::kBool, {}, 1);
  result = Binary(OpKind::kLogicalAnd, result,
                  Compare(Comparison::kGreater, keys, Sub(queries, static_cast<double>(window))));
  result = Binary(OpKind::kLogicalAnd, result, Compare(Comparison::kLessEqual, keys, queries));
  return result;
}

// sdpa_mask: which key each query may see.
Tensor BoolMask(Tracer& tracer, int64_t batch, int64_t length, std::optional<int64_t> window) {
  Tensor keys, queries, heads, batches;
  batches = Arange(tracer, 0, batch);
  heads = Arange(tracer, 0, 1);
  queries = Add(Arange(tracer, 0, length), 0);
  keys = Add(Arange(tracer, 0, length), 0);
  Tensor mask;
  {
    const Tensor by_query = View(queries, {1, 1, length, 1});
    const Tensor by_key = View(keys, {1, 1, 1, length});
    mask = window.has_value() ? SlidingWindow(by_query, by_key, *window)
                              : Compare(Comparison::kLessEqual, by_key, by_query);
  }
  mask = Expand(mask, {batch, 1, length, length});
  return mask;
}

// table[batches, positions]
Tensor Lookup(const Tensor& table, const Tensor& batches, const Tensor& positions) {
  Dims sizes;
  for (int i = 0; i < 4; ++i) sizes.Append(std::max(batches.size(i), positions.size(i)));
  return table.tracer().Emit(OpKind::kIndex, {&table, &batches, &positions}, Contiguous(table.dtype(), sizes));
}

// sdpa_mask where sequences may be packed (remap_positions_for_packed_sequence, packed_sequence_mask_function): a query
// sees keys of its own sequence, up to its own position there.
Tensor PackedMask(const Tensor& sequences, const Tensor& position_ids, std::optional<int64_t> window) {
  Tracer& tracer = sequences.tracer();
  const int64_t batch = sequences.size(0);
  const int64_t length = sequences.size(1);
  const Tensor positions = Expand(position_ids, {batch, length});
  const Tensor batches = Unsqueeze(Unsqueeze(Unsqueeze(Arange(tracer, 0, batch), 1), 2), 3);
  const Tensor query_range = Add(Arange(tracer, 0, length), 0);
  const Tensor key_range = Add(Arange(tracer, 0, length), 0);
  const Tensor queries = Unsqueeze(Unsqueeze(Unsqueeze(query_range, 0), 1), 3);
  const Tensor keys = Unsqueeze(Unsqueeze(Unsqueeze(key_range, 0), 1), 2);
  Tensor mask = Full(tracer, DType::kBool, {}, 1);
  {
    const Tensor of_query = Lookup(sequences, batches, queries);
    const Tensor of_key = Lookup(sequences, batches, keys);
    mask = Binary(OpKind::kLogicalAnd, mask, Compare(Comparison::kEqual, of_query, of_key));
  }
  const Tensor query_position = Lookup(positions, batches, queries);
  const Tensor key_position = Lookup(positions, batches, keys);
  const Tensor visible = window.has_value() ? SlidingWindow(query_position, key_position, *window)
                                            : Compare(Comparison::kLessEqual, key_position, query_position);
  mask = Binary(OpKind::kLogicalAnd, mask, visible);
  return Expand(mask, {batch, 1, length, length});
}

// torch.where(mask, torch.zeros(()), finfo(dtype).min)
Tensor AsFloating(Operand mask, DType dtype) {
  Tracer& tracer = mask->tracer();
  const Tensor zero = Full(tracer, dtype, {}, 0);
  const Tensor lowest = Full(tracer, dtype, {}, LowestOf(dtype));
  return tracer.Emit(OpKind::kWhere, {&*mask, &zero, &lowest}, Contiguous(dtype, mask->sizes()));
}

}  // namespace

double LowestOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return -65504;
    case DType::kBFloat16:
      return -0x1.fep127;
    default:
      return static_cast<double>(std::numeric_limits<float>::lowest());
  }
}

Tensor PositionIds(Tracer& tracer, int64_t length) { return Unsqueeze(Add(Arange(tracer, 0, length), 0), 0); }

Tensor CausalMask(const Tensor& embeddings, const Tensor& position_ids, const MaskOptions& options) {
  const int64_t batch = embeddings.size(0);
  const int64_t length = embeddings.size(1);
  if (position_ids.defined() && !options.has_cache) {
    const Tensor expanded = batch == 1 ? position_ids : Expand(position_ids, {batch, length});
    const Tensor sequences = FindPackedSequences(expanded);
    if (sequences.defined()) {
      const Tensor mask = PackedMask(sequences, position_ids, options.window);
      return options.eager ? AsFloating(mask, embeddings.dtype()) : mask;
    }
  }
  const bool all_in_window = !options.window.has_value() || length < *options.window;
  if (!options.eager && all_in_window) return {};
  Tensor mask = BoolMask(embeddings.tracer(), batch, length, options.window);
  if (options.eager) mask = AsFloating(mask, embeddings.dtype());
  return mask;
}

}  // namespace tidemark::transformers
