#include "tests/kernels/emulated_cuda.h"

#include <utility>

#include "kernels/cuda/kernel.h"
#include "kernels/host_backend.h"

namespace tidemark {
namespace {

class EmulatedCuda : public Backend {
 public:
  std::string_view name() const override { return "emulated cuda"; }
  Result<MapOutcome> Map(const SegmentMapping& mapping) override { return host_->Map(mapping); }
  Status Unmap(int64_t segment) override { return host_->Unmap(segment); }
  std::byte* Address(int64_t segment, Bytes offset) const override { return host_->Address(segment, offset); }
  Status Fill(std::byte* to, Bytes bytes, uint8_t value) override { return host_->Fill(to, bytes, value); }
  Status Write(std::byte* to, std::span<const std::byte> from) override { return host_->Write(to, from); }
  Status Read(std::span<std::byte> to, const std::byte* from) override { return host_->Read(to, from); }
  Result<MeasuredMemory> Measure() override { return host_->Measure(); }
  bool Has(OpKind kind) const override { return IsProduct(kind) || Find(kind) != nullptr; }

  Result<RunOutcome> Run(const KernelCall& call) override {
    if (IsProduct(call.kind)) return host_->Run(call);
    int bad_index = 0;
    const cuda::Context context = {.bad_index = &bad_index};
    RETURN_IF_ERROR(Find(call.kind)->run(call, context));
    return bad_index == 0 ? RunOutcome::kDone : RunOutcome::kBadIndex;
  }
  Result<int64_t> CountNaNs(const TensorSpan& t) override {
    int64_t count = 0;
    cuda::CountNaNs(t, &count, {});
    return count;
  }

 private:
  static bool IsProduct(OpKind kind) { return kind == OpKind::kMm || kind == OpKind::kAddmm || kind == OpKind::kBmm; }
  static const cuda::KernelEntry* Find(OpKind kind) {
    for (const auto entries :
         {cuda::MoveKernels(), cuda::ElementwiseKernels(), cuda::ReductionKernels(), cuda::NormalizationKernels(),
          cuda::LossKernels(), cuda::AttentionKernels(), cuda::OptimizerKernels()}) {
      for (const cuda::KernelEntry& entry : entries) {
        if (entry.kind == kind) return &entry;
      }
    }
    return nullptr;
  }

  std::unique_ptr<Backend> host_ = MakeHostBackend();
};

}  // namespace

std::unique_ptr<Backend> MakeEmulatedCuda() { return std::make_unique<EmulatedCuda>(); }

}  // namespace tidemark
