#include "sim/allocators/arenas.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/allocators/policy.h"

namespace tidemark {
namespace {

class LowerBound final : public Policy {
 public:
  explicit LowerBound(const AllocatorOptions& options) : Policy(options) {}

  Allocated Allocate(AllocationId allocation, Bytes bytes, int32_t stream) override {
    if (bytes == Bytes(0)) return {AllocateOutcome::kZeroBytes, kNoBlock};
    if (bytes.count() > limit() - held()) {
      return Fail(allocation, bytes.count(), bytes.count(),
                  fmt::format("no allocator can: {} are alive, {} more were asked for, {} are there", SizeText(held()),
                              SizeText(bytes.count()), SizeText(limit())));
    }
    Hold(bytes.count(), 0);
    return HandOut({.size = bytes.count(), .requested = bytes.count(), .stream = stream});
  }
  void Free(BlockHandle block) override { Release(TakeBack(block).size, 0); }

 private:
  std::vector<Extent> Extents() const override { return {}; }
};

class BumpArena final : public Policy {
 public:
  explicit BumpArena(const AllocatorOptions& options) : Policy(options) {}

  Allocated Allocate(AllocationId allocation, Bytes bytes, int32_t stream) override {
    if (bytes == Bytes(0)) return {AllocateOutcome::kZeroBytes, kNoBlock};
    if (bytes.count() > limit() - top_) {
      return Fail(allocation, bytes.count(), top_ + bytes.count() - held(),
                  fmt::format("arena full: {} of {} are behind the mark, {} were asked for", SizeText(top_),
                              SizeText(limit()), SizeText(bytes.count())));
    }
    const int64_t size = std::min(RoundUp(bytes, Bytes(512)).count(), limit() - top_);
    const int64_t offset = top_;
    top_ += size;
    ++live_;
    if (top_ > held()) Hold(top_ - held(), held() == 0 ? 1 : 0);
    return HandOut({.segment = 0, .offset = offset, .size = size, .requested = bytes.count(), .stream = stream});
  }
  void Free(BlockHandle block) override {
    TakeBack(block);
    if (--live_ == 0) top_ = 0;
  }

 private:
  std::vector<Extent> Extents() const override { return {{0, held()}}; }

  int64_t top_ = 0;
  int64_t live_ = 0;
};

}  // namespace

Result<std::unique_ptr<Allocator>> MakeLowerBound(const AllocatorOptions& options) {
  return std::unique_ptr<Allocator>(std::make_unique<LowerBound>(options));
}

Result<std::unique_ptr<Allocator>> MakeBumpArena(const AllocatorOptions& options) {
  return std::unique_ptr<Allocator>(std::make_unique<BumpArena>(options));
}

}  // namespace tidemark
