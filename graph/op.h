// What is known of each kind of op: its name, and its memory rule, which says what the host code of its kernel
// allocates and frees, in order. One row an op, in op_list.def.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "graph/base/units.h"
#include "graph/device.h"
#include "graph/graph.h"

namespace tidemark {

// An op with its operands.
class OpView {
 public:
  OpView(const Graph& graph, const Op& op) : graph_(graph), op_(op) {}
  const Op& op() const { return op_; }
  int inputs() const { return op_.inputs; }
  int results() const { return op_.results; }
  const TensorInfo& in(int i) const { return graph_.tensors[graph_.Inputs(op_)[static_cast<size_t>(i)]]; }
  const TensorInfo& out(int i) const { return graph_.tensors[graph_.Results(op_)[static_cast<size_t>(i)]]; }
  Attributes attributes() const { return op_.attributes.valid() ? graph_.attributes[op_.attributes] : Attributes{}; }

 private:
  const Graph& graph_;
  const Op& op_;
};

// What a kernel's host code does with memory, in order.
class MemoryPlan {
 public:
  enum class Kind : uint8_t { kResult, kTemporary, kFree, kCublasWorkspace };
  struct Item {
    Kind kind;
    int index = 0;               // of the result, or of the temporary
    Bytes bytes;                 // of a temporary
    const char* what = nullptr;  // of a temporary
  };

  void Result(int i) { items_.push_back({Kind::kResult, i}); }
  // Returns the temporary's number, for Free.
  int Temporary(Bytes bytes, const char* what) {
    items_.push_back({Kind::kTemporary, temporaries_, bytes, what});
    return temporaries_++;
  }
  void Free(int temporary) { items_.push_back({Kind::kFree, temporary}); }
  // The workspace of this thread's cuBLAS handle: allocated at the handle's first use, never freed.
  void CublasWorkspace() { items_.push_back({Kind::kCublasWorkspace}); }

  const std::vector<Item>& items() const { return items_; }
  int temporaries() const { return temporaries_; }
  void Clear() {
    items_.clear();
    temporaries_ = 0;
  }

 private:
  std::vector<Item> items_;
  int temporaries_ = 0;
};

using MemoryRule = void (*)(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);

// For estimates of time.
enum class CostClass : uint8_t { kMove, kElementwise, kReduce, kMatmul, kAttention };

struct OpInfo {
  std::string_view name;  // "aten::mm"
  MemoryRule memory;      // null: every result, in order, and nothing else
  CostClass cost;
  std::string_view meaning;
};

const OpInfo& InfoOf(OpKind kind);
constexpr int kOpKinds = 0
#define OP(kind, name, memory, cost, meaning) +1
#include "graph/op_list.def"
#undef OP
    ;
// The kind's own name, "EmbeddingBackward": unlike PyTorch's names, each is there once.
std::string_view IdentifierOf(OpKind kind);
// The kinds that PyTorch calls so: "aten::gelu", or just "gelu".
std::vector<OpKind> KindsNamed(std::string_view name);

// Bytes of cuBLAS's workspace on a device: 4096 KiB * 2 + 16 KiB * 8, and 32 MiB from compute capability 9.0 on.
// Source: PyTorch 2.14, aten/src/ATen/cuda/CublasHandlePool.cpp (parseChosenWorkspaceSize).
Bytes CublasWorkspaceBytes(const DeviceSpec& device);

// Whether PyTorch's sum-like kernels split a reduction over blocks, and the two buffers that they then allocate.
struct ReductionScratch {
  Bytes staging;  // 0: none
  Bytes semaphores;
};
// Source: PyTorch 2.14, aten/src/ATen/native/cuda/Reduce.cuh (setReduceConfig). Sizes of the kept dimensions of `to`
// are those of `from`, reduced ones are 1 or missing in front. REQUIRES: fewer than 2^31 elements.
ReductionScratch ScratchOfReduction(const TensorInfo& from, const Dims& to, const DeviceSpec& device);

namespace memory_rules {
void Reduction(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void Cumsum(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void SafeSoftmax(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void SoftmaxBackward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void LayerNorm(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void LayerNormBackward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void EmbeddingBackward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void Matmul(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void FlashForward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void FlashBackward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void EfficientForward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void EfficientBackward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void CudnnForward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void CudnnBackward(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
void ForeachNorm(const OpView& op, const DeviceSpec& device, MemoryPlan& plan);
constexpr MemoryRule Results = nullptr;  // NOLINT(readability-identifier-naming): named in op_list.def as the others
}  // namespace memory_rules

}  // namespace tidemark
