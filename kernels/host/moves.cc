// Kernels that create and move numbers.
#include <array>

#include "kernels/host/kernel.h"
#include "kernels/host/map.h"

namespace tidemark::host {
namespace {

// out0 = f(index of the element)
template <typename F>
RunOutcome Generate(const TensorSpan& out, const F& f) {
  const Elements result(out);
  ParallelChunks(result.size(), kChunk, [&](int64_t begin, int64_t n) {
    std::array<double, kChunk> values;
    for (int64_t i = 0; i < n; ++i) values[static_cast<size_t>(i)] = f(begin + i);
    result.Store(begin, n, values.data());
  });
  return RunOutcome::kDone;
}

RunOutcome Copy(const TensorSpan& from, const TensorSpan& to) {
  return Map<1>({from}, to, [](auto a) { return a; });
}

// `size` elements of dimension `dim` from `begin` on, every `step`th.
TensorSpan Part(TensorSpan t, int dim, int64_t begin, int64_t size, int64_t step = 1) {
  t.data += begin * t.strides[dim] * SizeOf(t.dtype).count();
  t.sizes[dim] = size;
  t.strides[dim] *= step;
  return t;
}

// To the host's memory and back: the same memory here.
Result<RunOutcome> Transfer(const KernelCall& c) { return Copy(c.in[0], c.out[0]); }

Result<RunOutcome> Arange(const KernelCall& c) {
  return Generate(c.out[0], [start = c.attributes.number](int64_t i) { return start + static_cast<double>(i); });
}
Result<RunOutcome> Full(const KernelCall& c) {
  return Generate(c.out[0], [value = c.attributes.number](int64_t) { return value; });
}
Result<RunOutcome> OnesLike(const KernelCall& c) {
  return Generate(c.out[0], [](int64_t) { return 1.0; });
}

Result<RunOutcome> Cat(const KernelCall& c) {
  const auto dim = static_cast<int>(c.attributes.integer[0]);
  int64_t begin = 0;
  for (const TensorSpan& part : c.in) {
    if (Copy(part, Part(c.out[0], dim, begin, part.sizes[dim])) != RunOutcome::kDone) return RunOutcome::kBadIndex;
    begin += part.sizes[dim];
  }
  return RunOutcome::kDone;
}

Result<RunOutcome> Stack(const KernelCall& c) {
  int64_t at = 0;
  for (const TensorSpan& part : c.in) {
    TensorSpan to = c.out[0];
    to.data += at++ * to.strides[0] * SizeOf(to.dtype).count();
    to.sizes = {};
    to.strides = {};
    Copy(part, to);
  }
  return RunOutcome::kDone;
}

Result<RunOutcome> ConstantPad(const KernelCall& c) {
  Generate(c.out[0], [value = c.attributes.number](int64_t) { return value; });
  TensorSpan corner = c.out[0];
  corner.sizes = c.in[0].sizes;
  return Copy(c.in[0], corner);
}

Result<RunOutcome> SliceBackward(const KernelCall& c) {
  Generate(c.out[0], [](int64_t) { return 0.0; });
  const auto dim = static_cast<int>(c.attributes.integer[0]);
  return Copy(c.in[0], Part(c.out[0], dim, c.attributes.integer[1], c.in[0].sizes[dim], c.attributes.integer[2]));
}

Result<RunOutcome> Tril(const KernelCall& c) {
  const Elements source(c.in[0]);
  const Elements result(c.out[0]);
  const int64_t columns = c.out[0].sizes.back();
  const int64_t rows = c.out[0].sizes[c.out[0].sizes.size() - 2];
  std::vector<double> row(static_cast<size_t>(columns));
  for (int64_t begin = 0; begin < source.size(); begin += columns) {
    source.Load(begin, columns, row.data());
    for (int64_t j = begin / columns % rows + 1; j < columns; ++j) row[static_cast<size_t>(j)] = 0;
    result.Store(begin, columns, row.data());
  }
  return RunOutcome::kDone;
}

// Each slice of the dimension several times: a dimension more, along which the source doesn't move.
Result<RunOutcome> Repeat(const KernelCall& c) {
  const auto dim = static_cast<int>(c.attributes.integer[0]);
  const int64_t times = c.attributes.integer[1];
  TensorSpan from = c.in[0];
  TensorSpan to = c.out[0];
  from.sizes = from.strides = to.sizes = to.strides = {};
  for (int i = 0; i < c.in[0].sizes.size(); ++i) {
    from.sizes.Append(c.in[0].sizes[i]);
    from.strides.Append(c.in[0].strides[i]);
    to.sizes.Append(c.in[0].sizes[i]);
    to.strides.Append(c.out[0].strides[i] * (i == dim ? times : 1));
    if (i != dim) continue;
    from.sizes.Append(times);
    from.strides.Append(0);
    to.sizes.Append(times);
    to.strides.Append(c.out[0].strides[i]);
  }
  return Copy(from, to);
}

Result<RunOutcome> Gather(const KernelCall& c) {
  const TensorSpan& from = c.in[0];
  const TensorSpan& index = c.in[1];
  if (from.sizes.size() != 2) return InvalidInput("expects a matrix");
  const std::vector<int64_t> at = Integers(index);
  std::vector<double> values(at.size());
  for (size_t k = 0; k < at.size(); ++k) {
    if (at[k] < 0 || at[k] >= from.sizes[1]) return RunOutcome::kBadIndex;
    const int64_t row = static_cast<int64_t>(k) / index.sizes[1];
    const int64_t offset = row * from.strides[0] + at[k] * from.strides[1];
    values[k] = LoadNumber(from.dtype, from.data + offset * SizeOf(from.dtype).count());
  }
  Elements(c.out[0]).Store(0, static_cast<int64_t>(values.size()), values.data());
  return RunOutcome::kDone;
}

// Rows of a table.
Result<RunOutcome> Embedding(const KernelCall& c) {
  const TensorSpan& table = c.in[0];
  const std::vector<int64_t> rows = Integers(c.in[1]);
  for (const int64_t row : rows) {
    if (row < 0 || row >= table.sizes[0]) return RunOutcome::kBadIndex;
  }
  const Elements source(table);
  const Elements result(c.out[0]);
  const int64_t columns = table.sizes[1];
  Parallel(static_cast<int64_t>(rows.size()), columns, [&](int64_t i) {
    std::vector<float> values(static_cast<size_t>(columns));
    source.Load(rows[static_cast<size_t>(i)] * columns, columns, values.data());
    result.Store(i * columns, columns, values.data());
  });
  return RunOutcome::kDone;
}

// Sums of rows, in the order of the indices; each column by itself.
Result<RunOutcome> EmbeddingBackward(const KernelCall& c) {
  const TensorSpan& out = c.out[0];
  const std::vector<int64_t> rows = Integers(c.in[1]);
  for (const int64_t row : rows) {
    if (row < 0 || row >= out.sizes[0]) return RunOutcome::kBadIndex;
  }
  const Elements gradient(c.in[0]);
  const Elements result(out);
  const int64_t columns = out.sizes[1];
  const int64_t n = out.sizes[0];
  constexpr int64_t kColumns = 64;  // together
  ParallelChunks(columns, kColumns, [&](int64_t begin, int64_t width) {
    std::vector<float> sums(static_cast<size_t>(n * width));
    std::array<float, kColumns> values;
    for (size_t i = 0; i < rows.size(); ++i) {
      gradient.Load(static_cast<int64_t>(i) * columns + begin, width, values.data());
      float* sum = &sums[static_cast<size_t>(rows[i] * width)];
      for (int64_t k = 0; k < width; ++k) sum[k] += values[static_cast<size_t>(k)];
    }
    for (int64_t row = 0; row < n; ++row) {
      result.Store(row * columns + begin, width, &sums[static_cast<size_t>(row * width)]);
    }
  });
  return RunOutcome::kDone;
}

}  // namespace

std::span<const KernelEntry> MoveKernels() {
  static constexpr std::array kEntries = {
      KernelEntry{OpKind::kOffload, &Transfer},
      KernelEntry{OpKind::kFetch, &Transfer},
      KernelEntry{OpKind::kArange, &Arange},
      KernelEntry{OpKind::kFull, &Full},
      KernelEntry{OpKind::kOnesLike, &OnesLike},
      KernelEntry{OpKind::kCat, &Cat},
      KernelEntry{OpKind::kStack, &Stack},
      KernelEntry{OpKind::kConstantPad, &ConstantPad},
      KernelEntry{OpKind::kSliceBackward, &SliceBackward},
      KernelEntry{OpKind::kTril, &Tril},
      KernelEntry{OpKind::kRepeat, &Repeat},
      KernelEntry{OpKind::kGather, &Gather},
      KernelEntry{OpKind::kEmbedding, &Embedding},
      KernelEntry{OpKind::kEmbeddingBackward, &EmbeddingBackward},
  };
  return kEntries;
}

}  // namespace tidemark::host
