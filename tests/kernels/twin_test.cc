// Each kernel of the device beside its twin on the host, op by op: in whole runs of models, with the operands that
// those have. By emulation everywhere, and on a device where there is one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "graph/op.h"
#include "kernels/cuda_backend.h"
#include "kernels/host_backend.h"
#include "kernels/number.h"
#include "tests/kernels/emulated_cuda.h"
#include "tests/kernels/execution.h"

namespace tidemark {
namespace {

// How far a number may be from its twin, in units of the tensor's largest magnitude: roundings of the format, and sums
// in another order.
double ToleranceOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return 2e-5;
    case DType::kFloat16:
      return 2e-3;
    case DType::kBFloat16:
      return 1.6e-2;
    default:
      return 0;
  }
}

std::vector<double> ValuesOf(const TensorSpan& t) {
  std::vector<double> values;
  std::array<int64_t, Dims::kMaxDims> at{};
  int64_t offset = 0;
  for (int64_t i = 0; i < NumElements(t.sizes); ++i) {
    values.push_back(LoadNumber(t.dtype, t.data + offset * SizeOf(t.dtype).count()));
    for (int d = t.sizes.size(); d-- > 0;) {
      const auto u = static_cast<size_t>(d);
      offset += t.strides[d];
      if (++at[u] < t.sizes[d]) break;
      offset -= t.strides[d] * t.sizes[d];
      at[u] = 0;
    }
  }
  return values;
}

// Host memory and a device's, of the same contents. Runs each op on both, compares the results, and gives the device
// the host's, so that one op's difference isn't another's.
class Twins : public Backend {
 public:
  explicit Twins(std::unique_ptr<Backend> device) : device_(std::move(device)) {}
  std::string_view name() const override { return "twins"; }
  Result<MapOutcome> Map(const SegmentMapping& mapping) override {
    ASSIGN_OR_RETURN(const MapOutcome outcome, device_->Map(mapping));
    EXPECT_EQ(outcome, MapOutcome::kMapped);
    ASSIGN_OR_RETURN(const MapOutcome host_outcome, host_->Map(mapping));
    segments_[host_->Address(mapping.segment, Bytes(0))] = mapping.segment;
    return host_outcome;
  }
  Status Unmap(int64_t segment) override {
    RETURN_IF_ERROR(device_->Unmap(segment));
    segments_.erase(host_->Address(segment, Bytes(0)));
    return host_->Unmap(segment);
  }
  std::byte* Address(int64_t segment, Bytes offset) const override { return host_->Address(segment, offset); }
  Status Fill(std::byte* to, Bytes bytes, uint8_t value) override {
    RETURN_IF_ERROR(device_->Fill(OnDevice(to), bytes, value));
    return host_->Fill(to, bytes, value);
  }
  Status Write(std::byte* to, std::span<const std::byte> from) override {
    RETURN_IF_ERROR(device_->Write(OnDevice(to), from));
    return host_->Write(to, from);
  }
  Status Read(std::span<std::byte> to, const std::byte* from) override { return host_->Read(to, from); }
  Result<MeasuredMemory> Measure() override { return host_->Measure(); }
  bool Has(OpKind kind) const override { return host_->Has(kind) && device_->Has(kind); }
  Result<int64_t> CountNaNs(const TensorSpan& t) override { return host_->CountNaNs(t); }

  Result<RunOutcome> Run(const KernelCall& call) override {
    kinds_.insert(call.kind);
    ASSIGN_OR_RETURN(const RunOutcome outcome, RunOnDevice(call));
    ASSIGN_OR_RETURN(std::vector<Contents> device_results, ReadFromDevice(call.out));
    ASSIGN_OR_RETURN(const RunOutcome host_outcome, host_->Run(call));
    EXPECT_EQ(outcome, host_outcome);
    for (size_t i = 0; i < call.out.size(); ++i) {
      TensorSpan device_result = call.out[i];
      device_result.data = device_results[i].data();
      Compare(call, i, ValuesOf(device_result), ValuesOf(call.out[i]));
      RETURN_IF_ERROR(device_->Write(OnDevice(call.out[i].data), {call.out[i].data, device_results[i].size()}));
    }
    return host_outcome;
  }
  const std::set<OpKind>& kinds() const { return kinds_; }

 private:
  using Contents = std::vector<std::byte>;

  // From a tensor's first element to the end of its last.
  static size_t ReachOf(const TensorSpan& t) {
    int64_t last = 0;
    for (int i = 0; i < t.sizes.size(); ++i) last += (t.sizes[i] - 1) * t.strides[i];
    return static_cast<size_t>((last + 1) * SizeOf(t.dtype).count());
  }

  std::byte* OnDevice(std::byte* on_host) const {
    if (on_host == nullptr) return nullptr;
    const auto [start, segment] = *std::prev(segments_.upper_bound(on_host));
    return device_->Address(segment, Bytes(on_host - start));
  }
  TensorSpan OnDevice(TensorSpan t) const {
    t.data = OnDevice(t.data);
    return t;
  }
  Result<RunOutcome> RunOnDevice(KernelCall call) {
    std::vector<TensorSpan> in, out;
    std::vector<ScratchSpan> scratch;
    for (const TensorSpan& t : call.in) in.push_back(OnDevice(t));
    for (const TensorSpan& t : call.out) out.push_back(OnDevice(t));
    for (const ScratchSpan& s : call.scratch) scratch.push_back({OnDevice(s.data), s.bytes, s.what});
    call.in = in;
    call.out = out;
    call.scratch = scratch;
    return device_->Run(call);
  }
  Result<std::vector<Contents>> ReadFromDevice(std::span<const TensorSpan> tensors) {
    std::vector<Contents> all;
    for (const TensorSpan& t : tensors) {
      Contents& contents = all.emplace_back(ReachOf(t));
      RETURN_IF_ERROR(device_->Read(contents, OnDevice(t.data)));
    }
    return all;
  }
  void Compare(const KernelCall& call, size_t result, const std::vector<double>& device,
               const std::vector<double>& host) {
    const TensorSpan& t = call.out[result];
    double largest = 0;
    for (const double v : host) {
      if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
    }
    const double tolerance = ToleranceOf(t.dtype) * largest;
    for (size_t i = 0; i < host.size(); ++i) {
      const bool same = device[i] == host[i] || std::abs(device[i] - host[i]) <= tolerance;
      if (same) continue;
      ADD_FAILURE() << IdentifierOf(call.kind) << " result " << result << " element " << i << " of " << host.size()
                    << ": " << device[i] << ", host " << host[i] << ", largest " << largest;
      return;
    }
  }

  std::unique_ptr<Backend> host_ = MakeHostBackend();
  std::unique_ptr<Backend> device_;
  std::map<std::byte*, int64_t> segments_;  // by where they begin on the host
  std::set<OpKind> kinds_;
};

const std::vector<std::string> kSmall = {"model.layers=1",  "model.hidden=32",  "model.heads=2",
                                         "model.vocab=72",  "model.context=24", "training.micro_batch=2",
                                         "training.steps=2"};

struct TwinRun {
  const char* name;
  const char* path;
  std::vector<std::string> overrides;
};
void PrintTo(const TwinRun& run, std::ostream* out) { *out << run.name; }

// Runs that, together, have every kind of op that a kernel is there for.
const TwinRun kRuns[] = {
    {"Fp32", "configs/runs/nanogpt-tiny.yaml", {"training.precision=fp32", "model.bias=true", "model.dropout=0.1"}},
    {"Fp16", "configs/runs/nanogpt-tiny.yaml", {"training.precision=amp-fp16", "training.grad_clip=0"}},
    {"MathAttention", "configs/runs/nanogpt-tiny.yaml", {"training.precision=amp-bf16", "training.attention=math"}},
    {"EagerAttention",
     "configs/runs/nanogpt-tiny.yaml",
     {"training.precision=bf16", "training.attention=eager", "model.dropout=0.2",
      "training.optimizer={name: adafactor, implementation: foreach}"}},
    {"FourHeads",
     "configs/runs/nanogpt-tiny.yaml",
     {"training.precision=fp32", "model.heads=4", "training.optimizer={name: adam, implementation: for-loop}"}},
    {"Lengths",
     "configs/runs/nanogpt-tiny.yaml",
     {"training.precision=amp-fp16", "model.dropout=0.1", "training.sequence=[24, 17]",
      "training.optimizer={name: sgd, implementation: fused, momentum: 0.9}"}},
    {"CudnnAttention", "configs/runs/nanogpt-tiny.yaml", {"training.precision=amp-bf16", "device=h100"}},
    {"Llama", "configs/runs/llama-tiny.yaml", {"model.kv_heads=1", "training.precision=amp-fp16"}},
    {"LlamaFp32",
     "configs/runs/llama-tiny.yaml",
     {"model.kv_heads=1", "training.precision=fp32", "training.optimizer={name: adamw, implementation: foreach}"}},
    {"ExpandableSegments",
     "configs/runs/llama-tiny.yaml",
     {"training.precision=amp-fp16", "allocator.conf=expandable_segments:True"}},
    {"LlamaCudnnAttention",
     "configs/runs/llama-tiny.yaml",
     {"model.kv_heads=1", "training.precision=amp-fp16", "device=h100"}},
    {"MistralCudnnAttention",
     "configs/runs/llama-tiny.yaml",
     {"model.family=mistral", "model.config={sliding_window: 7}", "model.kv_heads=1", "training.precision=amp-fp16",
      "device=h100"}},
};

class TwinTest : public testing::TestWithParam<TwinRun> {};

void ExpectTwins(const TwinRun& twin_run, std::unique_ptr<Backend> device) {
  std::vector<std::string> overrides = kSmall;
  overrides.insert(overrides.end(), twin_run.overrides.begin(), twin_run.overrides.end());
  const Prepared run = PrepareRun(twin_run.path, overrides);
  ASSERT_FALSE(testing::Test::HasFailure());
  Twins twins(std::move(device));
  const auto execution = Execute(run.graph, run.lowered, run.placed, twins, {});
  ASSERT_TRUE(execution.ok()) << execution.error().message;
  for (const Finding& finding : execution->findings) ADD_FAILURE() << finding.message;
}

TEST_P(TwinTest, EmulatedKernelsComputeWhatTheHostsDo) { ExpectTwins(GetParam(), MakeEmulatedCuda()); }

INSTANTIATE_TEST_SUITE_P(Runs, TwinTest, testing::ValuesIn(kRuns),
                         [](const auto& run) { return std::string(run.param.name); });

TEST(CudaKernels, EveryKindOfEagerGraphsHasOne) {
  const std::unique_ptr<Backend> host = MakeHostBackend();
  const std::unique_ptr<Backend> device = MakeEmulatedCuda();
  std::vector<std::string> missing;
#define OP(kind, name, memory, cost, meaning) \
  if (host->Has(OpKind::k##kind) && !device->Has(OpKind::k##kind)) missing.emplace_back(#kind);
#include "graph/op_list.def"
#undef OP
  // What only compiled graphs have: the host interprets it.
  EXPECT_EQ(missing, (std::vector<std::string>{"Seeds", "FusedKernel"}));
}

// On a real device: op by op, and whole runs against the host's.
TEST(CudaDevice, KernelsComputeWhatTheHostsDo) {
  for (const TwinRun& run : kRuns) {
    SCOPED_TRACE(run.name);
    Result<CudaDevice> device = OpenCudaDevice();
    if (!device.ok()) GTEST_SKIP() << device.error().message;
    if (device->phantom) GTEST_SKIP() << "kernels do nothing on the phantom GPU";
    ExpectTwins(run, std::move(device->backend));
  }
}

TEST(CudaDevice, ComputesWhatTheHostDoes) {
  Result<CudaDevice> device = OpenCudaDevice();
  if (!device.ok()) GTEST_SKIP() << device.error().message;
  if (device->phantom) GTEST_SKIP() << "kernels do nothing on the phantom GPU";
  for (const char* precision : {"fp32", "amp-fp16", "amp-bf16"}) {
    for (const char* path : {"configs/runs/nanogpt-tiny.yaml", "configs/runs/llama-tiny.yaml"}) {
      const Prepared run = PrepareRun(path, {std::string("training.precision=") + precision});
      const Execution host = ExecuteOnHost(run);
      const auto execution = Execute(run.graph, run.lowered, run.placed, *device->backend, {});
      ASSERT_TRUE(execution.ok()) << execution.error().message;
      EXPECT_TRUE(execution->findings.empty());
      const std::vector<double> losses = LossesOf(*execution);
      const std::vector<double> expected = LossesOf(host);
      ASSERT_EQ(losses.size(), expected.size());
      for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-3) << precision << " " << path;
    }
  }
}

}  // namespace
}  // namespace tidemark
