#include "kernels/host_backend.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>

#include "graph/base/check.h"
#include "graph/op.h"
#include "kernels/host/elements.h"
#include "kernels/host/kernel.h"
#include "kernels/host/parallel.h"

namespace tidemark {
namespace {

constexpr size_t kKinds = 0
#define OP(kind, name, memory, cost, meaning) +1
#include "graph/op_list.def"
#undef OP
    ;

std::array<host::Kernel, kKinds> TableOfKernels() {
  std::array<host::Kernel, kKinds> table{};
  for (const auto entries : {host::MoveKernels(), host::ElementwiseKernels(), host::ReductionKernels(),
                             host::NormalizationKernels(), host::LossKernels(), host::ProductKernels(),
                             host::AttentionKernels(), host::OptimizerKernels(), host::FusedKernels()}) {
    for (const host::KernelEntry& entry : entries) {
      CHECK(table[static_cast<size_t>(entry.kind)] == nullptr);
      table[static_cast<size_t>(entry.kind)] = entry.run;
    }
  }
  return table;
}

class HostBackend : public Backend {
 public:
  explicit HostBackend(const HostOptions& options) : options_(options) {}
  HostBackend(const HostBackend&) = delete;
  HostBackend& operator=(const HostBackend&) = delete;
  ~HostBackend() override {
    for (const auto& [ordinal, segment] : segments_) munmap(segment.start, segment.extent);
  }

  std::string_view name() const override { return "host"; }

  Result<MapOutcome> Map(const SegmentMapping& mapping) override {
    const bool counts = mapping.location == Location::kDevice;
    const Bytes bytes = mapping.bytes;
    const auto known = segments_.find(mapping.segment);
    const Bytes held = known == segments_.end() ? Bytes() : known->second.bytes;
    if (counts && charged_ - Charge(held) + Charge(bytes) > options_.capacity) return MapOutcome::kOutOfMemory;
    if (counts) charged_ += Charge(bytes) - Charge(held);
    if (known == segments_.end()) {
      const auto extent = static_cast<size_t>(mapping.most.count());
      void* start = mmap(nullptr, extent, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (start == MAP_FAILED) {
        return Error{ErrorCode::kUnavailable,
                     fmt::format("can't reserve {} bytes of virtual memory: {}", extent, std::strerror(errno))};
      }
      segments_[mapping.segment] = {static_cast<std::byte*>(start), extent, bytes, counts};
    } else {
      known->second.bytes = bytes;
    }
    if (counts) reserved_ += bytes - held;
    measured_.reserved = std::max(measured_.reserved, reserved_);
    return MapOutcome::kMapped;
  }

  Status Unmap(int64_t ordinal) override {
    const auto segment = segments_.find(ordinal);
    CHECK(segment != segments_.end());
    munmap(segment->second.start, segment->second.extent);
    if (segment->second.counts) {
      reserved_ -= segment->second.bytes;
      charged_ -= Charge(segment->second.bytes);
    }
    segments_.erase(segment);
    return {};
  }

  std::byte* Address(int64_t segment, Bytes offset) const override {
    const auto found = segments_.find(segment);
    CHECK(found != segments_.end());
    return found->second.start + offset.count();
  }
  Status Fill(std::byte* to, Bytes bytes, uint8_t value) override {
    std::memset(to, value, static_cast<size_t>(bytes.count()));
    return {};
  }
  Status Write(std::byte* to, std::span<const std::byte> from) override {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
    return {};
  }
  Status Read(std::span<std::byte> to, const std::byte* from) override {
    if (!to.empty()) std::memcpy(to.data(), from, to.size());
    return {};
  }
  Result<MeasuredMemory> Measure() override { return measured_; }

  bool Has(OpKind kind) const override { return KernelOf(kind) != nullptr; }
  Result<RunOutcome> Run(const KernelCall& call) override {
    const host::Kernel kernel = KernelOf(call.kind);
    CHECK(kernel != nullptr);
    return kernel(call);
  }

  Result<int64_t> CountNaNs(const TensorSpan& t) override {
    const host::Elements elements(t);
    const int64_t n = NumElements(t.sizes);
    std::atomic<int64_t> count = 0;
    host::ParallelChunks(n, host::kChunk, [&](int64_t begin, int64_t size) {
      std::array<float, host::kChunk> values;
      elements.Load(begin, size, values.data());
      int64_t here = 0;
      for (int64_t i = 0; i < size; ++i) here += std::isnan(values[static_cast<size_t>(i)]) ? 1 : 0;
      if (here > 0) count += here;
    });
    return count.load();
  }

 private:
  struct Segment {
    std::byte* start = nullptr;
    size_t extent = 0;
    Bytes bytes;
    bool counts = false;  // it stands for memory of the device
  };

  // A device hands out pages of 2 MiB.
  static Bytes Charge(Bytes bytes) { return RoundUp(bytes, kMiB * 2); }

  static host::Kernel KernelOf(OpKind kind) {
    static const std::array<host::Kernel, kKinds> kTable = TableOfKernels();
    return kTable[static_cast<size_t>(kind)];
  }

  std::map<int64_t, Segment> segments_;
  HostOptions options_;
  Bytes reserved_, charged_;
  MeasuredMemory measured_;
};

}  // namespace

std::unique_ptr<Backend> MakeHostBackend(const HostOptions& options) { return std::make_unique<HostBackend>(options); }

}  // namespace tidemark
