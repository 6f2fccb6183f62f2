// The state and the steps of lowering a graph (lower.h), for the files that do it: lower.cc goes through the nodes and
// has layouts, buffers and loads, lower_views.cc views and what is written when, lower_nodes.cc pointwise nodes,
// lower_cat.cc what is put together, lower_reductions.cc and lower_calls.cc the rest.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "passes/compile/layout.h"
#include "passes/compile/lower.h"
#include "passes/compile/split_reduction.h"

namespace tidemark::compile {

constexpr int kReadsOfReused = 4;           // realize_reads_threshold
constexpr int kReadsAtMost = 8;             // realize_acc_reads_threshold
constexpr int kOperationsAtMost = 30;       // realize_opcount_threshold
constexpr int64_t kUnrolledBelow = 8;       // unroll_reductions_threshold
constexpr size_t kPointwiseCatAtMost = 8;   // max_pointwise_cat_inputs
constexpr int64_t kAttentionAlignment = 8;  // in elements

using BoxId = Id<struct BoxTag>;

// A value that may never exist: an expression over its own indices, until it is realized.
struct Box {
  DType dtype = DType::kFloat32;
  Shape sizes;
  ExpressionId body;
  BufferId buffer;  // once realized
  NodeId node;      // that made it
  bool realized() const { return buffer.valid(); }
};

// A box as a node's value sees it.
struct Value {
  enum class Form : uint8_t {
    kPlain,    // as it is
    kIndexed,  // element i is the box's element map(i); with strides, element map(i) of what they show
    kStrided,  // strides and an offset on the box's buffer
  };
  Form form = Form::kPlain;
  BoxId box;
  Shape sizes;
  std::vector<Index> map;
  Shape strides;
  Extent offset = 0;
};

inline std::vector<Extent> RangesOf(const Shape& sizes) { return {sizes.begin(), sizes.end()}; }

// Index i for dimension i; 0 where there is only one element.
inline std::vector<Index> Identity(const Shape& sizes) {
  std::vector<Index> indices;
  for (int i = 0; i < sizes.size(); ++i) indices.push_back(sizes[i].is(1) ? Index() : Index::Variable(i));
  return indices;
}

inline bool IsAttention(OpKind kind) {
  return kind == OpKind::kFlashForward || kind == OpKind::kFlashBackward || kind == OpKind::kEfficientForward ||
         kind == OpKind::kEfficientBackward;
}

inline bool NeedsRealizedInputs(OpKind kind) {
  return kind == OpKind::kMm || kind == OpKind::kAddmm || kind == OpKind::kBmm || IsAttention(kind);
}

class Lowering {
 public:
  Lowering(const FunctionalGraph& graph, const LoweringOptions& options, const DeviceSpec& device)
      : graph_(graph), options_(options), device_(device), users_(graph.Users()), is_output_(graph.IsOutput()) {
    values_.resize(graph.nodes.size());
    parts_.resize(graph.nodes.size());
    result_.is_symbolic = options.is_symbolic;
    MarkUnpadded();
  }

  LoweredGraph Run();

 private:
  const FunctionalNode& node() const { return graph_.nodes[current_]; }
  const Shape& sizes() const { return node().type().sizes; }
  DType dtype() const { return node().type().dtype; }
  Value& in(size_t i) { return values_[node().inputs[i]]; }
  Box& box(const Value& v) { return boxes_[v.box]; }
  Buffer& buffer(const Value& v) { return result_.buffers[box(v).buffer]; }
  Expressions& expressions() { return result_.expressions; }
  void Define(Value v) { values_[current_] = std::move(v); }

  // --- Layouts

  // Outputs that a user sees, and what they are views of, are never padded.
  void MarkUnpadded();
  Shape Padded(const Shape& strides, const Buffer& b) const;
  static bool DependsOnLength(const Buffer& b);
  void Fix(Buffer& b, const Shape& strides, bool allow_padding);
  void FreezeLayout(Buffer& b);

  // Fills dimensions in the order in which what it reads has them.
  void DecideLayout(Buffer& b);

  // The distinct elements that a loop nest reads, as indices of storage.
  std::vector<Index> ReadsOf(const Operation& op);
  void Complete(BufferView& view);
  bool IsStorage(const Value& v);
  Shape StridesOf(const Value& v) { return v.form == Value::Form::kStrided ? v.strides : buffer(v).strides; }

  // --- Boxes and buffers

  BoxId AddBox(DType dtype, const Shape& sizes, ExpressionId body);
  Value Plain(BoxId id) { return {.box = id, .sizes = boxes_[id].sizes}; }
  Value Lazy(DType dtype, const Shape& sizes, ExpressionId body) { return Plain(AddBox(dtype, sizes, body)); }

  BufferId AddBuffer(Buffer::Kind kind, DType dtype, const Shape& sizes);
  OperationId AddOperation(Operation op, BufferId id);
  Value Realized(BufferId id);
  void AddInput();
  void Realize(BoxId id);

  // A copy of what v shows, in memory of its own.
  Value Copy(const Value& v);

  // --- Loads

  // The element of v at an index over variables below `ranges`.
  ExpressionId LoadAt(const Value& v, std::vector<Index> at, const std::vector<Extent>& ranges,
                      const std::vector<ExpressionId>& indirect = {});

  // What can be computed from nothing isn't read from memory.
  bool IsInlined(const Buffer& b);
  ExpressionId AddLoad(BufferId id, std::vector<Index> indices, bool is_linear,
                       const std::vector<ExpressionId>& indirect);

  // The element of an operand for element `at` of a result of sizes `to`: stretched where it has size 1.
  ExpressionId LoadBroadcast(Value& v, const Shape& to);
  void RealizeIfStretched(const Value& v, const Shape& to);

  // --- Views

  Value Strided(const Value& v, const Shape& sizes, const Shape& strides, Extent offset);

  // v through a map from indices of `sizes` to its own.
  Value Indexed(const Value& v, const Shape& sizes, std::vector<Index> map);
  void FixForView(const Value& v);
  Value View(const Value& v, const Shape& sizes);
  Value Permute(const Value& v, int64_t order);
  Value Expand(const Value& v, const Shape& sizes);
  Value Slice(const Value& v, int dim, Extent begin, Extent length);

  // --- Operands of library calls

  BufferView RealizeInput(Value& v);

  // An indexed view of a buffer as strides, if it has some.
  bool MakeStrided(Value& v);

  // --- After each node: what is written now

  void AfterNode();
  void RealizeHint(const Value& v);
  void MarkReuse(const Value& v);
  void RequireOutputStrides(Value& v);
  static bool IsViewNode(OpKind kind);

  // v with its dimensions in the order that `like` has; a copy if need be.
  void RequireStrideOrder(Value& v, const Shape& like, bool allow_padding);
  // Whether strides are the same: decided for the length of the compilation, with a guard.
  bool AreStrides(const Shape& a, const Shape& b, const Shape& sizes);
  void RequireExactStrides(Value& v, const Shape& strides, bool allow_padding);

  // --- Nodes

  void LowerNode();
  bool LowerView();
  bool LowerPointwise();
  using Compute = std::function<ExpressionId(const std::vector<ExpressionId>&)>;
  // A result whose element is computed from the operands' elements at the same index.
  void Pointwise(const Compute& compute);
  ExpressionId Call(std::string_view name, std::vector<ExpressionId> operands, DType type);
  ExpressionId Cast(ExpressionId e, DType to) { return expressions()[e].dtype == to ? e : Call("to_dtype", {e}, to); }
  ExpressionId NumberAs(DType type) { return expressions().Constant(node().number, node().number_is_integer, type); }

  // An operation on operands of one dtype: the result's, or for comparisons the operands' common one.
  void Arithmetic(std::string_view name, DType type);
  void Power();
  void Divide();
  void Compare();
  void Where();

  // out[i, c] = weight[indices[i], c]
  void Embedding();

  // out[i, j] = x[i, index[i, j]]
  void Gather();
  void Random();
  void Seeds();
  void LookupSeed();

  // --- Cat. Source: PyTorch 2.14, torch/_inductor/lowering.py (cat).

  // torch.Tag.pointwise
  static bool IsPointwise(OpKind kind);

  // Whether all that becomes of the value at `user` is pointwise; views are looked through.
  bool IsPointwiseUse(NodeId user, bool or_cat) const;

  // A value that can't be written into its place without a copy, or that needn't be written at all.
  bool IsBetterLoaded(const Value& v);
  bool ComesFromReduction(BufferId id) const;
  bool ReadsReduction(ExpressionId body) const;

  // Whether somebody else needs an operand, too, so that it is better written once, in its place.
  bool HasSharedOperand(const std::vector<Value>& parts);
  void Concatenate(std::vector<Value> parts, int dim);

  // Each part is written to its place in one buffer.
  void WriteInPlaces(std::vector<Value> parts, int dim);
  void Cat();

  // Behind the last element of a row, numbers: a cat with a constant, or, by an amount that is open, zeros under a
  // mask.
  void Pad();

  // in0 with in1 from integer[1] up to integer[2] in a dimension.
  void SliceScatter();

  // in0[in1, in2, …]: an index that is computed from loop variables alone is one.
  void LookUp();

  // Running sums along the last dimension.
  void CumulativeSum();

  // Side by side along a dimension: each operand under a mask, shifted.
  void PointwiseCat(std::vector<Value>& parts, int dim);
  ExpressionId Masked(ExpressionId mask, ExpressionId body);

  // v at the index less `begin` in one dimension, which equals no other access.
  ExpressionId Shifted(Value& v, int dim, Extent begin, const std::vector<Extent>& ranges);
  ExpressionId MarkOpaque(ExpressionId root);

  // A copy of the target, then values added at its rows.
  void IndexPut();

  // --- Reductions

  Shape ReducedSizes(const Shape& from, int mask) const;

  // v's element for result index variables, then reduction variables.
  ExpressionId ReductionBody(Value& v, int mask, DType type);
  BufferId AddReduction(ReductionKind kind, ExpressionId body, const Shape& kept, const Shape& reduced, DType type,
                        ReductionHint hint);

  // Without loops: one value of the body for each of the few reduced indices, combined.
  ExpressionId Unrolled(ExpressionId body, const Shape& kept, const Shape& reduced, ReductionKind kind);
  static bool IsConstant(Extent e) { return e.hint() == e.now(); }

  // One reduction of `body`, in two steps where that gives more parallelism.
  Value Reduce(ReductionKind kind, ExpressionId body, const Shape& kept, const Shape& reduced, DType type);
  ReductionPlan PlanOf(ExpressionId body, const Shape& kept, const Shape& reduced);
  static bool IsFullRead(const Index& read, const std::vector<Extent>& ranges);
  static bool UsesReduced(const Index& read, int first, const std::vector<Extent>& ranges);
  // The body of one block of a reduction in `splits` blocks: for result index variables, the block's number, the place
  // in the block.
  ExpressionId BodyOfBlock(ExpressionId body, const Shape& kept, const Shape& reduced, Extent splits);
  Value ReduceInSteps(ReductionKind kind, ExpressionId body, const Shape& kept, const Shape& reduced, DType type,
                      const ReductionPlan& plan);
  void Sum();
  void Maximum();
  void Mean();

  // Welford's algorithm: mean, sum of squares (M2) and a weight that nobody reads.
  void VarMean();
  // A row's maximum and its sum of exponentials less that: two reductions of one body, of blocks first if rows are long
  // and few.
  void OnlineSoftmax();
  std::vector<Value> MaximumAndSum(ExpressionId body, const Shape& kept, const Shape& reduced, DType type,
                                   ReductionHint hint);

  // --- Library calls

  void Product2();

  // Operand i with the strides that attention's kernels ask for. A value that is realized is that for all its readers;
  // a copy of a view is this call's alone. Source: torch/_inductor/lowering.py (sdpa_constraint).
  BufferView AlignedOperand(size_t i);
  void AlignOperand(size_t i, Value& v);
  static bool IsMultiple(Extent e) { return e.hint() % kAttentionAlignment == 0; }

  bool IsAligned(const Value& v);

  // A mask stays as small as it is: stretched dimensions keep a stride of 0.
  void AlignMask(Value& v, const Shape& given);
  void Attention();
  const FunctionalGraph& graph_;
  const LoweringOptions& options_;
  const DeviceSpec& device_;
  Column<NodeId, std::vector<NodeId>> users_;
  std::vector<bool> is_output_;
  std::vector<NodeId> is_visible_;
  std::vector<bool> unpadded_;
  Column<NodeId, Value> values_;
  Column<NodeId, std::vector<Value>> parts_;
  Column<BoxId, Box> boxes_;
  NodeId current_;
  int buffer_count_ = 0;
  std::vector<std::string> mutated_;
  LoweredGraph result_;
};

}  // namespace tidemark::compile
