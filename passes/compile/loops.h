// A graph after lowering: buffers, and the operations that write them.
#pragma once

#include <string>
#include <vector>

#include "passes/compile/expression.h"
#include "passes/compile/functional_graph.h"

namespace tidemark::compile {

using OperationId = Id<struct CompiledOperationTag>;

// A value that is written to memory, or an input of the graph.
struct Buffer {
  enum class Kind : uint8_t {
    kInput,
    kLoops,      // a loop nest writes it
    kExtern,     // a product
    kTuple,      // what a library call with several results returns; no memory of its own
    kPart,       // a result of such a call
    kMutation,   // the buffer `mutated` after something was added to it; no memory of its own
    kConcat,     // its parts are buffers of their own, written through views of it
    kWorkspace,  // partial sums inside a kernel
  };
  Kind kind = Kind::kLoops;
  std::string name;  // "buf7"; inputs: the node's name
  DType dtype = DType::kFloat32;
  Shape sizes;
  Shape strides;
  bool is_fixed = false;  // the strides are decided
  OperationId operation;  // that writes it; invalid: an input
  BufferId mutated;
  BufferId within;  // kLoops, kExtern: it is a part of that one, from `offset` on; no memory of its own
  Extent offset = 0;
  NodeId node;  // whose value it is
};

// A buffer through strides.
struct BufferView {
  BufferId buffer;
  Shape sizes;
  Shape strides;
  Extent offset = 0;
  bool operator==(const BufferView&) const = default;
};

// kScan: running sums, as many as there are summands.
enum class ReductionKind : uint8_t { kNone, kSum, kMax, kWelford, kOnlineSoftmax, kScan };
// Which way a reduction runs through memory, as Inductor guesses it.
enum class ReductionHint : uint8_t { kDefault, kInner, kOuter };

struct Operation {
  enum class Kind : uint8_t { kLoops, kScatter, kExtern, kPart, kConcat };
  Kind kind = Kind::kLoops;
  BufferId result;
  NodeId node;    // at which it was written
  NodeId origin;  // after which Inductor names it: what made the value, or the view that found it in use
  // Loops: for all indices below `sizes` (then `reduced`), result[index] = body. Variables are numbered through.
  Shape sizes;
  Shape reduced;
  ExpressionId body;
  bool reads_memory = true;
  ReductionKind reduction = ReductionKind::kNone;
  ReductionHint hint = ReductionHint::kDefault;
  // The first half of a reduction that was split: the sizes before the split. 0: not one.
  Extent unsplit_results = 0;
  Extent unsplit_length = 0;
  // A reduction of blocks: the elements of all blocks, fewer than blocks of one size have. 0: not one.
  Extent length_in_blocks = 0;
  // Scatter: body is added to row `row` of the result's memory, at these columns.
  ExpressionId row;
  // Extern: what it calls, on what. Concat: nothing runs. Part: which result of the call.
  OpKind call = OpKind::kMm;
  size_t part = 0;
  std::vector<BufferView> operands;

  bool is_reduction() const { return reduction != ReductionKind::kNone; }
};

struct LoweredGraph {
  Expressions expressions;
  Column<BufferId, Buffer> buffers;
  Column<OperationId, Operation> operations;  // in order of creation
  std::vector<BufferId> inputs;
  std::vector<BufferView> outputs;  // invalid buffer: an output that isn't there
  bool is_symbolic = false;
  // Whether what was decided for good holds for the length of the call, too.
  bool guards_hold = true;

  // The element of its storage that a load touches (of a part: of the whole's).
  Index Linear(const Expression& load, const std::vector<Extent>& ranges) const;
  // Elements of a buffer's storage.
  Extent StorageElements(BufferId id) const;
};

// One line an operation: what it writes, over which loops, from which buffers.
std::string ToText(const LoweredGraph& graph);

}  // namespace tidemark::compile
