// How many random cases a test runs.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tidemark {

// All `n`, or a quarter of them under the address sanitizer: there they take ten times as long, and what is looked for
// is wrong accesses, not values.
constexpr uint64_t Cases(uint64_t n) {
#ifdef __SANITIZE_ADDRESS__
  return std::max<uint64_t>(1, n / 4);
#else
  return n;
#endif
}

}  // namespace tidemark
