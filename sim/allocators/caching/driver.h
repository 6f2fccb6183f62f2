// The device's side: how much memory there is, and in which steps it is charged.
#pragma once

#include <cstdint>

namespace tidemark::caching {

// Physical memory of one device. The CUDA driver hands it out in pages of 2 MiB: a cudaMalloc of 1 MiB or more and
// every cuMemCreate take whole pages (which all of PyTorch's requests are, large_segment_size_mb with an odd value
// apart).
class Driver {
 public:
  static constexpr int64_t kPage = int64_t{2} << 20;

  Driver(int64_t total, int64_t overhead) : total_(total), overhead_(overhead) {}

  bool Take(int64_t bytes) {
    const int64_t charge = Charge(bytes);
    if (charge > free()) return false;
    charged_ += charge;
    return true;
  }
  void Give(int64_t bytes) { charged_ -= Charge(bytes); }

  int64_t total() const { return total_; }
  int64_t free() const { return total_ - overhead_ - charged_; }
  // What the process holds, its context included.
  int64_t used() const { return overhead_ + charged_; }

 private:
  static int64_t Charge(int64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

  int64_t total_;
  int64_t overhead_;
  int64_t charged_ = 0;
};

}  // namespace tidemark::caching
