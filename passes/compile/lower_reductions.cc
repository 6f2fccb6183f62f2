#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "graph/base/check.h"
#include "passes/compile/lowering.h"

namespace tidemark::compile {

Shape Lowering::ReducedSizes(const Shape& from, int mask) const {
  Shape reduced;
  for (int i = 0; i < from.size(); ++i) {
    if (mask >> i & 1) reduced.Append(from[i]);
  }
  return reduced;
}

ExpressionId Lowering::ReductionBody(Value& v, int mask, DType type) {
  std::vector<Index> at;
  std::vector<Extent> ranges = RangesOf(sizes());
  for (const Extent e : ReducedSizes(v.sizes, mask)) ranges.push_back(e);
  int kept = 0;
  int reduced = sizes().size();
  const bool keeps = sizes().size() == v.sizes.size();
  for (int i = 0; i < v.sizes.size(); ++i) {
    const bool is_reduced = mask >> i & 1;
    const int variable = is_reduced ? reduced++ : keeps ? i : kept;
    if (!is_reduced) ++kept;
    at.push_back(v.sizes[i].is(1) ? Index() : Index::Variable(variable));
  }
  return Cast(LoadAt(v, std::move(at), ranges), type);
}

BufferId Lowering::AddReduction(ReductionKind kind, ExpressionId body, const Shape& kept, const Shape& reduced,
                                DType type, ReductionHint hint) {
  const BufferId b = AddBuffer(Buffer::Kind::kLoops, type, kept);
  Operation op;
  op.sizes = kept;
  op.reduced = reduced;
  op.body = body;
  op.reduction = kind;
  op.hint = hint;
  AddOperation(std::move(op), b);
  return b;
}

ExpressionId Lowering::Unrolled(ExpressionId body, const Shape& kept, const Shape& reduced, ReductionKind kind) {
  const auto count = Product(reduced).hint();
  ExpressionId result;
  for (int64_t n = 0; n < count; ++n) {
    std::vector<Index> map = Identity(kept);
    int64_t rest = n;
    std::vector<Index> tail(static_cast<size_t>(reduced.size()));
    for (int i = reduced.size(); i-- > 0;) {
      tail[static_cast<size_t>(i)] = Index(rest % reduced[i].hint());
      rest /= reduced[i].hint();
    }
    map.insert(map.end(), tail.begin(), tail.end());
    const ExpressionId one = expressions().Substitute(body, map, RangesOf(kept));
    const std::string_view name = kind == ReductionKind::kMax ? "maximum" : "add";
    result = n == 0 ? one : Call(name, {result, one}, expressions()[one].dtype);
  }
  return result;
}

Value Lowering::Reduce(ReductionKind kind, ExpressionId body, const Shape& kept, const Shape& reduced, DType type) {
  const Extent length = Product(reduced);
  if (length.is(1) || (IsConstant(length) && length.hint() < kUnrolledBelow)) {
    return Lazy(type, kept, Unrolled(body, kept, reduced, kind));
  }
  const ReductionPlan plan = PlanOf(body, kept, reduced);
  if (plan.splits == 1) return Realized(AddReduction(kind, body, kept, reduced, type, plan.hint));
  return ReduceInSteps(kind, body, kept, reduced, type, plan);
}

ReductionPlan Lowering::PlanOf(ExpressionId body, const Shape& kept, const Shape& reduced) {
  const int64_t results = Product(kept).hint();
  const int64_t length = Product(reduced).hint();
  const std::optional<ReductionPlan> easy = EasyReductionPlan(results, length, device_);
  if (easy.has_value()) return *easy;
  // What it reads has its final layout from here on.
  std::vector<Extent> ranges = RangesOf(kept);
  for (const Extent e : reduced) ranges.push_back(e);
  const auto counts = [&](const Index& read) { return UsesReduced(read, kept.size(), ranges); };
  std::vector<ExpressionId> loads;
  for (const ExpressionId id : expressions().Nodes(body)) {
    const Expression& e = expressions()[id];
    if (e.kind != ExpressionKind::kLoad || !counts(result_.Linear(e, ranges))) continue;
    loads.push_back(id);
    DecideLayout(result_.buffers[e.buffer]);
  }
  if (loads.empty()) return {};
  // Reads of everything decide, or, where there are none, those that vary along the reduction.
  const auto is_full = [&](ExpressionId id) { return IsFullRead(result_.Linear(expressions()[id], ranges), ranges); };
  if (std::ranges::any_of(loads, is_full)) std::erase_if(loads, [&](ExpressionId id) { return !is_full(id); });
  int inner = 0;
  int outer = 0;
  for (const ExpressionId id : loads) {
    const Index read = result_.Linear(expressions()[id], ranges);
    bool strided = true;
    for (int i = kept.size(); i < static_cast<int>(ranges.size()); ++i) {
      if (ranges[static_cast<size_t>(i)].is(1)) continue;
      const int64_t stride = read.StrideOf(i).hint();
      strided = strided && (stride == 0 || stride > 1);
    }
    ++(strided ? outer : inner);
  }
  return SplitReduction(results, length, inner > outer, device_);
}

bool Lowering::IsFullRead(const Index& read, const std::vector<Extent>& ranges) {
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (!ranges[i].is(1) && !read.Uses(static_cast<int>(i))) return false;
  }
  return true;
}

bool Lowering::UsesReduced(const Index& read, int first, const std::vector<Extent>& ranges) {
  for (int i = first; i < static_cast<int>(ranges.size()); ++i) {
    if (read.Uses(i)) return true;
  }
  return false;
}

ExpressionId Lowering::BodyOfBlock(ExpressionId body, const Shape& kept, const Shape& reduced, Extent splits) {
  const Extent length = Product(reduced);
  const Extent block = (length + splits - 1) / splits;
  const int block_variable = kept.size();
  // First with one flat variable for all that is reduced, then that as block and place.
  std::vector<Extent> flat_ranges = RangesOf(kept);
  flat_ranges.push_back(length);
  std::vector<Index> flat = Identity(kept);
  for (const Index& index : ReshapeIndices(reduced, {length})) {
    flat.push_back(index.Substitute({Index::Variable(block_variable)}, flat_ranges));
  }
  const ExpressionId by_number = expressions().Substitute(body, flat, flat_ranges);
  std::vector<Extent> ranges = RangesOf(kept);
  ranges.push_back(splits);
  ranges.push_back(block);
  std::vector<Index> map = Identity(kept);
  map.push_back(Index::Variable(block_variable) * block + Index::Variable(block_variable + 1));
  return expressions().Substitute(by_number, map, ranges);
}

Value Lowering::ReduceInSteps(ReductionKind kind, ExpressionId body, const Shape& kept, const Shape& reduced,
                              DType type, const ReductionPlan& plan) {
  const Extent length = Product(reduced);
  const Extent splits = plan.splits;
  const Extent block = (length + splits - 1) / splits;
  Shape partial_sizes = kept;
  partial_sizes.Append(splits);
  const ExpressionId by_block = BodyOfBlock(body, kept, reduced, splits);
  const DType partial_type = IsHalf(type) ? DType::kFloat32 : type;
  const ReductionPlan inner = PlanOf(by_block, partial_sizes, {block});
  Value partial;
  if (inner.splits > 1) {
    partial = ReduceInSteps(kind, by_block, partial_sizes, {block}, partial_type, inner);
  } else {
    partial = Realized(AddReduction(kind, by_block, partial_sizes, {block}, partial_type, plan.hint));
  }
  Operation& first = result_.operations[buffer(partial).operation];
  first.unsplit_results = Product(kept);
  first.unsplit_length = length;
  first.length_in_blocks = length;
  std::vector<Extent> last_ranges = RangesOf(kept);
  last_ranges.push_back(splits);
  std::vector<Index> at = Identity(kept);
  at.push_back(Index::Variable(kept.size()));
  const ExpressionId last = LoadAt(partial, std::move(at), last_ranges);
  return Realized(AddReduction(kind, last, kept, {splits}, type, plan.hint));
}

void Lowering::Sum() {
  const int mask = static_cast<int>(node().integer[0].hint());
  const ExpressionId body = ReductionBody(in(0), mask, dtype());
  Define(Reduce(ReductionKind::kSum, body, sizes(), ReducedSizes(in(0).sizes, mask), dtype()));
}

void Lowering::Maximum() {
  const int mask = static_cast<int>(node().integer[0].hint());
  const ExpressionId body = ReductionBody(in(0), mask, dtype());
  Define(Reduce(ReductionKind::kMax, body, sizes(), ReducedSizes(in(0).sizes, mask), dtype()));
}

void Lowering::Mean() {
  const int mask = static_cast<int>(node().integer[0].hint());
  const DType type = IsHalf(dtype()) ? DType::kFloat32 : dtype();
  const ExpressionId body = ReductionBody(in(0), mask, type);
  Value sum = Reduce(ReductionKind::kSum, body, sizes(), ReducedSizes(in(0).sizes, mask), type);
  const Extent count = Product(ReducedSizes(in(0).sizes, mask));
  const ExpressionId total = LoadAt(sum, Identity(sizes()), RangesOf(sizes()));
  const ExpressionId denominator = expressions().IndexValue(Index(count), type);
  Define(Lazy(dtype(), sizes(), Cast(Call("truediv", {total, denominator}, type), dtype())));
}

void Lowering::VarMean() {
  const int mask = static_cast<int>(node().integer[0].hint());
  const Shape kept = node().results[0].sizes;
  const DType type = node().results[0].dtype;
  const Shape reduced = ReducedSizes(in(0).sizes, mask);
  const ExpressionId body = ReductionBody(in(0), mask, type);
  const ReductionPlan plan = PlanOf(body, kept, reduced);
  std::array<BufferId, 3> parts;
  for (BufferId& part : parts) part = AddReduction(ReductionKind::kWelford, body, kept, reduced, type, plan.hint);
  const Value mean = Realized(parts[0]);
  const Value squares = Realized(parts[1]);
  const ExpressionId m2 = LoadAt(squares, Identity(kept), RangesOf(kept));
  const ExpressionId count = expressions().Constant(static_cast<double>(Product(reduced).hint()), true, type);
  const ExpressionId zero = expressions().Constant(0, true, type);
  const ExpressionId divisor = Call("maximum", {zero, Call("sub", {count, zero}, type)}, type);
  parts_[current_] = {Lazy(type, kept, Call("truediv", {m2, divisor}, type)), mean};
}

void Lowering::OnlineSoftmax() {
  const int mask = static_cast<int>(node().integer[0].hint());
  const Shape kept = node().results[0].sizes;
  const DType type = node().results[0].dtype;
  const Shape reduced = ReducedSizes(in(0).sizes, mask);
  const ExpressionId body = ReductionBody(in(0), mask, type);
  const ReductionPlan plan = PlanOf(body, kept, reduced);
  if (plan.splits == 1) {
    parts_[current_] = MaximumAndSum(body, kept, reduced, type, plan.hint);
    return;
  }
  const Extent splits = plan.splits;
  Shape partial_sizes = kept;
  partial_sizes.Append(splits);
  const Extent block = (Product(reduced) + splits - 1) / splits;
  const ExpressionId by_block = BodyOfBlock(body, kept, reduced, splits);
  const std::vector<Value> partial = MaximumAndSum(by_block, partial_sizes, {block}, type, plan.hint);
  for (const Value& v : partial) result_.operations[buffer(v).operation].length_in_blocks = Product(reduced);
  // Of a block's maximum m and sum s, the exponential of m + log(s) is what the block adds.
  std::vector<Extent> ranges = RangesOf(kept);
  ranges.push_back(splits);
  std::vector<Index> at = Identity(kept);
  at.push_back(Index::Variable(kept.size()));
  const ExpressionId maximum = LoadAt(partial[0], at, ranges);
  const ExpressionId sum = LoadAt(partial[1], at, ranges);
  const ExpressionId combined = Call("add", {maximum, Call("log", {sum}, type)}, type);
  parts_[current_] = MaximumAndSum(combined, kept, {splits}, type, plan.hint);
}

std::vector<Value> Lowering::MaximumAndSum(ExpressionId body, const Shape& kept, const Shape& reduced, DType type,
                                           ReductionHint hint) {
  std::vector<Value> parts;
  for (int i = 0; i < 2; ++i) {
    parts.push_back(Realized(AddReduction(ReductionKind::kOnlineSoftmax, body, kept, reduced, type, hint)));
  }
  return parts;
}

}  // namespace tidemark::compile
