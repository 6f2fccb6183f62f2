#include "kernels/host/parallel.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace tidemark::host {
namespace {

// One loop. Helpers take blocks of iterations until there are none; who comes late finds none.
struct Loop {
  int64_t n = 0;
  int64_t block = 1;
  void (*body)(const void*, int64_t) = nullptr;
  const void* context = nullptr;
  std::atomic<int64_t> next = 0;
  std::atomic<int64_t> done = 0;

  // Returns whether the last iterations of all were among its own.
  bool Help() {
    int64_t mine = 0;
    for (int64_t begin = next.fetch_add(block); begin < n; begin = next.fetch_add(block)) {
      const int64_t end = std::min(n, begin + block);
      for (int64_t i = begin; i < end; ++i) body(context, i);
      mine += end - begin;
    }
    return mine > 0 && done.fetch_add(mine) + mine == n;
  }
};

// Looks whether `ready` for about as long as waking a sleeping thread takes, which is longer than many a small product.
template <typename Ready>
void SpinUntil(const Ready& ready) {
  constexpr auto kSpin = std::chrono::microseconds(100);
  const auto end = std::chrono::steady_clock::now() + kSpin;
  while (!ready() && std::chrono::steady_clock::now() < end) {
  }
}

class Pool {
 public:
  Pool() {
    const unsigned cores = std::thread::hardware_concurrency();
    for (unsigned i = 1; i < cores; ++i) threads_.emplace_back([this] { Work(); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  bool alone() const { return threads_.empty(); }

  void Run(const std::shared_ptr<Loop>& loop) {
    {
      const std::lock_guard lock(mutex_);
      loop_ = loop;
      loops_.fetch_add(1);
    }
    wake_.notify_all();
    const bool finished = loop->Help();
    if (!finished) SpinUntil([&] { return loop->done.load() == loop->n; });
    std::unique_lock lock(mutex_);
    if (!finished) finished_.wait(lock, [&] { return loop->done.load() == loop->n; });
    loop_.reset();
  }

  std::mutex& in_use() { return in_use_; }

 private:
  void Work() {
    std::shared_ptr<Loop> last;
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return ending_ || (loop_ != nullptr && loop_ != last); });
      if (ending_) return;
      last = loop_;
      const int64_t seen = loops_.load();
      lock.unlock();
      const bool finished = last->Help();
      lock.lock();
      if (finished) finished_.notify_all();
      lock.unlock();
      SpinUntil([&] { return loops_.load() != seen; });
      lock.lock();
    }
  }

  std::mutex in_use_;
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  std::shared_ptr<Loop> loop_;
  std::atomic<int64_t> loops_ = 0;  // how many there have been
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

thread_local bool in_loop = false;

}  // namespace

void RunOnAllCores(int64_t n, void (*body)(const void* context, int64_t i), const void* context) {
  static Pool pool;
  std::unique_lock mine(pool.in_use(), std::defer_lock);
  if (in_loop || pool.alone() || !mine.try_lock()) {
    for (int64_t i = 0; i < n; ++i) body(context, i);
    return;
  }
  constexpr int64_t kBlocks = 64;
  const auto loop = std::make_shared<Loop>();
  loop->n = n;
  loop->block = std::max<int64_t>(1, n / kBlocks);
  loop->body = body;
  loop->context = context;
  in_loop = true;
  pool.Run(loop);
  in_loop = false;
}

}  // namespace tidemark::host
