#include "tools/commands/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace tidemark {

void Progress::operator()(size_t done, size_t all) {
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  if (seconds < 1 || done == 0 || ::isatty(STDERR_FILENO) != 1) return;
  if (done < all) {
    const double left = seconds / static_cast<double>(done) * static_cast<double>(all - done);
    fmt::print(stderr, "\r{}/{}, {:.0f} s left\x1b[K", done, all, left);
    shown_ = true;
  } else if (shown_) {
    fmt::print(stderr, "\r\x1b[K");
  }
  std::fflush(stderr);
}

}  // namespace tidemark
