// What policies other than the caching allocator have in common: a table of blocks that are handed out, the books, a
// limit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/allocator.h"
#include "sim/allocators/caching/statistics.h"

namespace tidemark {

class Policy : public Allocator {
 public:
  void ResetPeak() override;
  Placement Where(BlockHandle block) const override;
  Usage usage() const override;
  Usage peak() const override;
  // Only the figures for all pools together move.
  std::vector<Statistic> Statistics() const override { return stats_.List(/*with_rejections=*/true); }
  // Live blocks at their places and what is free between them.
  std::vector<SegmentView> Segments() const override;
  const OutOfMemory& last_out_of_memory() const override { return out_of_memory_; }

 protected:
  struct Block {
    int64_t segment = 0;
    int64_t offset = 0;
    int64_t size = 0;
    int64_t requested = 0;
    int32_t stream = 0;
    bool live = false;
  };
  struct Extent {
    int64_t ordinal = 0;
    int64_t size = 0;
  };

  explicit Policy(const AllocatorOptions& options);

  // What may be held from the driver: the device less the overhead, or the fraction of it that is allowed.
  int64_t limit() const { return limit_; }
  int64_t held() const { return stats_.Current(caching::kReservedBytes); }
  Allocated HandOut(const Block& block);
  // Takes a block out of the books and returns it.
  Block TakeBack(BlockHandle handle);
  const Block& block(BlockHandle handle) const { return blocks_[handle]; }
  void Hold(int64_t bytes, int64_t segments);
  void Release(int64_t bytes, int64_t segments);
  Allocated Fail(AllocationId allocation, int64_t bytes, int64_t wanted, std::string message);
  // The extents of the segments that are held, by ordinal.
  virtual std::vector<Extent> Extents() const = 0;

  caching::Statistics stats_;

 private:
  void Raise(caching::Counter counter, int64_t by);

  int64_t limit_;
  std::vector<Block> blocks_;
  std::vector<BlockHandle> unused_;
  Usage highest_;
  OutOfMemory out_of_memory_;
};

// A size for people: 512 B, 1.50 MiB.
std::string SizeText(int64_t bytes);

}  // namespace tidemark
