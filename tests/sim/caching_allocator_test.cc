// Situations of PyTorch's allocator with their arithmetic. Each was checked against PyTorch 2.14.1 itself.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sim/allocators/caching/engine.h"

namespace tidemark {
namespace {

using namespace literals;

class Process {
 public:
  explicit Process(AllocatorOptions options = {}) {
    Result<std::unique_ptr<Allocator>> made = MakeAllocator(options);
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().message);
    allocator_ = *std::move(made);
  }
  // The place of a new block; segment -1: out of memory.
  std::pair<int64_t, Bytes> Malloc(Bytes bytes, const std::string& name = "", int32_t stream = 0) {
    const Allocated result = allocator_->Allocate(AllocationId(next_++), bytes, stream);
    if (result.outcome != AllocateOutcome::kPlaced) return {-1, Bytes(0)};
    blocks_[name] = result.block;
    const Placement place = allocator_->Where(result.block);
    return {place.segment, place.offset};
  }
  Bytes BlockBytes(const std::string& name) { return allocator_->Where(blocks_.at(name)).block_bytes; }
  void Free(const std::string& name) { allocator_->Free(blocks_.at(name)); }
  void Record(const std::string& name, int32_t stream) { allocator_->RecordStream(blocks_.at(name), stream); }
  int64_t Stat(const std::string& key) {
    for (const Statistic& statistic : allocator_->Statistics()) {
      if (statistic.key == key) return statistic.value;
    }
    ADD_FAILURE() << "no statistic " << key;
    return 0;
  }
  // inactive_split, inactive_split_bytes
  std::pair<int64_t, int64_t> Inactive() {
    return {Stat("inactive_split.all.current"), Stat("inactive_split_bytes.all.current")};
  }
  Usage usage() { return allocator_->usage(); }
  Allocator& allocator() { return *allocator_; }

 private:
  std::unique_ptr<Allocator> allocator_;
  std::map<std::string, BlockHandle> blocks_;
  size_t next_ = 0;
};

using Place = std::pair<int64_t, Bytes>;
using Inactive = std::pair<int64_t, int64_t>;

TEST(CachingAllocator, SmallBlocksShareASegment) {
  Process p;
  EXPECT_EQ(p.Malloc(4_B, "x"), Place(0, 0_B));
  EXPECT_EQ(p.usage().reserved, 2_MiB);
  EXPECT_EQ(p.Inactive(), Inactive(1, 2097152 - 512));
  p.Malloc(614400_B, "y");
  p.Malloc(1024000_B, "z");
  EXPECT_EQ(p.usage().allocated, 512_B + 614400_B + 1024000_B);
  EXPECT_EQ(p.Inactive(), Inactive(1, 2097152 - 1638912));
  p.Free("y");
  EXPECT_EQ(p.Inactive(), Inactive(2, 458240 + 614400));
  // 458240 at the end is too small; 614400 is the smallest that fits.
  EXPECT_EQ(p.Malloc(512000_B, "w"), Place(0, 512_B));
  EXPECT_EQ(p.Inactive(), Inactive(2, 458240 + 614400 - 512000));
  p.Free("x");
  p.Free("z");
  p.Free("w");
  EXPECT_EQ(p.Inactive(), Inactive(0, 0));
  EXPECT_EQ(p.usage().reserved, 2_MiB);
  p.allocator().EmptyCache();
  EXPECT_EQ(p.usage().reserved, 0_B);
  EXPECT_EQ(p.Stat("num_device_free"), 1);
}

TEST(CachingAllocator, ARestOfAMebibyteOrLessIsNotSplitOff) {
  Process p;
  EXPECT_EQ(p.Malloc(8519680_B), Place(0, 0_B));
  EXPECT_EQ(p.Malloc(8519680_B), Place(0, 8519680_B));
  // 20 MiB - 2 * 8519680 = 3932160; 3932160 - 3 MiB = 786432 <= 1 MiB.
  EXPECT_EQ(p.Malloc(3_MiB, "c"), Place(0, 17039360_B));
  EXPECT_EQ(p.BlockBytes("c"), 3932160_B);
  EXPECT_EQ(p.usage().allocated, 20_MiB);
  EXPECT_EQ(p.usage().requested, 20185088_B);
  EXPECT_EQ(p.Inactive(), Inactive(0, 0));
}

TEST(CachingAllocator, TheSplitTestIsStrict) {
  Process p;
  p.Malloc(13_MiB, "a");  // 14 MiB - 13 MiB = 1 MiB: not split
  EXPECT_EQ(p.BlockBytes("a"), 14_MiB);
  p.Malloc(13_MiB - 512_B, "b");  // 1 MiB + 512: split
  EXPECT_EQ(p.BlockBytes("b"), 13_MiB - 512_B);
  EXPECT_EQ(p.Inactive(), Inactive(1, 1049088));
}

TEST(CachingAllocator, AFreeBlockIsTakenWholeOrSplit) {
  Process p;
  p.Malloc(100_MiB, "a");
  p.Free("a");
  p.Malloc(99_MiB, "b");
  EXPECT_EQ(p.BlockBytes("b"), 100_MiB);
  p.Free("b");
  p.Malloc(99_MiB - 512_B, "c");
  EXPECT_EQ(p.BlockBytes("c"), 99_MiB - 512_B);
  EXPECT_EQ(p.Inactive(), Inactive(1, 1049088));
}

TEST(CachingAllocator, OversizeBlocksServeOversizeRequestsWithinTheSlack) {
  Process p({.conf = "max_split_size_mb:64"});
  p.Malloc(100_MiB, "a");
  p.Free("a");
  EXPECT_EQ(p.Malloc(50_MiB), Place(1, 0_B));
  EXPECT_EQ(p.usage().reserved, 150_MiB);
  EXPECT_EQ(p.Malloc(81_MiB, "c"), Place(0, 0_B));  // 100 < 81 + 20
  EXPECT_EQ(p.BlockBytes("c"), 100_MiB);
  EXPECT_EQ(p.Stat("oversize_allocations.current"), 1);
  p.Free("c");
  EXPECT_EQ(p.Malloc(80_MiB), Place(2, 0_B));  // 100 >= 80 + 20
  EXPECT_EQ(p.usage().reserved, 230_MiB);
}

TEST(CachingAllocator, ARetryGivesBackWhatIsFree) {
  Process p({.device_memory = 1_GiB});
  for (const char* name : {"a", "b", "c", "d"}) p.Malloc(200_MiB, name);
  p.Free("a");
  EXPECT_EQ(p.Malloc(300_MiB), Place(4, 0_B));
  EXPECT_EQ(p.usage().reserved, 900_MiB);
  EXPECT_EQ(p.Stat("num_alloc_retries"), 1);
  EXPECT_EQ(p.Stat("num_sync_all_streams"), 1);
  EXPECT_EQ(p.Malloc(500_MiB), Place(-1, 0_B));
  EXPECT_EQ(p.Stat("num_alloc_retries"), 2);
  EXPECT_EQ(p.Stat("num_ooms"), 1);
  EXPECT_EQ(p.allocator().last_out_of_memory().segment_bytes, 500_MiB);
  EXPECT_TRUE(p.allocator().last_out_of_memory().message.starts_with(
      "CUDA out of memory. Tried to allocate 500.00 MiB. GPU 0 has a total capacity of 1024.00 MiB of which 124.00 MiB "
      "is free."));
}

TEST(CachingAllocator, ExpandableSegmentsGrowByPagesAndFillTheLowestHole) {
  Process p({.conf = "expandable_segments:True", .device_memory = 1_GiB});
  EXPECT_EQ(p.Malloc(30_MiB, "a"), Place(0, 0_B));
  EXPECT_EQ(p.usage().reserved, 40_MiB);
  EXPECT_EQ(p.Malloc(5_MiB), Place(0, 30_MiB));
  EXPECT_EQ(p.Malloc(25_MiB), Place(0, 35_MiB));
  EXPECT_EQ(p.usage().reserved, 60_MiB);
  p.Free("a");
  p.allocator().EmptyCache();  // [0, 20 MiB) goes; [20, 30) is half a page
  EXPECT_EQ(p.usage().reserved, 40_MiB);
  EXPECT_EQ(p.Malloc(12_MiB), Place(0, 0_B));
  EXPECT_EQ(p.usage().reserved, 60_MiB);
  EXPECT_EQ(p.usage().segments, 0);
}

TEST(CachingAllocator, GarbageCollectionTakesWhatIsOlderThanTheAverage) {
  Process p({.conf = "garbage_collection_threshold:0.5", .device_memory = 2_GiB, .fraction = 0.5});
  const std::vector<std::string> names = {"a", "b", "c", "d", "e", "f"};
  for (int64_t k = 0; k < 6; ++k) p.Malloc(Bytes((100 + 2 * k) << 20), names[static_cast<size_t>(k)]);
  for (const char* name : {"a", "b", "c", "d"}) p.Free(name);
  for (int round = 0; round < 3; ++round) {
    p.Malloc(106_MiB, "x");
    p.Free("x");
  }
  // Ages 4, 4, 4, 1: mean 3.25. 100 + 102 + 104 MiB go; 630 - 306 + 200 = 524.
  p.Malloc(200_MiB);
  EXPECT_EQ(p.usage().reserved, 524_MiB);
  EXPECT_EQ(p.Stat("num_alloc_retries"), 0);
}

TEST(CachingAllocator, OtherStreamsHoldABlockBack) {
  Process p({.events = EventTiming::kLazy});
  p.Malloc(512_B, "a");
  p.Record("a", 1);
  p.Free("a");
  EXPECT_EQ(p.usage().allocated, 0_B);
  EXPECT_EQ(p.usage().active, 512_B);
  EXPECT_EQ(p.Malloc(512_B, "b"), Place(0, 512_B));
  p.allocator().Synchronize();
  EXPECT_EQ(p.Malloc(512_B, "c"), Place(0, 0_B));
}

TEST(CachingAllocator, StreamsDoNotShareBlocks) {
  Process p;
  p.Malloc(512_B, "a", 0);
  p.Free("a");
  EXPECT_EQ(p.Malloc(512_B, "b", 1), Place(1, 0_B));
}

TEST(CachingAllocator, PrivatePoolsKeepTheirMemoryUntilTheLastUserGoes) {
  Process p;
  Event event;
  event.pool = 5;
  const auto tell = [&](EventKind kind) {
    event.kind = kind;
    p.allocator().PoolEvent(event);
  };
  tell(EventKind::kPoolEnter);
  p.Malloc(512_B, "a");
  tell(EventKind::kPoolLeave);
  p.Free("a");
  EXPECT_EQ(p.Malloc(512_B), Place(1, 0_B));
  p.allocator().EmptyCache();
  EXPECT_EQ(p.usage().reserved, 4_MiB);
  tell(EventKind::kPoolRelease);
  p.allocator().EmptyCache();
  EXPECT_EQ(p.usage().reserved, 2_MiB);
  EXPECT_EQ(p.allocator().unsupported(), "");
  tell(EventKind::kPoolRelease);
  EXPECT_NE(p.allocator().unsupported(), "");
}

// Where ties go by address, rising and falling addresses differ; later releases look at the age of the block or of the
// segment.
TEST(CachingAllocator, TiesGoByAddressOrByAge) {
  const auto place_after_two_free = [](std::string framework, AddressOrder addresses) {
    Process p({.framework = std::move(framework), .addresses = addresses});
    p.Malloc(30_MiB, "a");
    p.Malloc(30_MiB, "b");
    p.Free("b");
    p.Free("a");
    return p.Malloc(30_MiB).first;
  };
  EXPECT_EQ(place_after_two_free("pytorch-2.11", AddressOrder::kRising), 0);
  EXPECT_EQ(place_after_two_free("pytorch-2.11", AddressOrder::kFalling), 1);
  EXPECT_EQ(place_after_two_free("pytorch-2.12", AddressOrder::kFalling), 0);
  EXPECT_EQ(place_after_two_free("pytorch-2.14", AddressOrder::kFalling), 0);
}

// In 2.12 what is cut off for a request is a new block, and a block that absorbs a neighbour stays itself. Numbers are
// those of the blocks, in the order in which they are made.
TEST(CachingAllocator, InOneReleaseABlockIsAsYoungAsItsLastCut) {
  const auto segment_of_the_last = [](std::string framework) {
    Process p({.framework = std::move(framework)});
    p.Malloc(1_MiB, "a");  // segment 0: a 2 | rest 1
    p.Malloc(1_MiB, "b");  // segment 0: a 2 | b 1
    p.Malloc(1_MiB, "c");  // segment 1: c 4 | rest 3
    p.Malloc(1_MiB, "d");  // segment 1: c 4 | d 3
    p.Free("a");
    p.Free("b");           // segment 0: 1
    p.Malloc(1_MiB, "e");  // segment 0: e 5 | rest 1
    p.Free("e");           // segment 0: 5
    p.Free("c");
    p.Free("d");  // segment 1: 3
    return p.Malloc(1_MiB).first;
  };
  EXPECT_EQ(segment_of_the_last("pytorch-2.12"), 1);
  EXPECT_EQ(segment_of_the_last("pytorch-2.14"), 0);
}

TEST(CachingAllocator, AnExabyteIsRefusedBeforeAnythingElse) {
  Process p;
  EXPECT_EQ(p.Malloc(Bytes(int64_t{1} << 60)), Place(-1, 0_B));
  EXPECT_EQ(p.Stat("num_ooms"), 0);
  EXPECT_EQ(p.allocator().last_out_of_memory().message, "CUDA out of memory. Tried to allocate more than 1EB memory.");
}

TEST(CachingAllocator, StartsFromAGivenState) {
  InitialState initial;
  initial.segments.push_back({.address = 0x200000,
                              .size = 2_MiB,
                              .stream = 0,
                              .large = false,
                              .expandable = false,
                              .blocks = {{.size = 1024_B, .requested = 1000_B, .allocation = AllocationId(0)},
                                         {.size = 2_MiB - 1024_B, .requested = 0_B, .allocation = {}}}});
  initial.later_addresses = {0x800000};
  Process p({.initial = &initial});
  EXPECT_EQ(p.usage().allocated, 1024_B);
  EXPECT_EQ(p.Inactive(), Inactive(1, 2097152 - 1024));
  EXPECT_EQ(p.Malloc(512_B, "a"), Place(0, 1024_B));
  EXPECT_EQ(p.Malloc(2_MiB, "b"), Place(1, 0_B));
  ASSERT_EQ(p.allocator().SeededBlocks().size(), 1u);
  p.allocator().Free(p.allocator().SeededBlocks()[0].block);
  EXPECT_EQ(p.Malloc(512_B, "c"), Place(0, 0_B));
  EXPECT_EQ(p.Stat("allocation.all.allocated"), 3);
}

TEST(MakeAllocator, RefusesWhatMakesNoSense) {
  const auto error = [](const AllocatorOptions& options) {
    const auto made = MakeAllocator(options);
    return made.ok() ? "no error" : made.error().message;
  };
  EXPECT_NE(error({.backend = "x"}).find("unknown allocator \"x\"; known: native"), std::string::npos);
  EXPECT_NE(error({.framework = "jax"}).find("unknown framework \"jax\""), std::string::npos);
  EXPECT_EQ(error({.conf = "a:1"}), "conf \"a:1\": Unrecognized key 'a' in CUDA allocator config.");
  EXPECT_EQ(error({.device_memory = 0_B}), "a device with 0 bytes of memory: wanted 1 to 1125899906842624");
  EXPECT_EQ(error({.fraction = 1.5}), "Invalid fraction value: 1.5. Allowed range: 0~1");
}

}  // namespace
}  // namespace tidemark
