#include "graph/models/transformers/rotary.h"

#include <fmt/format.h>

namespace tidemark::transformers {

Status CheckRotary(int64_t dims, int64_t head_dim) {
  if (dims >= 1 && dims % 2 == 0 && dims <= head_dim) return {};
  return InvalidInput(fmt::format(
      "model.head_dim: {} of a head's {} dimensions are rotated; that has to be an even number", dims, head_dim));
}

RotaryEmbedding::RotaryEmbedding(Module& parent, const std::string& name, int64_t dims) : Module(parent, name) {
  const Dims sizes = {(dims + 1) / 2};
  constexpr double kTheta = 10000;
  const HostSource initial = {.data = HostData::kInverseFrequencies, .number = kTheta};
  frequencies_ = AddBuffer("inv_freq", DType::kFloat32, sizes, initial);
  AddBuffer("original_inv_freq", DType::kFloat32, sizes, initial);
}

RotaryTables RotaryEmbedding::operator()(const Tensor& hidden, const Tensor& position_ids) const {
  const InScope in_scope(tracer(), scope());
  constexpr double kAttentionScaling = 1;
  Tensor sin, cos, angles, frequencies;
  {
    Operand positions = To(Unsqueeze(position_ids, -1), DType::kFloat32);
    Operand inverse = To(frequencies_->tensor, DType::kFloat32);
    frequencies = Mul(std::move(positions), std::move(inverse));
  }
  angles = Cat({frequencies, frequencies}, -1);
  cos = Mul(Unary(OpKind::kCos, angles), kAttentionScaling);
  sin = Mul(Unary(OpKind::kSin, angles), kAttentionScaling);
  return {To(cos, hidden.dtype()), To(sin, hidden.dtype())};
}

Tensor RotateHalf(const Tensor& x) {
  const int64_t half = x.size(-1) / 2;
  Tensor second, first;
  first = Slice(x, -1, 0, half);
  second = Slice(x, -1, half, x.size(-1));
  return Cat(Neg(second), first, -1);
}

namespace {
Tensor Rotate(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  Operand straight = Mul(x, cos);
  Operand turned = Mul(RotateHalf(x), sin);
  return Add(std::move(straight), std::move(turned));
}

// Of both, the first dimensions, which are rotated, and the others. The members go in the order in which the function's
// names do: tables first.
struct Parts {
  Tensor key_pass, key_part, query_pass, query_part, sin, cos;

  Parts(const Tensor& query, const Tensor& key, const Tensor& cos_given, const Tensor& sin_given) {
    cos = Unsqueeze(cos_given, 1);
    sin = Unsqueeze(sin_given, 1);
    const int64_t dims = cos.size(-1);
    query_part = Slice(query, -1, 0, dims);
    query_pass = Slice(query, -1, dims, query.size(-1));
    key_part = Slice(key, -1, 0, dims);
    key_pass = Slice(key, -1, dims, key.size(-1));
  }
};
}  // namespace

Rotated ApplyRotary(const Tensor& query, const Tensor& key, const Tensor& cos_given, const Tensor& sin_given) {
  Tensor sin, cos;
  cos = Unsqueeze(cos_given, 1);
  sin = Unsqueeze(sin_given, 1);
  Rotated rotated;
  rotated.query = Rotate(query, cos, sin);
  rotated.key = Rotate(key, cos, sin);
  return rotated;
}

Rotated ApplyPartialRotary(const Tensor& query, const Tensor& key, const Tensor& cos_given, const Tensor& sin_given) {
  Rotated rotated;
  const Parts parts(query, key, cos_given, sin_given);
  rotated.query = Rotate(parts.query_part, parts.cos, parts.sin);
  rotated.key = Rotate(parts.key_part, parts.cos, parts.sin);
  rotated.query = Cat(rotated.query, parts.query_pass, -1);
  rotated.key = Cat(rotated.key, parts.key_pass, -1);
  return rotated;
}

Rotated RotateAndPass(const Tensor& query, const Tensor& key, const Tensor& cos_given, const Tensor& sin_given) {
  Rotated rotated;
  const Parts parts(query, key, cos_given, sin_given);
  rotated.query = Cat({Rotate(parts.query_part, parts.cos, parts.sin), parts.query_pass}, -1);
  rotated.key = Cat({Rotate(parts.key_part, parts.cos, parts.sin), parts.key_pass}, -1);
  return rotated;
}

}  // namespace tidemark::transformers
