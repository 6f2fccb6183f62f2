// Device code on the host: blocks one after the other, the threads of a block as fibers that take turns at barriers. It
// is how tests run the device's kernels where there is no device; slow, and without warps, atomics and races.
#pragma once

#ifndef __CUDACC__

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static

namespace tidemark::cuda {

struct Coordinates {
  unsigned x = 0, y = 0;
};

class Emulation {
 public:
  static constexpr size_t kSharedBytes = size_t{48} << 10;

  static Emulation& Get() {
    static Emulation emulation;
    return emulation;
  }

  // Runs body() for every thread of every block. Without barriers a thread is a plain call.
  void Run(Coordinates grid, unsigned threads, bool barriers, const std::function<void()>& body) {
    block_threads = threads;
    grid_blocks = grid;
    for (block.y = 0; block.y < grid.y; ++block.y) {
      for (block.x = 0; block.x < grid.x; ++block.x) {
        if (barriers) {
          RunFibers(threads, body);
          continue;
        }
        for (thread = 0; thread < threads; ++thread) body();
      }
    }
  }

  // __syncthreads()
  void Barrier() { swapcontext(&fibers_[thread]->context, &scheduler_); }

  unsigned thread = 0;
  unsigned block_threads = 1;
  Coordinates block, grid_blocks;
  alignas(16) std::byte shared[kSharedBytes];

 private:
  static constexpr size_t kStack = size_t{64} << 10;
  struct Fiber {
    ucontext_t context{};
    std::unique_ptr<std::byte[]> stack = std::make_unique<std::byte[]>(kStack);
    bool done = false;
  };

  static void Enter() {
    Emulation& self = Get();
    (*self.body_)();
    self.fibers_[self.thread]->done = true;
  }

  void RunFibers(unsigned threads, const std::function<void()>& body) {
    body_ = &body;
    while (fibers_.size() < threads) fibers_.push_back(std::make_unique<Fiber>());
    for (unsigned i = 0; i < threads; ++i) {
      Fiber& fiber = *fibers_[i];
      fiber.done = false;
      getcontext(&fiber.context);
      fiber.context.uc_stack = {.ss_sp = fiber.stack.get(), .ss_flags = 0, .ss_size = kStack};
      fiber.context.uc_link = &scheduler_;
      makecontext(&fiber.context, &Enter, 0);
    }
    for (bool running = true; running;) {
      running = false;
      for (thread = 0; thread < threads; ++thread) {
        if (fibers_[thread]->done) continue;
        swapcontext(&scheduler_, &fibers_[thread]->context);
        running = running || !fibers_[thread]->done;
      }
    }
  }

  ucontext_t scheduler_{};
  const std::function<void()>* body_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
};

}  // namespace tidemark::cuda

#endif
