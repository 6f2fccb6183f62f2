// Loops over both cores. What an iteration computes never depends on how many threads there are.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tidemark::host {

// f(i) for i in [0, n), in any order. `work`: about how many elements an iteration touches; little work stays here.
template <typename F>
void Parallel(int64_t n, int64_t work, const F& f) {
  constexpr int64_t kWorthIt = 1 << 15;
#pragma omp parallel for schedule(static) if (n > 1 && n * work >= kWorthIt)
  for (int64_t i = 0; i < n; ++i) f(i);
}

// f(begin, size) for pieces of `chunk` of [0, n).
template <typename F>
void ParallelChunks(int64_t n, int64_t chunk, const F& f) {
  Parallel((n + chunk - 1) / chunk, chunk, [&](int64_t i) { f(i * chunk, std::min(chunk, n - i * chunk)); });
}

}  // namespace tidemark::host
