// libtidemark_cuda.so: the backend of a CUDA device.
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/module.h"
#include "kernels/cuda/nvml.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/virtual_range.h"

namespace tidemark::cuda {
namespace {

Error Failed(const char* what, cudaError_t error) {
  return Error{ErrorCode::kUnavailable, std::string(what) + ": " + cudaGetErrorString(error)};
}
Status Check(const char* what, cudaError_t error) { return error == cudaSuccess ? Status() : Failed(what, error); }
Status Check(const char* what, cublasStatus_t status) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return Error{ErrorCode::kUnavailable, std::string(what) + ": " + cublasGetStatusString(status)};
}

constexpr size_t kKinds = 0
#define OP(kind, name, memory, cost, meaning) +1
#include "graph/op_list.def"
#undef OP
    ;

std::array<KernelEntry, kKinds> TableOfKernels() {
  std::array<KernelEntry, kKinds> table{};
  for (const auto entries : {MoveKernels(), ElementwiseKernels(), ReductionKernels(), NormalizationKernels(),
                             LossKernels(), AttentionKernels(), OptimizerKernels()}) {
    for (const KernelEntry& entry : entries) table[static_cast<size_t>(entry.kind)] = entry;
  }
  return table;
}

bool IsProduct(OpKind kind) { return kind == OpKind::kMm || kind == OpKind::kAddmm || kind == OpKind::kBmm; }

// Host memory that kernels can write.
struct Mailbox {
  int bad_index;
  int64_t count;
};

class CudaBackend : public Backend {
 public:
  CudaBackend() = default;
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;
  ~CudaBackend() override {
    cudaDeviceSynchronize();
    for (auto& [ordinal, segment] : segments_) static_cast<void>(Release(segment));
    for (cublasHandle_t handle : handles_) {
      if (handle != nullptr) cublasDestroy(handle);
    }
    if (mailbox_ != nullptr) cudaFreeHost(mailbox_);
    if (context_.stream != nullptr) cudaStreamDestroy(stream());
  }

  // All that the backend takes beside segments is taken here, before the first of them.
  Status Start() {
    cudaStream_t stream = nullptr;
    RETURN_IF_ERROR(Check("cudaStreamCreate", cudaStreamCreate(&stream)));
    context_.stream = stream;
    void* mailbox = nullptr;
    RETURN_IF_ERROR(Check("cudaHostAlloc", cudaHostAlloc(&mailbox, sizeof(Mailbox), cudaHostAllocMapped)));
    mailbox_ = static_cast<Mailbox*>(mailbox);
    *mailbox_ = {};
    context_.bad_index = &mailbox_->bad_index;
    for (cublasHandle_t& handle : handles_) {
      RETURN_IF_ERROR(Check("cublasCreate", cublasCreate(&handle)));
      RETURN_IF_ERROR(Check("cublasSetStream", cublasSetStream(handle, stream)));
    }
    RETURN_IF_ERROR(Check("cudaStreamSynchronize", cudaStreamSynchronize(stream)));
    size_t total = 0;
    return Check("cudaMemGetInfo", cudaMemGetInfo(&free_at_start_, &total));
  }
  Bytes free_at_start() const { return Bytes(static_cast<int64_t>(free_at_start_)); }

  std::string_view name() const override { return "cuda"; }

  Result<MapOutcome> Map(const SegmentMapping& mapping) override {
    ASSIGN_OR_RETURN(const MapOutcome outcome, mapping.expandable ? Expand(mapping) : Take(mapping));
    if (outcome == MapOutcome::kOutOfMemory || mapping.location != Location::kDevice) return outcome;
    measured_.reserved = std::max(measured_.reserved, reserved_);
    RETURN_IF_ERROR(LookAtDevice());
    return outcome;
  }

  bool maps_anywhere() const override { return false; }

  Status Unmap(int64_t ordinal) override {
    const auto segment = segments_.find(ordinal);
    RETURN_IF_ERROR(Synchronize());  // giving back expandable memory doesn't wait by itself
    RETURN_IF_ERROR(Release(segment->second));
    if (segment->second.location == Location::kDevice) reserved_ -= segment->second.bytes;
    segments_.erase(segment);
    return {};
  }

  std::byte* Address(int64_t segment, Bytes offset) const override {
    return segments_.find(segment)->second.start + offset.count();
  }
  Status Fill(std::byte* to, Bytes bytes, uint8_t value) override {
    return Check("cudaMemset", cudaMemsetAsync(to, value, static_cast<size_t>(bytes.count()), stream()));
  }
  Status Write(std::byte* to, std::span<const std::byte> from) override {
    RETURN_IF_ERROR(
        Check("cudaMemcpy", cudaMemcpyAsync(to, from.data(), from.size(), cudaMemcpyHostToDevice, stream())));
    return Synchronize();
  }
  Status Read(std::span<std::byte> to, const std::byte* from) override {
    RETURN_IF_ERROR(Check("cudaMemcpy", cudaMemcpyAsync(to.data(), from, to.size(), cudaMemcpyDeviceToHost, stream())));
    return Synchronize();
  }
  Result<MeasuredMemory> Measure() override {
    RETURN_IF_ERROR(Synchronize());
    return measured_;
  }

  bool Has(OpKind kind) const override { return IsProduct(kind) || Entry(kind).run != nullptr; }

  Result<RunOutcome> Run(const KernelCall& call) override {
    if (IsProduct(call.kind)) {
      RETURN_IF_ERROR(Multiply(call));
      return RunOutcome::kDone;
    }
    const KernelEntry& entry = Entry(call.kind);
    RETURN_IF_ERROR(entry.run(call, context_));
    RETURN_IF_ERROR(Check("launch", cudaGetLastError()));
    if (!entry.checks_indices) return RunOutcome::kDone;
    RETURN_IF_ERROR(Synchronize());
    return std::exchange(mailbox_->bad_index, 0) == 0 ? RunOutcome::kDone : RunOutcome::kBadIndex;
  }

  Result<int64_t> CountNaNs(const TensorSpan& t) override {
    mailbox_->count = 0;
    cuda::CountNaNs(t, &mailbox_->count, context_);
    RETURN_IF_ERROR(Check("launch", cudaGetLastError()));
    RETURN_IF_ERROR(Synchronize());
    return mailbox_->count;
  }

  bool computes() const override { return !phantom_; }
  void BePhantom() { phantom_ = true; }

 private:
  struct Segment {
    std::byte* start = nullptr;
    Bytes bytes;
    Location location = Location::kDevice;
    std::unique_ptr<VirtualRange> range;  // an expandable segment's
  };

  Result<MapOutcome> Take(const SegmentMapping& mapping) {
    const bool on_device = mapping.location == Location::kDevice;
    void* start = nullptr;
    const auto size = static_cast<size_t>(mapping.bytes.count());
    const cudaError_t error = on_device ? cudaMalloc(&start, size) : cudaHostAlloc(&start, size, cudaHostAllocMapped);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return MapOutcome::kOutOfMemory;
    }
    if (error != cudaSuccess) return Failed(on_device ? "cudaMalloc" : "cudaHostAlloc", error);
    segments_[mapping.segment] = {static_cast<std::byte*>(start), mapping.bytes, mapping.location, nullptr};
    if (on_device) reserved_ += mapping.bytes;
    return MapOutcome::kMapped;
  }

  Result<MapOutcome> Expand(const SegmentMapping& mapping) {
    Segment& segment = segments_[mapping.segment];
    if (segment.range == nullptr) {
      ASSIGN_OR_RETURN(segment.range, VirtualRange::Reserve(mapping.most));
      segment.start = segment.range->start();
    }
    RETURN_IF_ERROR(Synchronize());
    ASSIGN_OR_RETURN(const bool has_memory, segment.range->Resize(mapping.bytes));
    if (!has_memory) return MapOutcome::kOutOfMemory;
    reserved_ += mapping.bytes - segment.bytes;
    segment.bytes = mapping.bytes;
    return MapOutcome::kMapped;
  }

  static Status Release(Segment& segment) {
    if (segment.range != nullptr) {
      segment.range.reset();
      return {};
    }
    if (segment.location == Location::kDevice) return Check("cudaFree", cudaFree(segment.start));
    return Check("cudaFreeHost", cudaFreeHost(segment.start));
  }

  static const KernelEntry& Entry(OpKind kind) {
    static const std::array<KernelEntry, kKinds> kTable = TableOfKernels();
    return kTable[static_cast<size_t>(kind)];
  }

  cudaStream_t stream() const { return static_cast<cudaStream_t>(context_.stream); }
  Status Synchronize() { return Check("cudaStreamSynchronize", cudaStreamSynchronize(stream())); }

  // Highest values: what the device counts against all processes since the start, and against this one.
  Status LookAtDevice() {
    size_t free = 0;
    size_t total = 0;
    RETURN_IF_ERROR(Check("cudaMemGetInfo", cudaMemGetInfo(&free, &total)));
    const Bytes taken(static_cast<int64_t>(free_at_start_) - static_cast<int64_t>(free));
    measured_.device = std::max(measured_.device, taken);
    measured_.process = std::max(measured_.process, nvml_.ProcessMemory());
    return {};
  }

  static Result<cudaDataType_t> BlasType(DType dtype) {
    switch (dtype) {
      case DType::kFloat32:
        return CUDA_R_32F;
      case DType::kFloat16:
        return CUDA_R_16F;
      case DType::kBFloat16:
        return CUDA_R_16BF;
      default:
        return InvalidInput("no product of " + std::string(Name(dtype)) + " tensors");
    }
  }

  // Row-major out = a b is, column-major, out^T = b^T a^T.
  Status Multiply(const KernelCall& c) {
    const bool has_bias = c.kind == OpKind::kAddmm;
    const TensorSpan& left = c.in[has_bias ? 1 : 0];
    const TensorSpan& right = c.in[has_bias ? 2 : 1];
    const TensorSpan& out = c.out[0];
    if (has_bias) RETURN_IF_ERROR(FillRows(c.in[0], out, context_));
    const auto a = BlasMatrixOf(left);
    const auto b = BlasMatrixOf(right);
    const auto to = BlasMatrixOf(out);
    if (!a || !b || !to || !to->transposed) return InvalidInput("a matrix whose rows and columns both have gaps");
    ASSIGN_OR_RETURN(const cudaDataType_t type, BlasType(out.dtype));
    cublasHandle_t handle = handles_[static_cast<size_t>(c.thread)];
    if (const ScratchSpan* workspace = c.Scratch("cublas workspace")) {
      RETURN_IF_ERROR(Check("cublasSetWorkspace", cublasSetWorkspace(handle, workspace->data,
                                                                     static_cast<size_t>(workspace->bytes.count()))));
    }
    const int last = out.sizes.size() - 1;
    const auto rows = static_cast<int>(out.sizes[last - 1]);
    const auto columns = static_cast<int>(out.sizes[last]);
    const auto inner = static_cast<int>(left.sizes[last]);
    const int batches = last > 1 ? static_cast<int>(out.sizes[0]) : 1;
    const float one = 1;
    const float beta = has_bias ? 1 : 0;
    return Check("cublasGemmStridedBatchedEx",
                 cublasGemmStridedBatchedEx(handle, b->transposed ? CUBLAS_OP_N : CUBLAS_OP_T,
                                            a->transposed ? CUBLAS_OP_N : CUBLAS_OP_T, columns, rows, inner, &one,
                                            b->data, type, static_cast<int>(b->leading), b->batch_stride, a->data, type,
                                            static_cast<int>(a->leading), a->batch_stride, &beta, out.data, type,
                                            static_cast<int>(to->leading), to->batch_stride, batches,
                                            CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
  }

  Context context_;
  Mailbox* mailbox_ = nullptr;
  std::array<cublasHandle_t, 2> handles_{};  // by thread of PyTorch
  std::map<int64_t, Segment> segments_;
  Nvml nvml_;
  size_t free_at_start_ = 0;
  Bytes reserved_;
  MeasuredMemory measured_;
  bool phantom_ = false;
};

std::string VersionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version / 10 % 100);
}

// The phantom's driver says what it is.
bool IsPhantom() { return dlsym(RTLD_DEFAULT, "phantom_counters") != nullptr; }

std::string Open(CudaDevice& device) {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  if (count == 0) return "there is no CUDA device";
  error = cudaSetDevice(0);
  if (error == cudaSuccess) error = cudaFree(nullptr);  // makes the context
  cudaDeviceProp properties{};
  if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, 0);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  auto backend = std::make_unique<CudaBackend>();
  const Status started = backend->Start();
  if (!started.ok()) return started.error().message;
  device.phantom = IsPhantom();
  if (device.phantom) backend->BePhantom();
  device.memory = Bytes(static_cast<int64_t>(properties.totalGlobalMem));
  device.free = backend->free_at_start();
  device.backend = std::move(backend);
  device.name = properties.name;
  device.compute_capability = properties.major * 10 + properties.minor;
  device.multiprocessors = properties.multiProcessorCount;
  int driver = 0;
  int runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  device.driver = VersionText(driver);
  device.runtime = VersionText(runtime);
  return {};
}

}  // namespace
}  // namespace tidemark::cuda

// NOLINTNEXTLINE(readability-identifier-naming): a C name
extern "C" __attribute__((visibility("default"))) void TidemarkOpenCudaDevice(tidemark::CudaDevice* device,
                                                                              std::string* why_not) {
  *why_not = tidemark::cuda::Open(*device);
}
