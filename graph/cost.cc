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
  const bool backward = op.op().kind == OpKind::kFlashBackward || op.op().kind == OpKind::kEfficientBackward;
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

// Lookups read of their table what they look up.
Bytes TrafficOf(const OpView& op) {
  Bytes written;
  for (int i = 0; i < op.results(); ++i) written += StoredBytes(op.out(i));
  switch (op.op().kind) {
    case OpKind::kEmbedding:
    case OpKind::kGather:
      return written * 2 + StoredBytes(op.in(1));
    case OpKind::kNllLoss:
      return written + StoredBytes(op.in(1)) + SizeOf(op.in(0).dtype) * NumElements(op.in(1).sizes);
    case OpKind::kNllLossBackward:
      return written + StoredBytes(op.in(2));
    default:
      break;
  }
  for (int i = 0; i < op.inputs(); ++i) written += StoredBytes(op.in(i));
  return written;
}

}  // namespace

bool HasRates(const DeviceSpec& device) {
  return device.memory_bandwidth > 0 && device.peak_flops_fp32 > 0 && device.peak_flops_half > 0;
}

Work WorkOf(const OpView& op) {
  Work work;
  work.traffic = TrafficOf(op);
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
  const double moving = static_cast<double>(work.traffic.count()) / device.memory_bandwidth;
  const double computing = work.flops.count() / RateOf(op, device);
  return std::max(kShortestKernel, Nanos(1e9 * std::max(moving, computing)));
}

RunTime TimeOf(const Graph& graph, const DeviceSpec& device) {
  RunTime time;
  Nanos* sum = &time.other;
  int64_t last_step = -1;
  for (const Step step : graph.program) {
    if (step.kind() == Step::Kind::kOp) *sum += TimeOf(OpView(graph, graph.ops[step.op()]), device);
    if (step.kind() != Step::Kind::kPhase) continue;
    const Phase& phase = graph.phases[step.phase()];
    last_step = std::max(last_step, phase.step);
    const std::string_view name = phase.name;
    sum = name == "forward"                                              ? &time.forward
          : name == "backward"                                           ? &time.backward
          : name == "clip" || name == "optimizer" || name == "zero_grad" ? &time.optimizer
                                                                         : &time.other;
  }
  time.steps = last_step + 1;
  return time;
}

}  // namespace tidemark
