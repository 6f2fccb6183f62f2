// Attention that never keeps the scores: tiles of keys go by while a block of queries holds a running softmax
// (forward), or the other way round (gradients of keys and values). Probabilities are made again in backward from the
// log of the sums. softmax(scale * q k^T + mask) v.
#include <cmath>

#include "kernels/cuda/map.h"
#include "kernels/random.h"

namespace tidemark::cuda {
namespace {

constexpr unsigned kThreads = 128;

// [B, heads, T, D], any strides.
struct Heads {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t strides[4] = {};
  __device__ int64_t OffsetOf(int64_t b, int64_t h, int64_t t, int64_t d) const {
    return b * strides[0] + h * strides[1] + t * strides[2] + d * strides[3];
  }
  __device__ float Load(int64_t b, int64_t h, int64_t t, int64_t d) const {
    return LoadAs<float>(data, dtype, OffsetOf(b, h, t, d));
  }
  __device__ void Store(int64_t b, int64_t h, int64_t t, int64_t d, float v) const {
    StoreAs<float>(data, dtype, OffsetOf(b, h, t, d), v);
  }
};
// The log of the sums [B, heads, T] is one whose last dimension doesn't move.
Heads HeadsOf(const TensorSpan& t) {
  Heads heads{t.data, t.dtype, {}};
  for (int i = 0; i < t.strides.size(); ++i) heads.strides[i] = t.strides[i];
  return heads;
}

struct Problem {
  Heads q, k, v, mask;  // mask.data null: none
  int64_t batch, heads, kv_heads, queries, keys, dim, value_dim;
  float scale;
  bool causal;
  int64_t dropout, random_stream;  // in 1/2^32
  int rows, columns;               // of a tile: queries and keys
};

// Tiles that fit into 48 KiB of shared memory with room for what the kernels keep per row.
Problem ProblemOf(const Attributes& a, const TensorSpan& q, const TensorSpan& k, const TensorSpan& v,
                  const TensorSpan* mask) {
  Problem p{};
  p.q = HeadsOf(q);
  p.k = HeadsOf(k);
  p.v = HeadsOf(v);
  if (mask != nullptr) p.mask = HeadsOf(*mask);
  p.batch = q.sizes[0];
  p.heads = q.sizes[1];
  p.queries = q.sizes[2];
  p.dim = q.sizes[3];
  p.kv_heads = k.sizes[1];
  p.keys = k.sizes[2];
  p.value_dim = v.sizes[3];
  p.scale = static_cast<float>(a.number);
  p.causal = a.integer[0] != 0;
  p.dropout = a.integer[1];
  p.random_stream = a.integer[2];
  const int64_t dim = std::max(p.dim, p.value_dim);
  p.rows = dim <= 128 ? 16 : 8;
  p.columns = dim <= 64 ? 16 : dim <= 128 ? 8 : 4;
  return p;
}

Status Check(const Problem& p) {
  if (std::max(p.dim, p.value_dim) <= 256) return {};
  return InvalidInput("heads of more than 256 dimensions have no kernel");
}

// What dropout multiplies a probability with.
__device__ inline float Kept(const Problem& p, int64_t b, int64_t h, int64_t i, int64_t j) {
  if (p.dropout == 0) return 1;
  const int64_t index = ((b * p.heads + h) * p.queries + i) * p.keys + j;
  if (!Survives(p.random_stream, index, p.dropout)) return 0;
  return static_cast<float>(1 / (1 - static_cast<double>(p.dropout) / kProbabilityUnit));
}

// What a block works on: rows of one head from `first` on.
struct Place {
  int64_t b, h, first;
};
// `heads` a batch, `rows` a block.
__device__ inline Place PlaceOfBlock(int64_t heads, int rows) {
  return {BlockY() / heads, BlockY() % heads, static_cast<int64_t>(BlockX()) * rows};
}

// Calls use(i) for the thread's share of [0, count).
template <typename Use>
__device__ inline void ShareOut(int64_t count, const Use& use) {
  for (int64_t i = ThreadInBlock(); i < count; i += ThreadsInBlock()) use(i);
}
__device__ inline void Clear(float* tile, int64_t count) {
  ShareOut(count, [=](int64_t at) { tile[at] = 0; });
}

// Copies `count` rows of a head from `begin` on into shared memory; zeros behind the end.
__device__ inline void LoadTile(const Heads& t, int64_t b, int64_t h, int64_t begin, int count, int64_t end,
                                int64_t dim, float* to) {
  ShareOut(count * dim, [=](int64_t at) {
    const int64_t row = begin + at / dim;
    to[at] = row < end ? t.Load(b, h, row, at % dim) : 0;
  });
}
// And back, each element as `value(at)` says.
template <typename Value>
__device__ inline void StoreTile(const Heads& t, const Place& place, int count, int64_t end, int64_t dim,
                                 const Value& value) {
  ShareOut(count * dim, [=](int64_t at) {
    const int64_t row = place.first + at / dim;
    if (row < end) t.Store(place.b, place.h, row, at % dim, value(at));
  });
}

// to [n, dim] += scale * weights [n, terms] from [terms, dim]; weights have these strides.
__device__ inline void AddProduct(float* to, int64_t n, int64_t dim, float scale, const float* weights,
                                  int64_t row_stride, int64_t term_stride, int terms, const float* from) {
  ShareOut(n * dim, [=](int64_t at) {
    const float* row = weights + at / dim * row_stride;
    float sum = 0;
    for (int i = 0; i < terms; ++i) sum += row[i * term_stride] * from[i * dim + at % dim];
    to[at] += scale * sum;
  });
}

__device__ inline float Dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// The score of query i and key j; minus infinity where the query doesn't see the key.
__device__ inline float Score(const Problem& p, int64_t b, int64_t h, int64_t i, int64_t j, const float* q,
                              const float* k) {
  if (i >= p.queries || j >= p.keys || (p.causal && j > i)) return -INFINITY;
  const float score = p.scale * Dot(q, k, p.dim);
  return p.mask.data == nullptr ? score : score + p.mask.Load(b, h, i, j);
}

// A block for some queries of a head. `sums`.data null: not wanted.
__global__ void ForwardKernel(Problem p, Heads out, Heads sums) {
  const Place place = PlaceOfBlock(p.heads, p.rows);
  const int64_t kv = place.h / (p.heads / p.kv_heads);
  float* q = SharedFloats();
  float* k = q + p.rows * p.dim;
  float* v = k + p.columns * p.dim;
  float* result = v + p.columns * p.value_dim;
  float* scores = result + p.rows * p.value_dim;  // [rows, columns]; later probabilities
  float* highest = scores + p.rows * p.columns;
  float* sum = highest + p.rows;
  float* shrink = sum + p.rows;
  LoadTile(p.q, place.b, place.h, place.first, p.rows, p.queries, p.dim, q);
  Clear(result, p.rows * p.value_dim);
  ShareOut(p.rows, [=](int64_t row) {
    highest[row] = -INFINITY;
    sum[row] = 0;
  });
  const int64_t seen = place.first + p.rows < p.keys && p.causal ? place.first + p.rows : p.keys;
  for (int64_t key = 0; key < seen; key += p.columns) {
    Barrier();
    LoadTile(p.k, place.b, kv, key, p.columns, p.keys, p.dim, k);
    LoadTile(p.v, place.b, kv, key, p.columns, p.keys, p.value_dim, v);
    Barrier();
    ShareOut(p.rows * p.columns, [&](int64_t at) {
      const int64_t row = at / p.columns;
      const int64_t column = at % p.columns;
      scores[at] = Score(p, place.b, place.h, place.first + row, key + column, q + row * p.dim, k + column * p.dim);
    });
    Barrier();
    ShareOut(p.rows, [&](int64_t row) {
      float* s = scores + row * p.columns;
      float now = highest[row];
      for (int j = 0; j < p.columns; ++j) now = s[j] <= now ? now : s[j];
      shrink[row] = now == -INFINITY ? 1 : std::exp(highest[row] - now);
      float added = 0;
      for (int j = 0; j < p.columns; ++j) {
        const float probability = s[j] == -INFINITY ? 0 : std::exp(s[j] - now);
        added += probability;
        s[j] = probability * Kept(p, place.b, place.h, place.first + row, key + j);
      }
      sum[row] = sum[row] * shrink[row] + added;
      highest[row] = now;
    });
    Barrier();
    ShareOut(p.rows * p.value_dim, [&](int64_t at) {
      const int64_t row = at / p.value_dim;
      float value = result[at] * shrink[row];
      for (int j = 0; j < p.columns; ++j) value += scores[row * p.columns + j] * v[j * p.value_dim + at % p.value_dim];
      result[at] = value;
    });
  }
  Barrier();
  StoreTile(out, place, p.rows, p.queries, p.value_dim, [&](int64_t at) {
    const float total = sum[at / p.value_dim];
    return total == 0 ? 0 : result[at] / total;
  });
  if (sums.data == nullptr) return;
  StoreTile(sums, place, p.rows, p.queries, 1,
            [&](int64_t row) { return highest[row] == -INFINITY ? -INFINITY : highest[row] + std::log(sum[row]); });
}

// What backward knows beside the problem.
struct Gradients {
  Heads result_gradient, result, sums;
  float* delta;  // sums of gradient times result, by [B, heads, T]
  Heads dq, dk, dv, dmask;
};

__global__ void DeltaKernel(Problem p, Gradients g) {
  const int64_t rows = p.batch * p.heads * p.queries;
  for (int64_t at = FirstElement(); at < rows; at += ElementStride()) {
    const int64_t b = at / (p.heads * p.queries);
    const int64_t h = at / p.queries % p.heads;
    const int64_t i = at % p.queries;
    float sum = 0;
    for (int64_t d = 0; d < p.value_dim; ++d) sum += g.result_gradient.Load(b, h, i, d) * g.result.Load(b, h, i, d);
    g.delta[at] = sum;
  }
}

// The probability of query i and key j, and the gradient of its score.
struct Pair {
  float probability;  // with dropout
  float gradient;
};
__device__ inline Pair PairOf(const Problem& p, const Gradients& g, int64_t b, int64_t h, int64_t i, int64_t j,
                              const float* q, const float* k, const float* dy, const float* v) {
  const float score = Score(p, b, h, i, j, q, k);
  if (score == -INFINITY) return {0, 0};
  const float log_sum = g.sums.Load(b, h, i, 0);
  const float probability = log_sum == -INFINITY ? 0 : std::exp(score - log_sum);
  const float kept = Kept(p, b, h, i, j);
  const float delta = g.delta[(b * p.heads + h) * p.queries + i];
  return {probability * kept, probability * (Dot(dy, v, p.value_dim) * kept - delta)};
}

// A block for some keys of a head of keys: goes over the queries of all heads that share it.
__global__ void KeyGradientKernel(Problem p, Gradients g) {
  const Place place = PlaceOfBlock(p.kv_heads, p.columns);
  const int64_t kv = place.h;
  const int64_t group = p.heads / p.kv_heads;
  float* k = SharedFloats();
  float* v = k + p.columns * p.dim;
  float* dk = v + p.columns * p.value_dim;
  float* dv = dk + p.columns * p.dim;
  float* q = dv + p.columns * p.value_dim;
  float* dy = q + p.rows * p.dim;
  float* probabilities = dy + p.rows * p.value_dim;  // [rows, columns]
  float* gradients = probabilities + p.rows * p.columns;
  LoadTile(p.k, place.b, kv, place.first, p.columns, p.keys, p.dim, k);
  LoadTile(p.v, place.b, kv, place.first, p.columns, p.keys, p.value_dim, v);
  Clear(dk, p.columns * (p.dim + p.value_dim));  // and dv, behind it
  for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
    for (int64_t query = p.causal ? place.first / p.rows * p.rows : 0; query < p.queries; query += p.rows) {
      Barrier();
      LoadTile(p.q, place.b, h, query, p.rows, p.queries, p.dim, q);
      LoadTile(g.result_gradient, place.b, h, query, p.rows, p.queries, p.value_dim, dy);
      Barrier();
      ShareOut(p.rows * p.columns, [&](int64_t at) {
        const int64_t row = at / p.columns;
        const int64_t column = at % p.columns;
        const Pair pair = PairOf(p, g, place.b, h, query + row, place.first + column, q + row * p.dim,
                                 k + column * p.dim, dy + row * p.value_dim, v + column * p.value_dim);
        probabilities[at] = pair.probability;
        gradients[at] = pair.gradient;
      });
      Barrier();
      AddProduct(dk, p.columns, p.dim, p.scale, gradients, 1, p.columns, p.rows, q);
      AddProduct(dv, p.columns, p.value_dim, 1, probabilities, 1, p.columns, p.rows, dy);
    }
  }
  Barrier();
  StoreTile(g.dk, place, p.columns, p.keys, p.dim, [=](int64_t at) { return dk[at]; });
  StoreTile(g.dv, place, p.columns, p.keys, p.value_dim, [=](int64_t at) { return dv[at]; });
}

// A block for some queries of a head: goes over the keys.
__global__ void QueryGradientKernel(Problem p, Gradients g) {
  const Place place = PlaceOfBlock(p.heads, p.rows);
  const int64_t kv = place.h / (p.heads / p.kv_heads);
  float* q = SharedFloats();
  float* dy = q + p.rows * p.dim;
  float* dq = dy + p.rows * p.value_dim;
  float* k = dq + p.rows * p.dim;
  float* v = k + p.columns * p.dim;
  float* gradients = v + p.columns * p.value_dim;  // [rows, columns]
  LoadTile(p.q, place.b, place.h, place.first, p.rows, p.queries, p.dim, q);
  LoadTile(g.result_gradient, place.b, place.h, place.first, p.rows, p.queries, p.value_dim, dy);
  Clear(dq, p.rows * p.dim);
  for (int64_t key = 0; key < p.keys; key += p.columns) {
    Barrier();
    LoadTile(p.k, place.b, kv, key, p.columns, p.keys, p.dim, k);
    LoadTile(p.v, place.b, kv, key, p.columns, p.keys, p.value_dim, v);
    Barrier();
    ShareOut(p.rows * p.columns, [&](int64_t at) {
      const int64_t row = at / p.columns;
      const int64_t column = at % p.columns;
      const int64_t i = place.first + row;
      const int64_t j = key + column;
      gradients[at] = PairOf(p, g, place.b, place.h, i, j, q + row * p.dim, k + column * p.dim, dy + row * p.value_dim,
                             v + column * p.value_dim)
                          .gradient;
      if (g.dmask.data != nullptr && i < p.queries && j < p.keys) {
        g.dmask.Store(place.b, place.h, i, j, gradients[at]);
      }
    });
    Barrier();
    AddProduct(dq, p.rows, p.dim, p.scale, gradients, p.columns, 1, p.columns, k);
  }
  Barrier();
  StoreTile(g.dq, place, p.rows, p.queries, p.dim, [=](int64_t at) { return dq[at]; });
}

int64_t Tiles(int64_t n, int tile) { return (n + tile - 1) / tile; }

Status Forward(const KernelCall& c, const TensorSpan& result, const TensorSpan* sums, const Context& x) {
  const Problem p = ProblemOf(c.attributes, c.in[0], c.in[1], c.in[2], c.in.size() > 3 ? &c.in[3] : nullptr);
  RETURN_IF_ERROR(Check(p));
  const int64_t floats = p.rows * (p.dim + p.value_dim + p.columns + 3) + p.columns * (p.dim + p.value_dim);
  const Shape shape = {.grid = {Tiles(p.queries, p.rows), p.batch * p.heads},
                       .threads = kThreads,
                       .shared_floats = static_cast<size_t>(floats),
                       .barriers = true};
  Launch(x, shape, &ForwardKernel, p, HeadsOf(result), sums == nullptr ? Heads{} : HeadsOf(*sums));
  return {};
}

Status FlashForward(const KernelCall& c, const Context& x) {
  for (size_t i = 2; i < c.out.size(); ++i) RETURN_IF_ERROR(Generate(c.out[i], Constant{0}, x));
  return Forward(c, c.out[0], &c.out[1], x);
}

Status EfficientForward(const KernelCall& c, const Context& x) {
  size_t result = 0;  // behind seed and offset, where there are such
  while (!IsFloating(c.out[result].dtype)) RETURN_IF_ERROR(Generate(c.out[result++], Constant{0}, x));
  const TensorSpan* sums = result + 1 < c.out.size() ? &c.out[result + 1] : nullptr;
  if (sums != nullptr) RETURN_IF_ERROR(Generate(*sums, Constant{0}, x));  // its end isn't written
  return Forward(c, c.out[result], sums, x);
}

Status Backward(const KernelCall& c, const Context& x) {
  const Problem p = ProblemOf(c.attributes, c.in[1], c.in[2], c.in[3], c.in.size() > 6 ? &c.in[6] : nullptr);
  RETURN_IF_ERROR(Check(p));
  const ScratchSpan* delta = c.Scratch("sums of gradient times result");
  const int64_t rows = p.batch * p.heads * p.queries;
  if (delta == nullptr || delta->bytes.count() < 4 * rows) return InvalidInput("has no room for its sums");
  const Gradients g = {.result_gradient = HeadsOf(c.in[0]),
                       .result = HeadsOf(c.in[4]),
                       .sums = HeadsOf(c.in[5]),
                       .delta = reinterpret_cast<float*>(delta->data),
                       .dq = HeadsOf(c.out[0]),
                       .dk = HeadsOf(c.out[1]),
                       .dv = HeadsOf(c.out[2]),
                       .dmask = c.out.size() > 3 ? HeadsOf(c.out[3]) : Heads{}};
  Launch(x, Over(rows), &DeltaKernel, p, g);
  const int64_t tile = p.dim + p.value_dim;
  const Shape of_keys = {.grid = {Tiles(p.keys, p.columns), p.batch * p.kv_heads},
                         .threads = kThreads,
                         .shared_floats = static_cast<size_t>(2 * p.columns * tile + p.rows * (tile + 2 * p.columns)),
                         .barriers = true};
  Launch(x, of_keys, &KeyGradientKernel, p, g);
  const Shape of_queries = {
      .grid = {Tiles(p.queries, p.rows), p.batch * p.heads},
      .threads = kThreads,
      .shared_floats = static_cast<size_t>(p.rows * (tile + p.dim + p.columns) + p.columns * tile),
      .barriers = true};
  Launch(x, of_queries, &QueryGradientKernel, p, g);
  return {};
}

constexpr KernelEntry kEntries[] = {
    {OpKind::kFlashForward, &FlashForward},
    {OpKind::kFlashBackward, &Backward},
    {OpKind::kEfficientForward, &EfficientForward},
    {OpKind::kEfficientBackward, &Backward},
    {OpKind::kCudnnForward, &EfficientForward},
    {OpKind::kCudnnBackward, &Backward},
};

}  // namespace

std::span<const KernelEntry> AttentionKernels() { return kEntries; }

}  // namespace tidemark::cuda
