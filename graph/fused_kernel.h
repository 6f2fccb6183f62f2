// What a kernel computes that a compiler fused from several ops: loop nests over the kernel's operands, one after
// another. Each element of a result is an expression over elements of operands, or a fold of one along reduced loops.
//
//   for all indices below `sizes` (then below `reduced`):  buffer[where] = value, or fold of value
//
// Buffers are the op's inputs, its results, and locals, which a device's kernel holds in registers and nobody else
// sees. A result may lie on the memory of an input: loops that read the old values come first.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/dtype.h"

namespace tidemark {

enum class OpKind : uint16_t;

// An element of a buffer: offset + sum of coefficient * (floor(variable / divisor) mod modulus), 0: no modulus.
// Variables are the loops', then the reduced ones', in order; from kLookedUp on the values of a node's operands.
struct FusedTerm {
  static constexpr int kLookedUp = 100;
  int64_t coefficient = 1;
  int variable = 0;
  int64_t divisor = 1;
  int64_t modulus = 0;
  bool operator==(const FusedTerm&) const = default;
};
struct FusedIndex {
  int64_t offset = 0;
  std::vector<FusedTerm> terms;
  bool operator==(const FusedIndex&) const = default;
};

enum class FusedFunction : uint8_t {
  kConstant,  // number
  kIndex,     // the index itself
  kLoad,      // of buffer[index]
  kAdd,
  kSub,
  kMul,
  kDiv,
  kMaximum,
  kNeg,
  kExp,
  kErf,
  kLog,
  kRsqrt,
  kSigmoid,
  kTanh,
  kRelu,
  kSin,
  kCos,
  kAnd,
  kWhere,   // first ? second : third; further operands aren't looked at
  kMasked,  // the second, where the first holds; else it isn't looked at
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kCast,
  kRandom,  // number below 1 of stream (first) and index (second)
};

struct FusedNode {
  FusedFunction function = FusedFunction::kConstant;
  DType dtype = DType::kFloat32;
  double number = 0;
  uint32_t buffer = 0;             // kLoad: which of FusedKernel::buffers
  bool masked = false;             // kLoad: the index may lie outside of the buffer, where nobody looks at the value
  FusedIndex index;                // kLoad, kIndex
  std::vector<uint32_t> operands;  // earlier nodes
  bool operator==(const FusedNode&) const = default;
};

// kScan: running sums along the reduced loop. The rest in pairs of loops on one value: mean and sum of squares about
// it; maximum and sum of exponentials less it.
enum class FusedFold : uint8_t { kNone, kSum, kMaximum, kScan, kMean, kSquares, kSumOfExponentials };

struct FusedLoops {
  std::vector<int64_t> sizes;
  std::vector<int64_t> reduced;
  std::vector<FusedNode> nodes;  // the last is the value
  FusedFold fold = FusedFold::kNone;
  uint32_t result = 0;  // which of FusedKernel::buffers
  FusedIndex where;
  std::vector<uint32_t> where_operands;  // nodes that `where` looks up
  bool accumulates = false;              // adds to what is there
  bool operator==(const FusedLoops&) const = default;
};

struct FusedBuffer {
  enum class Kind : uint8_t { kInput, kResult, kLocal };
  Kind kind = Kind::kLocal;
  uint32_t number = 0;      // of the input or result
  int64_t elements = 0;     // of a local
  bool is_cleared = false;  // zero before the first loops
  bool operator==(const FusedBuffer&) const = default;
};

struct FusedKernel {
  std::string name;         // "forward/add_native_layer_norm"
  std::vector<OpKind> ops;  // that were fused, in order
  std::vector<FusedBuffer> buffers;
  std::vector<FusedLoops> loops;  // none: what it computes isn't known, it can be placed but not executed
  bool operator==(const FusedKernel&) const = default;
};

}  // namespace tidemark
