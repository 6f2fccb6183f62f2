#include "sim/allocators/bfc.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/allocators/policy.h"
#include "sim/allocators/regions.h"

namespace tidemark {
namespace {

constexpr int64_t kMinAllocation = 256;
constexpr int64_t kFirstRegion = int64_t{2} << 20;
constexpr int64_t kMaxFragmentation = int64_t{128} << 20;
constexpr int64_t kMostBytes = int64_t{1} << 60;

int64_t RoundedBytes(int64_t bytes) { return (bytes + kMinAllocation - 1) / kMinAllocation * kMinAllocation; }

class Bfc final : public Policy {
 public:
  explicit Bfc(const AllocatorOptions& options)
      : Policy(options), next_region_(RoundedBytes(std::min(limit(), kFirstRegion))) {}

  Allocated Allocate(AllocationId allocation, Bytes bytes, int32_t stream) override {
    if (bytes == Bytes(0)) return {AllocateOutcome::kZeroBytes, kNoBlock};
    const int64_t size = RoundedBytes(std::min(bytes.count(), kMostBytes));
    Regions::Chunk chunk;
    bool found = regions_.Find(Regions::kNobody, size, &chunk);
    if (!found && Extend(size)) found = regions_.Find(Regions::kNobody, size, &chunk);
    if (!found) {
      const auto [count, freed] = regions_.DropEmpty();
      if (count > 0) Release(freed, count);
      if (count > 0 && Extend(size)) found = regions_.Find(Regions::kNobody, size, &chunk);
    }
    if (!found) {
      return Fail(allocation, bytes.count(), size,
                  fmt::format("Allocator (GPU_0_bfc) ran out of memory trying to allocate {} (rounded to {})",
                              SizeText(bytes.count()), size));
    }
    const bool split = chunk.size >= 2 * size || chunk.size - size >= kMaxFragmentation;
    const int64_t taken = split ? size : chunk.size;
    regions_.Take(chunk, taken);
    return HandOut(
        {.segment = chunk.region, .offset = chunk.offset, .size = taken, .requested = bytes.count(), .stream = stream});
  }

  void Free(BlockHandle handle) override {
    const Block b = TakeBack(handle);
    regions_.Free({b.segment, b.offset, b.size}, Regions::kNobody);
  }

 private:
  // BFCAllocator::Extend
  bool Extend(int64_t size) {
    const int64_t available = (limit() - held()) / kMinAllocation * kMinAllocation;
    if (size > available) return false;
    bool increased = false;
    while (size > next_region_) {
      next_region_ *= 2;
      increased = true;
    }
    const int64_t bytes = std::min(next_region_, available);
    if (!increased) next_region_ *= 2;
    regions_.Add(bytes);
    Hold(bytes, 1);
    return true;
  }

  std::vector<Extent> Extents() const override {
    std::vector<Extent> extents;
    for (const auto& [region, size] : regions_.sizes()) extents.push_back({region, size});
    return extents;
  }

  Regions regions_;
  int64_t next_region_;
};

}  // namespace

Result<std::unique_ptr<Allocator>> MakeBfc(const AllocatorOptions& options) {
  return std::unique_ptr<Allocator>(std::make_unique<Bfc>(options));
}

}  // namespace tidemark
