// Each kernel of the device beside its twin on the host, op by op: in whole runs of models, with the operands that
// those have. By emulation everywhere; on a device where there is one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

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

// Runs each op on the device's kernel first, keeps its results, puts the bytes back and goes on with the host's.
class Twins : public Backend {
 public:
  explicit Twins(std::unique_ptr<Backend> device) : device_(std::move(device)) {}
  std::string_view name() const override { return "twins"; }
  Result<MapOutcome> Map(int64_t segment, Bytes bytes, Bytes most, Location location) override {
    return host_->Map(segment, bytes, most, location);
  }
  Status Unmap(int64_t segment) override { return host_->Unmap(segment); }
  std::byte* Address(int64_t segment, Bytes offset) const override { return host_->Address(segment, offset); }
  Status Fill(std::byte* to, Bytes bytes, uint8_t value) override { return host_->Fill(to, bytes, value); }
  Status Write(std::byte* to, std::span<const std::byte> from) override { return host_->Write(to, from); }
  Status Read(std::span<std::byte> to, const std::byte* from) override { return host_->Read(to, from); }
  Result<MeasuredMemory> Measure() override { return host_->Measure(); }
  bool Has(OpKind kind) const override { return host_->Has(kind) && device_->Has(kind); }
  Result<int64_t> CountNaNs(const TensorSpan& t) override { return host_->CountNaNs(t); }

  Result<RunOutcome> Run(const KernelCall& call) override {
    kinds_.insert(call.kind);
    const std::vector<std::vector<std::byte>> before = BytesOf(call.out);
    ASSIGN_OR_RETURN(const RunOutcome outcome, device_->Run(call));
    std::vector<std::vector<double>> device_values;
    for (const TensorSpan& t : call.out) device_values.push_back(ValuesOf(t));
    for (size_t i = 0; i < call.out.size(); ++i) std::ranges::copy(before[i], call.out[i].data);
    ASSIGN_OR_RETURN(const RunOutcome host_outcome, host_->Run(call));
    EXPECT_EQ(outcome, host_outcome);
    for (size_t i = 0; i < call.out.size(); ++i) Compare(call, i, device_values[i], ValuesOf(call.out[i]));
    return host_outcome;
  }
  const std::set<OpKind>& kinds() const { return kinds_; }

 private:
  static std::vector<std::vector<std::byte>> BytesOf(std::span<const TensorSpan> tensors) {
    std::vector<std::vector<std::byte>> all;
    for (const TensorSpan& t : tensors) {
      int64_t last = 0;
      for (int i = 0; i < t.sizes.size(); ++i) last += (t.sizes[i] - 1) * t.strides[i];
      all.emplace_back(t.data, t.data + (last + 1) * SizeOf(t.dtype).count());
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
      ADD_FAILURE() << "kind " << static_cast<int>(call.kind) << " result " << result << " element " << i << " of "
                    << host.size() << ": " << device[i] << ", host " << host[i] << ", largest " << largest;
      return;
    }
  }

  std::unique_ptr<Backend> host_ = MakeHostBackend();
  std::unique_ptr<Backend> device_;
  std::set<OpKind> kinds_;
};

const std::vector<std::string> kSmall = {"model.layers=1",  "model.hidden=32",  "model.heads=2",
                                         "model.vocab=72",  "model.context=24", "training.micro_batch=2",
                                         "training.steps=2"};

struct TwinRun {
  const char* path;
  std::vector<std::string> overrides;
};

// Runs that, together, have every kind of op that a kernel is there for.
const TwinRun kRuns[] = {
    {"configs/runs/nanogpt-tiny.yaml", {"training.precision=fp32", "model.bias=true", "model.dropout=0.1"}},
    {"configs/runs/nanogpt-tiny.yaml", {"training.precision=amp-fp16", "training.grad_clip=0"}},
    {"configs/runs/nanogpt-tiny.yaml", {"training.precision=amp-bf16", "training.attention=math"}},
    {"configs/runs/nanogpt-tiny.yaml",
     {"training.precision=bf16", "training.attention=eager", "model.dropout=0.2",
      "training.optimizer={name: adafactor, implementation: foreach}"}},
    {"configs/runs/nanogpt-tiny.yaml",
     {"training.precision=fp32", "model.heads=4", "training.optimizer={name: adam, implementation: for-loop}"}},
    {"configs/runs/nanogpt-tiny.yaml",
     {"training.precision=amp-fp16", "model.dropout=0.1", "training.sequence=[24, 17]",
      "training.optimizer={name: sgd, implementation: fused, momentum: 0.9}"}},
    {"configs/runs/llama-tiny.yaml", {"model.kv_heads=1", "training.precision=amp-fp16"}},
    {"configs/runs/llama-tiny.yaml",
     {"model.kv_heads=1", "training.precision=fp32", "training.optimizer={name: adamw, implementation: foreach}"}},
};

class TwinTest : public testing::TestWithParam<TwinRun> {};

TEST_P(TwinTest, DeviceKernelsComputeWhatTheHostsDo) {
  std::vector<std::string> overrides = kSmall;
  overrides.insert(overrides.end(), GetParam().overrides.begin(), GetParam().overrides.end());
  const Prepared run = PrepareRun(GetParam().path, overrides);
  Twins twins(MakeEmulatedCuda());
  const auto execution = Execute(run.graph, run.lowered, run.placed, twins, {});
  ASSERT_TRUE(execution.ok()) << execution.error().message;
  for (const Finding& finding : execution->findings) ADD_FAILURE() << finding.message;
}

INSTANTIATE_TEST_SUITE_P(Runs, TwinTest, testing::ValuesIn(kRuns));

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

// On a real device: the whole run, against the host's.
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
