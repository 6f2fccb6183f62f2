// How many random cases a test runs.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tidemark {

#ifdef TIDEMARK_SANITIZED
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// All `n`, or a quarter of them under sanitizers: there they take ten times as long, and what is looked for is wrong
// accesses, not values.
constexpr uint64_t Cases(uint64_t n) { return kSanitized ? std::max<uint64_t>(1, n / 4) : n; }

}  // namespace tidemark
