// Applies a function of numbers to the elements of tensors, which are broadcast to the result.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>

#include "kernels/host/elements.h"
#include "kernels/host/parallel.h"

namespace tidemark::host {

// Whether fp32 doesn't hold the numbers of this format.
inline bool IsWide(DType dtype) {
  return dtype == DType::kFloat64 || dtype == DType::kInt64 || dtype == DType::kUInt64 || dtype == DType::kInt32;
}

template <typename T, size_t kInputs, typename F>
RunOutcome MapAs(const std::array<TensorSpan, kInputs>& in, const TensorSpan& out, const F& f) {
  std::array<const Elements*, kInputs> sources{};
  std::vector<Elements> elements;
  elements.reserve(kInputs);
  for (size_t k = 0; k < kInputs; ++k) sources[k] = &elements.emplace_back(in[k], out.sizes);
  const Elements result(out);
  std::atomic<bool> valid = true;
  ParallelChunks(result.size(), kChunk, [&](int64_t begin, int64_t n) {
    std::array<std::array<T, kChunk>, kInputs + 1> values;
    for (size_t k = 0; k < kInputs; ++k) {
      if (!sources[k]->Load(begin, n, values[k].data())) valid = false;
    }
    std::array<T, kChunk>& to = values[kInputs];
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      if constexpr (kInputs == 1) to[i] = f(values[0][i]);
      if constexpr (kInputs == 2) to[i] = f(values[0][i], values[1][i]);
      if constexpr (kInputs == 3) to[i] = f(values[0][i], values[1][i], values[2][i]);
      if constexpr (kInputs == 4) to[i] = f(values[0][i], values[1][i], values[2][i], values[3][i]);
    }
    result.Store(begin, n, to.data());
  });
  return valid ? RunOutcome::kDone : RunOutcome::kBadIndex;
}

// out = f(in…) in fp32, or in double precision where an operand or the result needs it.
template <size_t kInputs, typename F>
RunOutcome Map(const std::array<TensorSpan, kInputs>& in, const TensorSpan& out, const F& f) {
  bool wide = IsWide(out.dtype);
  for (const TensorSpan& t : in) wide = wide || IsWide(t.dtype);
  return wide ? MapAs<double>(in, out, f) : MapAs<float>(in, out, f);
}

}  // namespace tidemark::host
