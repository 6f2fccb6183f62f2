// Memory rules of the fused attention kernels.
// Source: PyTorch 2.14, aten/src/ATen/native/transformers/cuda/{attention,attention_backward}.cu and the flash
// attention in it (flash_api.cpp: set_params_splitkv, num_splits_heuristic); sizes measured.
#include <algorithm>
#include <cmath>

#include "graph/op.h"

namespace tidemark::memory_rules {
namespace {

constexpr int64_t Up(int64_t a, int64_t step) { return DivUp(a, step) * step; }

// The head dimension as flash attention's scratch has it.
constexpr int64_t RoundedHead(int64_t d) { return Up(d, d <= 128 ? 32 : 64); }

// [B, heads, T, D] stored [B, T, heads, D]: what the kernels take without a copy.
bool HeadsInside(const TensorInfo& t) {
  const Dims swapped = {t.sizes[0], t.sizes[2], t.sizes[1], t.sizes[3]};
  const Dims strides = {t.strides[0], t.strides[2], t.strides[1], t.strides[3]};
  return IsContiguous(swapped, strides);
}

Bytes SizeOfTensor(const TensorInfo& t) { return SizeOf(t.dtype) * NumElements(t.sizes); }

// Into how many parts the keys are split so that a small problem fills the device.
int64_t KeySplits(int64_t batch_heads, int64_t queries, int64_t keys, int64_t head_dim, const DeviceSpec& device) {
  const int64_t block = head_dim <= 64 ? 256 : head_dim <= 128 ? 128 : 64;
  const int64_t key_blocks = DivUp(keys, block);
  const int64_t tiles = batch_heads * DivUp(queries, 64);
  const int64_t slots = int64_t{2} * device.multiprocessors;
  if (static_cast<double>(tiles) >= 0.8 * static_cast<double>(slots)) return 1;
  const int64_t most = std::min({int64_t{128}, slots, key_blocks});
  const auto eligible = [&](int64_t s) { return s == 1 || DivUp(key_blocks, s) != DivUp(key_blocks, s - 1); };
  const auto efficiency = [&](int64_t s) {
    const float waves = static_cast<float>(tiles * s) / static_cast<float>(slots);
    return waves / std::ceil(waves);
  };
  float best = 0;
  for (int64_t s = 1; s <= most; ++s) {
    if (eligible(s)) best = std::max(best, efficiency(s));
  }
  for (int64_t s = 1; s <= most; ++s) {
    if (eligible(s) && static_cast<double>(efficiency(s)) >= 0.85 * static_cast<double>(best)) return s;
  }
  return 1;
}

}  // namespace

void FlashForward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan) {
  const Dims& q = op.in(0).sizes;
  const bool dropout = op.attributes().integer[1] > 0;
  plan.Result(0);
  plan.Result(1);
  if (dropout) {
    const int state = plan.Temporary(Bytes(16), "random state");
    plan.Result(3);
    plan.Result(2);
    plan.Free(state);
    return;
  }
  const int64_t splits = KeySplits(q[0] * q[1], q[2], op.in(1).sizes[2], q[3], device);
  if (splits == 1) {
    plan.Result(2);
    plan.Result(3);
    return;
  }
  const int64_t rows = splits * q[0] * q[1] * q[2];
  const int sums = plan.Temporary(Bytes(4 * rows), "sums of each part of the keys");
  const int parts = plan.Temporary(Bytes(4 * rows * RoundedHead(q[3])), "result of each part of the keys");
  plan.Result(2);
  plan.Result(3);
  plan.Free(sums);
  plan.Free(parts);
}

void FlashBackward(const OpView& op, const DeviceSpec&, MemoryPlan& plan) {
  const TensorInfo& gradient = op.in(0);
  const TensorInfo& q = op.in(1);
  const TensorInfo& k = op.in(2);
  const TensorInfo& result = op.in(4);
  const int64_t rows = q.sizes[0] * q.sizes[1] * Up(q.sizes[2], 128);
  std::vector<int> temporaries;
  if (!HeadsInside(gradient)) temporaries.push_back(plan.Temporary(SizeOfTensor(gradient), "gradient, [B, T, H, D]"));
  if (!HeadsInside(result)) temporaries.push_back(plan.Temporary(SizeOfTensor(result), "result, [B, T, H, D]"));
  for (int i = 0; i < 3; ++i) plan.Result(i);
  temporaries.push_back(plan.Temporary(Bytes(4 * rows), "sums of gradient times result"));
  temporaries.push_back(plan.Temporary(Bytes(4 * rows * RoundedHead(q.sizes[3])), "gradient of q in fp32"));
  if (k.sizes[1] < q.sizes[1]) {
    const Bytes expanded = SizeOf(k.dtype) * (k.sizes[0] * q.sizes[1] * k.sizes[2] * k.sizes[3]);
    temporaries.push_back(plan.Temporary(expanded, "gradient of k for every head"));
    temporaries.push_back(plan.Temporary(expanded, "gradient of v for every head"));
  }
  for (size_t i = temporaries.size(); i-- > 0;) plan.Free(temporaries[i]);
}

// Results: (seed, offset,) the result, (log of the sums).
void EfficientForward(const OpView& op, const DeviceSpec&, MemoryPlan& plan) {
  const TensorInfo& q = op.in(0);
  for (int i = 0; i < op.results(); ++i) plan.Result(i);
  if (IsHalf(q.dtype) && q.sizes[3] > 128) {
    plan.Free(plan.Temporary(Bytes(4 * NumElements(q.sizes)), "result in fp32"));
  }
}

namespace {

// Among how many blocks the backward kernel splits the keys of a head where it has to sum their gradients in fp32.
int64_t BackwardKeySplits(int64_t batch_heads, int64_t keys) {
  constexpr int64_t kBlock = 64;
  constexpr int64_t kEnoughBlocks = 256;  // then short sequences aren't split
  constexpr int64_t kMostBlocks = 200;    // of all heads together, for the sake of the workspace
  if (batch_heads >= kEnoughBlocks && keys <= 2 * kBlock) return 1;
  return std::max<int64_t>(std::min(DivUp(keys, kBlock), kMostBlocks / batch_heads), 1);
}

// Bytes of the backward kernel's workspace for one head of one sequence.
// Source: PyTorch 2.14, .../cuda/attention_backward.cu and mem_eff_attention/kernel_backward.h (workspace_elements_g*);
// measured for sm_75, 80, 86, 90, 100 and 120.
int64_t EfficientWorkspace(const TensorInfo& q, int64_t keys, bool dropout, const DeviceSpec& device) {
  const int64_t d = q.sizes[3];
  const int64_t t = q.sizes[2];
  const bool half = IsHalf(q.dtype);
  const auto gradient_of_q = [&](int64_t rows, int64_t columns) {
    return 4 * DivUp(t, rows) * DivUp(d, columns) * (4 + rows * columns);
  };
  const int64_t gradient_of_kv = int64_t{2} * 4 * 64 * BackwardKeySplits(q.sizes[0] * q.sizes[1], keys) * Up(d, 128);
  if (d <= 64) return gradient_of_q(64, 64);
  const int capability = device.compute_capability;
  if (capability == 80 || capability == 90 || capability == 100) {  // more shared memory in a block
    if (!half) return gradient_of_q(128, 64);
    return d <= 128 ? gradient_of_q(128, 128) : gradient_of_q(128, 64) + gradient_of_kv;
  }
  if (!half) return gradient_of_q(64, 64);
  const int64_t widest_unsplit = capability < 80 ? 128 : dropout ? 64 : 96;
  if (d <= widest_unsplit) return gradient_of_q(128, 64);
  return gradient_of_q(d <= 128 ? 64 : 128, 64) + gradient_of_kv;
}

}  // namespace

void EfficientBackward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan) {
  const TensorInfo& gradient = op.in(0);
  const TensorInfo& q = op.in(1);
  const TensorInfo& k = op.in(2);
  const int64_t batch_heads = q.sizes[0] * q.sizes[1];
  const int64_t rows = batch_heads * q.sizes[2];
  int gradient_copy = -1;
  if (!HeadsInside(gradient)) gradient_copy = plan.Temporary(SizeOfTensor(gradient), "gradient, [B, T, H, D]");
  for (int i = 0; i < op.results(); ++i) plan.Result(i);
  std::vector<int> expanded;
  if (k.sizes[1] < q.sizes[1]) {
    const Bytes bytes = SizeOf(k.dtype) * (k.sizes[0] * q.sizes[1] * k.sizes[2] * k.sizes[3]);
    expanded.push_back(plan.Temporary(bytes, "gradient of k for every head"));
    expanded.push_back(plan.Temporary(bytes, "gradient of v for every head"));
  }
  int delta = -1;
  if (IsHalf(q.dtype)) {
    delta = plan.Temporary(Bytes(4 * rows), "sums of gradient times result");
  } else {
    const int product = plan.Temporary(Bytes(4 * rows * q.sizes[3]), "gradient times result");
    const int sum = plan.Temporary(Bytes(4 * rows), "sums of gradient times result, [B, T, H]");
    const bool is_contiguous = q.sizes[1] == 1 || q.sizes[2] == 1;  // as [B, H, T] too
    delta = is_contiguous ? sum : plan.Temporary(Bytes(4 * rows), "sums of gradient times result");
    if (!is_contiguous) plan.Free(sum);
    plan.Free(product);
  }
  const bool dropout = op.attributes().integer[1] > 0;
  const Bytes bytes = Bytes(batch_heads * EfficientWorkspace(q, k.sizes[2], dropout, device));
  const int workspace = plan.Temporary(bytes, "workspace of attention's backward");
  plan.Free(delta);
  plan.Free(workspace);
  for (size_t i = expanded.size(); i-- > 0;) plan.Free(expanded[i]);
  if (gradient_copy >= 0) plan.Free(gradient_copy);
}

// Results: seed, offset, the result, (log of the sums). Of cuDNN's workspaces nothing is published: these and the
// following were measured with cuDNN 9.19 and 9.24 on an H100 (tests/truth/h100/attention.csv).
void CudnnForward(const OpView& op, const DeviceSpec&, MemoryPlan& plan) {
  for (int i = 0; i < op.results(); ++i) plan.Result(i);
  plan.Free(plan.Temporary(Bytes(256), "workspace of cuDNN's attention"));
}

void CudnnBackward(const OpView& op, const DeviceSpec&, MemoryPlan& plan) {
  const Dims& q = op.in(1).sizes;
  const TensorInfo& k = op.in(2);
  for (int i = 0; i < op.results(); ++i) plan.Result(i);
  const int64_t rows = q[0] * q[1] * q[2];
  int64_t bytes = 256 + 4 * rows + 4 * rows * q[3];  // sums of gradient times result, gradient of q in fp32
  if (k.sizes[1] < q[1]) {                           // gradients of k and v for every head
    bytes += 2 * Up(SizeOf(k.dtype).count() * k.sizes[0] * q[1] * k.sizes[2] * k.sizes[3], 128);
  }
  plan.Free(plan.Temporary(Bytes(bytes), "sums of gradient times result, and the rest of cuDNN's workspace"));
}

}  // namespace tidemark::memory_rules
