#include "graph/cost.h"

#include <algorithm>
#include <string_view>

namespace tidemark {
namespace {

// Bytes of the elements that are stored: a stretched dimension (stride 0) is stored once.
Bytes StoredBytes(const TensorInfo& t) {
  int64_t elements = 1;
  for (int i = 0; i < t.sizes.size(); ++i) {
    if (t.strides[i] != 0) elements *= t.sizes[i];
  }
  return SizeOf(t.dtype) * elements;
}

double ProductFlops(const OpView& op) {
  const TensorInfo& left = op.in(op.inputs() == 3 ? 1 : 0);  // addmm: behind the bias
  const int last = left.sizes.size() - 1;
  return 2.0 * static_cast<double>(NumElements(op.out(0).sizes)) * static_cast<double>(left.sizes[last]);
}

// q [B, heads, T, D], k [B, kv heads, Tk, D].
double AttentionFlops(const OpView& op) {
  const OpKind kind = op.op().kind;
  const bool backward =
      kind == OpKind::kFlashBackward || kind == OpKind::kEfficientBackward || kind == OpKind::kCudnnBackward;
  const Dims& q = op.in(backward ? 1 : 0).sizes;
  const Dims& k = op.in(backward ? 2 : 1).sizes;
  const double product = 2.0 * static_cast<double>(NumElements(q)) * static_cast<double>(k[2]);
  const double half = op.attributes().integer[0] != 0 ? 0.5 : 1.0;
  return product * (backward ? 5 : 2) * half;
}

double RateOf(const OpView& op, const DeviceSpec& device) {
  const CostClass cost = InfoOf(op.op().kind).cost;
  if (cost != CostClass::kMatmul && cost != CostClass::kAttention) return device.peak_flops_fp32;
  const DType dtype = op.in(op.inputs() - 1).dtype;
  return IsHalf(dtype) ? device.peak_flops_half : std::max(device.peak_flops_tf32, device.peak_flops_fp32);
}

// Between the device and the host's memory.
bool IsTransfer(OpKind kind) { return kind == OpKind::kOffload || kind == OpKind::kFetch; }

// What an op reads of its i-th input: lookups read of their table what they look up.
Bytes BytesRead(const OpView& op, int i) {
  switch (op.op().kind) {
    case OpKind::kEmbedding:
    case OpKind::kGather:
      if (i == 0) return StoredBytes(op.out(0));
      break;
    case OpKind::kNllLoss:
      if (i == 0) return SizeOf(op.in(0).dtype) * NumElements(op.in(1).sizes);
      break;
    case OpKind::kNllLossBackward:
      if (i == 1) return {};
      break;
    default:
      break;
  }
  return StoredBytes(op.in(i));
}

}  // namespace

bool HasRates(const DeviceSpec& device) {
  return device.memory_bandwidth > 0 && device.peak_flops_fp32 > 0 && device.peak_flops_half > 0;
}

Work WorkOf(const OpView& op) {
  Work work;
  for (int i = 0; i < op.inputs(); ++i) work.traffic += BytesRead(op, i);
  for (int i = 0; i < op.results(); ++i) work.traffic += StoredBytes(op.out(i));
  switch (InfoOf(op.op().kind).cost) {
    case CostClass::kMatmul:
      work.flops = Flops(ProductFlops(op));
      break;
    case CostClass::kAttention:
      work.flops = Flops(AttentionFlops(op));
      break;
    case CostClass::kMove:
    case CostClass::kElementwise:
    case CostClass::kReduce:
      break;
  }
  return work;
}

Nanos TimeOf(const OpView& op, const DeviceSpec& device) {
  const Work work = WorkOf(op);
  if (IsTransfer(op.op().kind)) return Nanos(1e9 * static_cast<double>(work.traffic.count()) / 2 / kHostLink);
  const double moving = static_cast<double>(work.traffic.count()) / device.memory_bandwidth;
  const double computing = work.flops.count() / RateOf(op, device);
  return std::max(kShortestKernel, Nanos(1e9 * std::max(moving, computing)));
}

void KernelCosts::Add(const Op& op) {
  const OpView view(graph_, op);
  const Work work = WorkOf(view);
  if (device_.peak_flops_fp32 > 0) computing_ += work.flops.count() / RateOf(view, device_);
  if (!op.kernel.valid()) {
    moved_ += work.traffic;
    return;
  }
  for (int i = 0; i < op.inputs; ++i) {
    const TensorId input = graph_.Inputs(op)[static_cast<size_t>(i)];
    const StorageId storage = graph_.tensors[input].storage;
    if (std::ranges::find(made_, storage) != made_.end() || std::ranges::find(read_, input) != read_.end()) continue;
    read_.push_back(input);
    moved_ += BytesRead(view, i);
  }
  for (const TensorId result : graph_.Results(op)) {
    const StorageId storage = graph_.tensors[result].storage;
    made_.push_back(storage);
    if (graph_.storages[storage].location != Location::kKernel) moved_ += StoredBytes(graph_.tensors[result]);
  }
}

Nanos KernelCosts::End() {
  if (!runs_) return {};
  runs_ = false;
  traffic_ += moved_;
  const double moving =
      device_.memory_bandwidth > 0 ? static_cast<double>(moved_.count()) / device_.memory_bandwidth : 0;
  const Nanos time = std::max(kShortestKernel, Nanos(1e9 * std::max(moving, computing_)));
  computing_ = 0;
  moved_ = {};
  read_.clear();
  made_.clear();
  return time;
}

Nanos KernelCosts::Take(Step step) {
  if (step.kind() == Step::Kind::kRelease) return {};
  Nanos ended;
  const Op* op = step.kind() == Step::Kind::kOp ? &graph_.ops[step.op()] : nullptr;
  const bool goes_on = op != nullptr && runs_ && op->kernel.valid() && op->kernel == kernel_;
  if (!goes_on) ended = End();
  if (op == nullptr) return ended;
  if (IsTransfer(op->kind)) return ended + TimeOf(OpView(graph_, *op), device_);
  runs_ = true;
  kernel_ = op->kernel;
  Add(*op);
  return ended;
}

RunTime TimeOf(const Graph& graph, const DeviceSpec& device) {
  RunTime time;
  KernelCosts costs(graph, device);
  Nanos* sum = &time.other;
  int64_t last_step = -1;
  for (const Step step : graph.program) {
    *sum += costs.Take(step);
    if (step.kind() != Step::Kind::kPhase) continue;
    const Phase& phase = graph.phases[step.phase()];
    last_step = std::max(last_step, phase.step);
    const std::string_view name = phase.name;
    sum = name == "forward"                                              ? &time.forward
          : name == "backward"                                           ? &time.backward
          : name == "clip" || name == "optimizer" || name == "zero_grad" ? &time.optimizer
                                                                         : &time.other;
  }
  *sum += costs.Finish();
  time.steps = last_step + 1;
  return time;
}

Bytes TrafficOf(const Graph& graph) {
  const DeviceSpec none;
  KernelCosts costs(graph, none);
  for (const Step step : graph.program) costs.Take(step);
  costs.Finish();
  return costs.traffic();
}

}  // namespace tidemark
