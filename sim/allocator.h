// What every memory policy offers: an allocator takes the events of a tape one by one and says where it puts what. It
// never sees a graph. Policies are registered in the table at the end (allocator.cc).
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/base/result.h"
#include "graph/base/units.h"
#include "sim/initial_state.h"
#include "sim/tape.h"

namespace tidemark {

// A policy's own name of a block that it handed out; valid until that block is freed.
using BlockHandle = uint32_t;
constexpr BlockHandle kNoBlock = std::numeric_limits<BlockHandle>::max();

enum class AllocateOutcome : uint8_t {
  kPlaced,
  kZeroBytes,    // a request of 0 bytes gets no block
  kOutOfMemory,  // last_out_of_memory() says more
  kUnsupported,  // the real library would abort here, or nobody knows what it does: unsupported() says more
};

// What became of a request.
struct Allocated {
  AllocateOutcome outcome = AllocateOutcome::kPlaced;
  BlockHandle block = kNoBlock;  // kPlaced only
  bool operator==(const Allocated&) const = default;
};

// Where a block is.
struct Placement {
  int64_t segment = -1;  // ordinal of creation of the segment, never reused
  Bytes offset;          // within the segment
  Bytes block_bytes;     // what it counts in allocated bytes: rounding and what wasn't split off included
  int64_t address = 0;   // of the segment's start + offset
  bool operator==(const Placement&) const = default;
};

// What is in use now. allocated <= active <= reserved; requested is the part of active that was asked for.
struct Usage {
  Bytes requested;
  Bytes allocated;
  Bytes active;  // allocated, and freed blocks that wait for another stream
  Bytes reserved;
  Bytes inactive_split;
  int64_t segments = 0;
  bool operator==(const Usage&) const = default;
};

// A value of torch.cuda.memory_stats() under its name there.
struct Statistic {
  std::string key;
  int64_t value = 0;
  bool operator==(const Statistic&) const = default;
};

// A request that failed. A finding, not an error.
struct OutOfMemory {
  uint32_t event = 0;  // of the tape; filled in by the replay
  AllocationId allocation;
  Bytes requested;
  Bytes segment_bytes{};  // what the policy wanted from the driver for it
  std::string message{};  // the exception's text, as the framework words it
  bool operator==(const OutOfMemory&) const = default;
};

enum class BlockState : uint8_t { kFree, kAllocated, kPendingFree };

struct BlockView {
  Bytes offset;  // within the segment
  Bytes size;
  Bytes requested;  // 0 for free blocks
  BlockState state = BlockState::kFree;
  BlockHandle handle = kNoBlock;  // of allocated and pending blocks
};

// A segment with its blocks by offset. Blocks of an expandable segment cover its mapped ranges only.
struct SegmentView {
  int64_t ordinal = 0;
  int64_t address = 0;
  Bytes size;  // held from the driver
  int32_t stream = 0;
  uint32_t pool = kDefaultPool;
  bool large = false;
  bool expandable = false;
  std::vector<BlockView> blocks;

  static constexpr uint32_t kDefaultPool = std::numeric_limits<uint32_t>::max();
};

// A block that was there before the first event.
struct SeededBlock {
  AllocationId allocation;
  BlockHandle block = kNoBlock;
};

class Allocator {
 public:
  virtual ~Allocator() = default;

  // Called once before the first event. Online policies ignore it; an offline planner decides here.
  virtual Status Plan(const Tape& /*tape*/) { return {}; }
  virtual bool needs_whole_tape() const { return false; }

  virtual Allocated Allocate(AllocationId allocation, Bytes bytes, int32_t stream) = 0;
  virtual void Free(BlockHandle block) = 0;
  virtual void RecordStream(BlockHandle /*block*/, int32_t /*stream*/) {}
  virtual void Synchronize() {}
  virtual void EmptyCache() {}
  virtual void ResetPeak() = 0;
  // Pools and captures: one of the kinds kPoolEnter … kCaptureEnd. Policies without them have one pool for everything.
  virtual void PoolEvent(const Event& /*event*/) {}

  // REQUIRES: `block` was handed out and isn't freed.
  virtual Placement Where(BlockHandle block) const = 0;
  virtual Usage usage() const = 0;
  // The highest usage so far (segments isn't kept), whatever ResetPeak forgot; it may lie within an event.
  virtual Usage peak() const = 0;
  // False: peak() hasn't changed since the last call. Not virtual: a replay asks after each allocation.
  bool TakePeakRose() { return std::exchange(peak_rose_, false); }
  // Keys of torch.cuda.memory_stats(), counters first, then by name and pool; what a policy doesn't have is 0.
  virtual std::vector<Statistic> Statistics() const = 0;
  // Segments by ordinal. O(blocks log blocks).
  virtual std::vector<SegmentView> Segments() const = 0;
  // The live blocks of AllocatorOptions::initial.
  virtual std::vector<SeededBlock> SeededBlocks() const { return {}; }
  // REQUIRES: some Allocate said kOutOfMemory.
  virtual const OutOfMemory& last_out_of_memory() const = 0;
  // Why the events so far can't be simulated; empty: they can.
  virtual const std::string& unsupported() const;

 protected:
  bool peak_rose_ = false;  // set by whoever raises a peak
};

// When a recorded event of another stream is found complete. The truth of a real device lies in between.
enum class EventTiming : uint8_t {
  kAtOnce,  // whenever it is asked
  kLazy,    // only once the host has waited for something after it
};

// Which way the addresses of new segments go. Decides ties between equal blocks in profiles that order by address.
enum class AddressOrder : uint8_t { kRising, kFalling };

struct AllocatorOptions {
  std::string backend = "native";          // a name of the table below
  std::string framework = "pytorch-2.14";  // a profile; "pytorch" is the newest
  std::string conf{};                      // PYTORCH_CUDA_ALLOC_CONF, verbatim; may name a backend of its own
  Bytes device_memory = kGiB * 1024;       // what CUDA can hand out to everybody
  Bytes process_overhead{};                // context, modules, libraries: taken before the first segment
  std::optional<double> fraction{};        // torch.cuda.set_per_process_memory_fraction, called before the first event
  EventTiming events = EventTiming::kAtOnce;
  AddressOrder addresses = AddressOrder::kRising;
  const InitialState* initial = nullptr;  // what was there before the first event; must outlive the call that reads it
};

// A new allocator. Errors: an unknown backend or framework (with what is known), a conf string as PyTorch words it, a
// fraction outside [0, 1], memory that isn't positive, an initial state that contradicts itself.
Result<std::unique_ptr<Allocator>> MakeAllocator(const AllocatorOptions& options);

struct AllocatorInfo {
  std::string_view name;
  std::string_view description;  // one line
  Result<std::unique_ptr<Allocator>> (*make)(const AllocatorOptions&);
};

// Every policy there is. A new one is a file in allocators/ and a line in allocator.cc.
std::span<const AllocatorInfo> Allocators();

// A release whose caching allocator is known: a profile of the native one.
struct FrameworkInfo {
  std::string_view name;
  std::string_view description;  // one line
  bool ties_by_address = false;  // between free blocks of equal size: AllocatorOptions::addresses matters
};
// Oldest first.
std::span<const FrameworkInfo> AllocatorFrameworks();
// Whether what the allocator does depends on which way addresses go.
bool AddressesMatter(const AllocatorOptions& options);

}  // namespace tidemark
