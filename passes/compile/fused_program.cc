#include "passes/compile/fused_program.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <string_view>
#include <utility>

#include "graph/base/check.h"

namespace tidemark::compile {
namespace {

constexpr std::array<std::pair<std::string_view, FusedFunction>, 27> kFunctions = {{
    {"add", FusedFunction::kAdd},         {"sub", FusedFunction::kSub},         {"mul", FusedFunction::kMul},
    {"truediv", FusedFunction::kDiv},     {"maximum", FusedFunction::kMaximum}, {"neg", FusedFunction::kNeg},
    {"exp", FusedFunction::kExp},         {"erf", FusedFunction::kErf},         {"log", FusedFunction::kLog},
    {"rsqrt", FusedFunction::kRsqrt},     {"sigmoid", FusedFunction::kSigmoid}, {"tanh", FusedFunction::kTanh},
    {"relu", FusedFunction::kRelu},       {"sin", FusedFunction::kSin},         {"cos", FusedFunction::kCos},
    {"bitwise_and", FusedFunction::kAnd}, {"and_", FusedFunction::kAnd},        {"where", FusedFunction::kWhere},
    {"masked", FusedFunction::kMasked},   {"eq", FusedFunction::kEqual},        {"ne", FusedFunction::kNotEqual},
    {"lt", FusedFunction::kLess},         {"le", FusedFunction::kLessEqual},    {"gt", FusedFunction::kGreater},
    {"ge", FusedFunction::kGreaterEqual}, {"to_dtype", FusedFunction::kCast},   {"rand", FusedFunction::kRandom},
}};

FusedFunction FunctionOf(std::string_view name) {
  const auto at = std::ranges::find(kFunctions, name, &std::pair<std::string_view, FusedFunction>::first);
  CHECK(at != kFunctions.end());
  return at->second;
}

class Writing {
 public:
  Writing(const LoweredGraph& graph, const Kernel& kernel, bool at_hint, FusedKernel& fused)
      : g_(graph), kernel_(kernel), at_hint_(at_hint), fused_(fused) {}

  void Run(const std::vector<BufferId>& inputs, const std::vector<BufferId>& results) {
    for (const auto& [kind, list] :
         {std::pair(FusedBuffer::Kind::kInput, &inputs), std::pair(FusedBuffer::Kind::kResult, &results)}) {
      for (size_t i = 0; i < list->size(); ++i) {
        const bool is_workspace = g_.buffers[(*list)[i]].kind == Buffer::Kind::kWorkspace;
        if (is_workspace) workspace_ = (*list)[i];
        // A result hides the input whose memory it changes.
        numbers_[(*list)[i]] = static_cast<uint32_t>(fused_.buffers.size());
        fused_.buffers.push_back({kind, static_cast<uint32_t>(i), 0, is_workspace});
      }
    }
    for (size_t i = 0; i < kernel_.operations.size(); ++i) {
      const bool is_column_sum = kernel_.rows > 0 && i >= kernel_.rows;
      Write(kernel_.operations[i], is_column_sum ? static_cast<int>(i - kernel_.rows) : -1);
    }
    if (!is_exact_) fused_.loops.clear();
  }

 private:
  int64_t At(Extent e) const { return at_hint_ ? e.hint() : e.now(); }

  uint32_t NumberOf(BufferId b) {
    const Buffer& buffer = g_.buffers[b];
    if (buffer.kind == Buffer::Kind::kMutation) return NumberOf(buffer.mutated);
    const auto known = numbers_.find(b);
    if (known != numbers_.end()) return known->second;
    const auto number = static_cast<uint32_t>(fused_.buffers.size());
    fused_.buffers.push_back({FusedBuffer::Kind::kLocal, 0, At(g_.StorageElements(b)), false});
    numbers_[b] = number;
    return number;
  }

  FusedIndex IndexOf(const Index& index) {
    is_exact_ = is_exact_ && index.is_exact();
    FusedIndex result = {At(index.offset()), {}};
    for (const Term& t : index.terms()) {
      result.terms.push_back({At(t.coefficient), t.variable, At(t.divisor), At(t.modulus)});
    }
    return result;
  }

  void Write(OperationId id, int column_sum) {
    const Operation& op = g_.operations[id];
    FusedLoops loops;
    std::vector<Extent> ranges(op.sizes.begin(), op.sizes.end());
    ranges.insert(ranges.end(), op.reduced.begin(), op.reduced.end());
    for (const Extent e : op.sizes) loops.sizes.push_back(At(e));
    for (const Extent e : op.reduced) loops.reduced.push_back(At(e));
    nodes_.clear();
    if (op.row.valid()) loops.where_operands = {AddExpression(op.row, ranges, loops)};
    AddExpression(op.body, ranges, loops);
    MaskBeyondTheEnd(op, loops);
    MarkMasked(loops);
    loops.fold = FoldOf(id);
    Place(op, column_sum, loops);
    fused_.loops.push_back(std::move(loops));
  }

  uint32_t AddExpression(ExpressionId root, const std::vector<Extent>& ranges, FusedLoops& loops) {
    for (const ExpressionId id : g_.expressions.Nodes(root)) {
      // The value has to be the last node.
      if (nodes_.contains(id.index()) && !(id == root)) continue;
      const Expression& e = g_.expressions[id];
      FusedNode node = {.dtype = e.dtype, .number = e.number};
      for (const ExpressionId operand : e.operands) node.operands.push_back(nodes_.at(operand.index()));
      switch (e.kind) {
        case ExpressionKind::kConstant:
          node.function = FusedFunction::kConstant;
          break;
        case ExpressionKind::kIndexValue:
          node.function = FusedFunction::kIndex;
          node.index = IndexOf(e.indices[0]);
          break;
        case ExpressionKind::kLoad: {
          node.function = FusedFunction::kLoad;
          node.buffer = NumberOf(e.buffer);
          // Parts are operands of their own, that begin where the part does.
          node.index = IndexOf(g_.Linear(e, ranges) + Index(Extent(0) - g_.buffers[e.buffer].offset));
          break;
        }
        case ExpressionKind::kCall:
          node.function = FunctionOf(e.name);
          break;
      }
      nodes_[id.index()] = static_cast<uint32_t>(loops.nodes.size());
      loops.nodes.push_back(std::move(node));
    }
    return nodes_.at(root.index());
  }

  // Half a reduction, of blocks: the last block may end beyond the last of the elements. What lies there counts as
  // nothing: 0 in a sum, -inf where the maximum is looked for.
  void MaskBeyondTheEnd(const Operation& op, FusedLoops& loops) {
    if (op.length_in_blocks.is(0) || op.reduced.size() != 1) return;
    const int block_variable = op.sizes.size() - 1;
    const int64_t block = At(op.reduced[0]);
    if (At(op.sizes[block_variable]) * block <= At(op.length_in_blocks)) return;
    const auto value = static_cast<uint32_t>(loops.nodes.size()) - 1;
    const DType type = loops.nodes[value].dtype;
    FusedNode position = {.function = FusedFunction::kIndex, .dtype = DType::kInt64};
    position.index.terms = {{block, block_variable, 1, 0}, {1, block_variable + 1, 1, 0}};
    loops.nodes.push_back(std::move(position));
    loops.nodes.push_back({.dtype = DType::kInt64, .number = static_cast<double>(At(op.length_in_blocks))});
    loops.nodes.push_back(
        {.function = FusedFunction::kLess, .dtype = DType::kBool, .operands = {value + 1, value + 2}});
    loops.nodes.push_back({.function = FusedFunction::kMasked, .dtype = type, .operands = {value + 3, value}});
    if (op.reduction != ReductionKind::kOnlineSoftmax) return;
    loops.nodes.push_back({.dtype = type, .number = -std::numeric_limits<double>::infinity()});
    loops.nodes.push_back(
        {.function = FusedFunction::kWhere, .dtype = type, .operands = {value + 3, value + 4, value + 5}});
  }

  // What is only read under a mask may be read outside of its buffer where the mask doesn't hold.
  static void MarkMasked(FusedLoops& loops) {
    std::vector<bool> plain(loops.nodes.size());
    plain.back() = true;
    for (const uint32_t i : loops.where_operands) plain[i] = true;
    for (size_t i = loops.nodes.size(); i-- > 0;) {
      if (!plain[i]) continue;
      const FusedNode& node = loops.nodes[i];
      for (size_t k = 0; k < node.operands.size(); ++k) {
        const bool under_mask = node.function == FusedFunction::kMasked && k == 1;
        if (!under_mask) plain[node.operands[k]] = true;
      }
    }
    for (size_t i = 0; i < loops.nodes.size(); ++i) loops.nodes[i].masked = !plain[i];
  }

  FusedFold FoldOf(OperationId id) const {
    const Operation& op = g_.operations[id];
    // Which of a node's reductions.
    int part = 0;
    for (size_t i = id.index(); i-- > 0;) {
      const Operation& other = g_.operations[OperationId(i)];
      if (other.node != op.node || other.reduction != op.reduction) break;
      ++part;
    }
    switch (op.reduction) {
      case ReductionKind::kNone:
        return FusedFold::kNone;
      case ReductionKind::kSum:
        return FusedFold::kSum;
      case ReductionKind::kMax:
        return FusedFold::kMaximum;
      case ReductionKind::kScan:
        return FusedFold::kScan;
      case ReductionKind::kWelford:
        return part == 0 ? FusedFold::kMean : FusedFold::kSquares;
      case ReductionKind::kOnlineSoftmax:
        return part % 2 == 0 ? FusedFold::kMaximum : FusedFold::kSumOfExponentials;  // of blocks, then of all
    }
    return FusedFold::kNone;
  }

  void Place(const Operation& op, int column_sum, FusedLoops& loops) {
    if (column_sum >= 0) return PlaceColumnSum(op, column_sum, loops);
    const Buffer& b = g_.buffers[op.result];
    const bool is_part = b.within.valid() && numbers_.contains(b.within);
    loops.result = NumberOf(is_part ? b.within : op.result);
    if (is_part) loops.where.offset = At(b.offset);
    if (op.kind == Operation::Kind::kScatter) {
      loops.accumulates = true;
      const int column = op.sizes.size() - 1;
      loops.where.terms = {{At(b.strides.back()), column, 1, 0}, {At(b.strides[0]), FusedTerm::kLookedUp, 1, 0}};
      return;
    }
    // Variables of the result's dimensions; a scan's last one is what it runs along.
    for (int i = 0; i < b.sizes.size(); ++i) loops.where.terms.push_back({At(b.strides[i]), i, 1, 0});
  }

  // Partial sums of column_sum'th sum go to rows of its part of the workspace [sums, rows, columns], by turns.
  void PlaceColumnSum(const Operation& op, int column_sum, FusedLoops& loops) {
    const Shape& sizes = g_.buffers[workspace_].sizes;
    const int64_t rows = At(sizes[1]);
    const int64_t columns = At(sizes[2]);
    loops.result = NumberOf(workspace_);
    loops.accumulates = true;
    loops.where.offset = column_sum * rows * columns;
    const bool is_split = !op.unsplit_length.is(0);
    const int kept = op.sizes.size() - (is_split ? 1 : 0);
    int64_t stride = 1;
    for (int i = kept; i-- > 0;) {
      loops.where.terms.push_back({stride, i, 1, 0});
      stride *= loops.sizes[static_cast<size_t>(i)];
    }
    if (is_split) loops.where.terms.push_back({columns, kept, 1, rows});
  }

  const LoweredGraph& g_;
  const Kernel& kernel_;
  bool at_hint_;
  FusedKernel& fused_;
  std::map<BufferId, uint32_t> numbers_;
  std::map<uint32_t, uint32_t> nodes_;  // of the loops being written, by expression
  BufferId workspace_;
  bool is_exact_ = true;
};

}  // namespace

void AddProgram(const LoweredGraph& graph, const Kernel& kernel, const std::vector<BufferId>& inputs,
                const std::vector<BufferId>& results, bool at_hint, FusedKernel& fused) {
  Writing(graph, kernel, at_hint, fused).Run(inputs, results);
}

}  // namespace tidemark::compile
