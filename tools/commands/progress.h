// How far a command is, on a terminal and only where it takes more than a second: "12/64, 8 s left", on standard error.
#pragma once

#include <chrono>
#include <cstddef>

namespace tidemark {

class Progress {
 public:
  // So many are done, of how many. The last call wipes the line.
  void operator()(size_t done, size_t all);

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  bool shown_ = false;
};

}  // namespace tidemark
