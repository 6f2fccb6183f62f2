#include "sim/allocators/cuda_async.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "sim/allocators/policy.h"
#include "sim/allocators/regions.h"

namespace tidemark {
namespace {

constexpr int64_t kChunk = int64_t{32} << 20;
constexpr int64_t kStep = 512;
constexpr int64_t kMostBytes = int64_t{1} << 60;

// PyTorch's format_size.
std::string FormatSize(uint64_t bytes) {
  const double size = static_cast<double>(bytes);
  if (bytes <= 1024) return fmt::format("{} bytes", bytes);
  if (bytes <= 1048576) return fmt::format("{:.2f} KiB", size / 1024);
  if (bytes <= 1073741824) return fmt::format("{:.2f} MiB", size / 1048576);
  return fmt::format("{:.2f} GiB", size / 1073741824);
}

class CudaAsync final : public Policy {
 public:
  explicit CudaAsync(const AllocatorOptions& options)
      : Policy(options),
        total_(options.device_memory.count()),
        available_(total_ - options.process_overhead.count()),
        lazy_(options.events == EventTiming::kLazy) {
    if (options.fraction) set_limit_ = static_cast<uint64_t>(*options.fraction * static_cast<double>(total_));
  }

  Allocated Allocate(AllocationId allocation, Bytes bytes, int32_t stream) override {
    if (bytes == Bytes(0)) return {AllocateOutcome::kZeroBytes, kNoBlock};
    if (bytes.count() >= kMostBytes) return Refuse(allocation, bytes.count());
    const int64_t size = RoundUp(bytes, Bytes(kStep)).count();
    Regions::Chunk chunk;
    if (static_cast<uint64_t>(requested_ + bytes.count()) > set_limit_) return Refuse(allocation, bytes.count());
    const int64_t wanted = RoundUp(Bytes(size), Bytes(kChunk)).count();
    if (!Find(stream, size, &chunk)) {
      if (wanted > available_ - held()) Trim();
      if (wanted > available_ - held()) return Refuse(allocation, bytes.count());
      regions_.Add(wanted);
      Hold(wanted, 1);
      if (!Find(stream, size, &chunk)) return Refuse(allocation, bytes.count());
    }
    regions_.Take(chunk, size);
    requested_ += bytes.count();
    return HandOut(
        {.segment = chunk.region, .offset = chunk.offset, .size = size, .requested = bytes.count(), .stream = stream});
  }

  void Free(BlockHandle handle) override {
    const Block b = TakeBack(handle);
    requested_ -= b.requested;
    regions_.Free({b.segment, b.offset, b.size}, lazy_ ? b.stream : Regions::kNobody);
  }

  void Synchronize() override { regions_.Disown(); }
  void EmptyCache() override { Trim(); }

  std::vector<Statistic> Statistics() const override {
    caching::Statistics shown;
    for (const caching::Counter counter : {caching::kAllocatedBytes, caching::kActiveBytes, caching::kReservedBytes}) {
      const caching::Stat& stat = stats_.arrays[caching::kAll][counter];
      // Totals are 0: nobody counts them.
      shown.arrays[caching::kAll][counter] = {stat.current, stat.peak, 0, stat.current};
    }
    shown.max_split_size = 0;
    return shown.List(/*with_rejections=*/true);
  }

 private:
  bool Find(int32_t stream, int64_t size, Regions::Chunk* chunk) const {
    return (lazy_ && regions_.Find(stream, size, chunk)) || regions_.Find(Regions::kNobody, size, chunk);
  }
  // Waits for the device and gives empty chunks back.
  void Trim() {
    regions_.Disown();
    const auto [count, freed] = regions_.DropEmpty();
    Release(freed, count);
  }
  Allocated Refuse(AllocationId allocation, int64_t bytes) {
    return Fail(
        allocation, bytes, RoundUp(Bytes(std::min(bytes, kMostBytes)), Bytes(kChunk)).count(),
        fmt::format(
            "Allocation on device 0 would exceed allowed memory. (out of memory)\nCurrently allocated     : {}\n"
            "Requested               : {}\nDevice limit            : {}\nFree (according to CUDA): {}\n"
            "PyTorch limit (set by user-supplied memory fraction)\n                        : {}",
            FormatSize(static_cast<uint64_t>(requested_)), FormatSize(static_cast<uint64_t>(bytes)),
            FormatSize(static_cast<uint64_t>(total_)), FormatSize(static_cast<uint64_t>(available_ - held())),
            FormatSize(set_limit_)));
  }

  std::vector<Extent> Extents() const override {
    std::vector<Extent> extents;
    for (const auto& [region, size] : regions_.sizes()) extents.push_back({region, size});
    return extents;
  }

  Regions regions_;
  int64_t total_;
  int64_t available_;
  bool lazy_;
  uint64_t set_limit_ = std::numeric_limits<uint64_t>::max();
  int64_t requested_ = 0;
};

}  // namespace

Result<std::unique_ptr<Allocator>> MakeCudaAsync(const AllocatorOptions& options) {
  return std::unique_ptr<Allocator>(std::make_unique<CudaAsync>(options));
}

}  // namespace tidemark
