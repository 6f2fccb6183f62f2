// What an executor needs of a machine: memory in segments, and a kernel for each kind of op. Spans and shapes; no type
// of Eigen or CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "graph/base/result.h"
#include "graph/base/units.h"
#include "graph/graph.h"

namespace tidemark {

// A tensor in the backend's memory. `data` is an address there: of the first element.
struct TensorSpan {
  std::byte* data = nullptr;
  DType dtype = DType::kFloat32;
  Dims sizes;
  Dims strides;  // in elements
};

// Memory of a temporary of the op's memory rule.
struct ScratchSpan {
  std::byte* data = nullptr;
  Bytes bytes;
  std::string_view what;  // as the rule names it
};

// One run of an op. Operands of list ops come in the groups that op_list.def says. An in-place result is a span of
// its own, on the same bytes as its operand.
struct KernelCall {
  OpKind kind = OpKind::kFull;
  Thread thread = Thread::kMain;
  Attributes attributes;
  std::span<const TensorSpan> in;
  std::span<const TensorSpan> out;
  std::span<const ScratchSpan> scratch;
  const FusedKernel* fused = nullptr;  // of a kFusedKernel

  // The first whose name begins so; null: none that lives.
  const ScratchSpan* Scratch(std::string_view what) const {
    for (const ScratchSpan& s : scratch) {
      if (s.what.starts_with(what)) return &s;
    }
    return nullptr;
  }
};

enum class RunOutcome : uint8_t {
  kDone,
  kBadIndex,  // an index out of range or a byte that is no truth value; nothing was written beyond the results
};

// A segment as the executor wants it from here on.
struct SegmentMapping {
  int64_t segment = 0;  // as the allocator numbers it (Placement::segment)
  Bytes bytes;
  Bytes most;               // that it ever has
  bool expandable = false;  // its size changes; what it keeps stays where it is
  Location location = Location::kDevice;
};

enum class MapOutcome : uint8_t { kMapped, kOutOfMemory };

// What the machine itself says, at its highest. Zero where it can't be measured.
struct MeasuredMemory {
  Bytes reserved;  // mapped segments
  Bytes device;    // what the device has less than before the first of them
  Bytes process;   // what the device counts for this process, its context included
  bool operator==(const MeasuredMemory&) const = default;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;

  // --- Memory.
  // Mapping a mapped segment changes its size. What lies elsewhere than on the device (in the host's pinned memory, or
  // in a kernel's registers, for which pinned memory stands in) isn't measured.
  virtual Result<MapOutcome> Map(const SegmentMapping& mapping) = 0;
  // Whether an expandable segment's blocks can lie behind a range of it that has no memory.
  virtual bool maps_anywhere() const { return true; }
  virtual Status Unmap(int64_t segment) = 0;
  // REQUIRES: mapped.
  virtual std::byte* Address(int64_t segment, Bytes offset) const = 0;
  virtual Status Fill(std::byte* to, Bytes bytes, uint8_t value) = 0;
  virtual Status Write(std::byte* to, std::span<const std::byte> from) = 0;
  // Waits for what was run before.
  virtual Status Read(std::span<std::byte> to, const std::byte* from) = 0;
  virtual Result<MeasuredMemory> Measure() = 0;

  // --- Kernels.
  virtual bool Has(OpKind kind) const = 0;
  // Errors: what the kernel can't do (a layout, a number format), naming the op; a device's failure.
  virtual Result<RunOutcome> Run(const KernelCall& call) = 0;
  virtual Result<int64_t> CountNaNs(const TensorSpan& t) = 0;
  // Whether values can be read and mean something: not where kernels do nothing.
  virtual bool computes() const { return true; }
};

// The byte that free memory is filled with.
constexpr uint8_t kPoison = 0xff;

}  // namespace tidemark
