// A training run as an op graph: ops in program order, the tensors that they read and write, the storages behind those,
// and for each storage its holders: who keeps it alive, and what made each let go. A storage dies when its last holder
// has let go; nothing else decides a lifetime. Executable: every op has a meaning (op_list.def) and operands.
//
//   program:  …  op 17 (mm)   release holder 40 (argument x)   op 18 (add)   release holder 41 …
//
// Structure of arrays with typed ids; everything is in order of creation.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/base/id.h"
#include "graph/base/units.h"
#include "graph/dtype.h"
#include "graph/fused_kernel.h"
#include "graph/shape.h"

namespace tidemark {

using StorageId = Id<struct StorageTag>;
using TensorId = Id<struct TensorTag>;
using OpId = Id<struct OpTag>;
using HolderId = Id<struct HolderTag>;
using ScopeId = Id<struct ScopeTag>;
using PhaseId = Id<struct PhaseTag>;
using AttributesId = Id<struct AttributesTag>;
using KernelId = Id<struct KernelTag>;
using FusedKernelId = Id<struct FusedKernelTag>;

enum class OpKind : uint16_t {
#define OP(kind, name, memory, cost, meaning) k##kind,
#include "graph/op_list.def"
#undef OP
};

// What kFromHost copies; kernels/host_data.h gives the values.
enum class HostData : uint8_t {
  kUnknown,             // nobody has said: can be placed, not executed
  kParameter,           // initial weights, by name
  kTokens,              // token ids of batch integer[1], below integer[2]
  kTargets,             // the tokens of the same batch, one position later
  kLowerTriangle,       // 1 up to the diagonal of the last two dimensions, else 0
  kConstant,            // number everywhere
  kPositions,           // 0, 1, 2, … along the last dimension
  kInverseFrequencies,  // number^(-i / n) for i = 0 … n - 1: rotary embedding's
};

enum class Comparison : uint8_t { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual };

// What a storage is for, as far as its maker knows.
enum class Role : uint8_t {
  kActivation,  // result of a forward op
  kParameter,
  kBuffer,  // registered buffers of modules
  kInput,
  kWeightCast,  // a parameter in autocast's number format
  kLogitsAndLoss,
  kGradient,  // of a parameter
  kActivationGradient,
  kOptimizerState,
  kScalar,  // scaler, clipping and other bookkeeping
};

// Where a storage's bytes are. Only those on the device take memory of its allocator.
enum class Location : uint8_t {
  kDevice,
  kHost,    // pinned memory of the host
  kKernel,  // registers and shared memory of a fused kernel: what only ops of one kernel read
};

struct Storage {
  Bytes bytes;
  OpId producer;
  uint16_t result = 0;  // which result of the producer
  Role role = Role::kActivation;
  ScopeId name;  // parameters, buffers, states, inputs: their name; none: named by the producer
  Location location = Location::kDevice;
  bool operator==(const Storage&) const = default;
};

// A view of a storage.
struct TensorInfo {
  StorageId storage;
  DType dtype = DType::kFloat32;
  int64_t offset = 0;  // in elements
  Dims sizes;
  Dims strides;  // in elements
};

struct Attributes {
  double number = 0;
  double second = 0;
  std::array<int64_t, 3> integer{};
  bool operator==(const Attributes&) const = default;
};

// A value that whoever runs the graph may look at: read when the phase begins. Holds nothing: the program does.
enum class ProbeKind : uint8_t {
  kLoss,      // what backward starts from, before the scaler's factor
  kGradient,  // of a parameter, before clipping and the optimizer (and still times the scaler's factor)
};
struct Probe {
  ProbeKind kind = ProbeKind::kLoss;
  PhaseId phase;
  TensorId tensor;
  ScopeId name;  // the parameter's
  bool operator==(const Probe&) const = default;
};

// PyTorch runs backward on a thread of its own; a cuBLAS handle and its workspace belong to a thread.
enum class Thread : uint8_t { kMain, kAutograd };

struct Op {
  OpKind kind = OpKind::kFromHost;
  Thread thread = Thread::kMain;
  uint16_t inputs = 0;
  uint16_t results = 0;
  uint32_t first_operand =
      0;  // in Graph::operands: inputs, then results. A result may share an input's storage: in place
  AttributesId attributes;
  ScopeId scope;               // the module (of backward ops: the one whose forward op they belong to)
  const char* node = nullptr;  // backward: the autograd node, "MmBackward0"
  KernelId kernel;             // ops of one kernel stand side by side and are launched as one; none: by itself
  bool operator==(const Op&) const = default;
};

// Who keeps a storage alive.
enum class HolderKind : uint8_t {
  kLocal,         // a name or a temporary of a module's forward, or of the engine
  kCaller,        // a name of the training loop: logits, loss, x, y, outputs
  kBase,          // a view that holds the tensor it was made from
  kSaved,         // an autograd node, for its backward
  kCheckpoint,    // a checkpointed region: its arguments, or what it recomputed
  kEngineBuffer,  // a gradient that waits for its node
  kGradient,      // .grad of a parameter
  kParameter,     // the module: parameters and buffers
  kCastCache,     // autocast's cache of weight casts
  kOptimizer,     // optimizer state, scaler
};

struct Holder {
  StorageId storage;
  HolderKind kind = HolderKind::kLocal;
  OpId since;                  // the op before which it took hold; none: before the first
  ScopeId scope;               // the module in which it took hold
  const char* node = nullptr;  // kSaved: the node
  bool operator==(const Holder&) const = default;
};

struct Phase {
  std::string name;  // model, data, forward, backward, clip, optimizer, zero_grad, evaluation
  int64_t step = -1;
  int64_t micro_step = -1;
  int64_t batch = -1;  // of an evaluation
  bool operator==(const Phase&) const = default;
};

// What happens next.
class Step {
 public:
  enum class Kind : uint8_t { kOp, kRelease, kPhase };
  Step() = default;
  explicit Step(OpId op) : kind_(Kind::kOp), index_(op.index() & kMask) {}
  explicit Step(HolderId holder) : kind_(Kind::kRelease), index_(holder.index() & kMask) {}
  explicit Step(PhaseId phase) : kind_(Kind::kPhase), index_(phase.index() & kMask) {}
  Kind kind() const { return kind_; }
  OpId op() const { return OpId(index_); }
  HolderId holder() const { return HolderId(index_); }
  PhaseId phase() const { return PhaseId(index_); }
  bool operator==(const Step&) const = default;

 private:
  static constexpr uint32_t kMask = (uint32_t{1} << 30) - 1;
  Kind kind_ : 2 = Kind::kOp;
  uint32_t index_ : 30 = 0;
};

struct Graph {
  Column<OpId, Op> ops;
  std::vector<TensorId> operands;
  Column<AttributesId, Attributes> attributes;
  Column<FusedKernelId, FusedKernel> fused;  // integer[0] of a kFusedKernel op is which
  Column<TensorId, TensorInfo> tensors;
  Column<StorageId, Storage> storages;
  Column<HolderId, Holder> holders;
  Column<ScopeId, std::string> scopes;  // names of modules, parameters and states: "h.0.attn.c_attn"
  Column<PhaseId, Phase> phases;
  std::vector<Step> program;
  std::vector<Probe> probes;  // by phase
  int64_t parameters = 0;     // elements
  // What the program would read back from the device, or take from the host's addresses, and what was assumed instead;
  // each once, in the order in which the trace met them.
  std::vector<std::string> assumptions;

  std::span<const TensorId> Inputs(const Op& op) const {
    return std::span(operands).subspan(op.first_operand, op.inputs);
  }
  std::span<const TensorId> Results(const Op& op) const {
    return std::span(operands).subspan(size_t{op.first_operand} + op.inputs, op.results);
  }
};

// REQUIRES: op is a kFusedKernel.
inline FusedKernelId FusedKernelOf(const Graph& graph, const Op& op) {
  return op.attributes.valid() ? FusedKernelId(static_cast<size_t>(graph.attributes[op.attributes].integer[0]))
                               : FusedKernelId(0);
}

}  // namespace tidemark
