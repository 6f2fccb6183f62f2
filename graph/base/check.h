// CHECK: a programmer's mistake, never reachable from input. Prints place and condition to stderr and aborts.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace tidemark {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: internal error: %s is false\n", file, line, condition);
  std::abort();
}

}  // namespace tidemark

#define CHECK(condition) ((condition) ? void(0) : ::tidemark::CheckFailed(__FILE__, __LINE__, #condition))
#ifdef NDEBUG
#define DCHECK(condition) ((void)0)
#else
#define DCHECK(condition) CHECK(condition)
#endif
