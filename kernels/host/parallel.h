// Loops over all cores. What an iteration computes never depends on how many threads there are.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tidemark::host {

// body(context, i) for i in [0, n), in any order, by this thread and whichever others come to help. Inside of another
// loop, or while another thread's is running: by this thread alone.
void RunOnAllCores(int64_t n, void (*body)(const void* context, int64_t i), const void* context);

// f(i) for i in [0, n), in any order. `work`: about how many elements an iteration touches; little work stays here.
template <typename F>
void Parallel(int64_t n, int64_t work, const F& f) {
  constexpr int64_t kWorthIt = int64_t{1} << 18;
  if (n > 1 && n * work >= kWorthIt) {
    RunOnAllCores(
        n, [](const void* context, int64_t i) { (*static_cast<const F*>(context))(i); }, &f);
    return;
  }
  for (int64_t i = 0; i < n; ++i) f(i);
}

// f(begin, size) for pieces of `chunk` of [0, n).
template <typename F>
void ParallelChunks(int64_t n, int64_t chunk, const F& f) {
  Parallel((n + chunk - 1) / chunk, chunk, [&](int64_t i) { f(i * chunk, std::min(chunk, n - i * chunk)); });
}

}  // namespace tidemark::host
