#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "graph/base/check.h"
#include "passes/compile/lowering.h"

namespace tidemark::compile {

bool Lowering::IsPointwise(OpKind kind) {
  switch (kind) {
    case OpKind::kToCopy:
    case OpKind::kClone:
    case OpKind::kAdd:
    case OpKind::kSub:
    case OpKind::kMul:
    case OpKind::kDiv:
    case OpKind::kNeg:
    case OpKind::kExp:
    case OpKind::kErf:
    case OpKind::kLog:
    case OpKind::kRsqrt:
    case OpKind::kSigmoid:
    case OpKind::kTanh:
    case OpKind::kRelu:
    case OpKind::kSin:
    case OpKind::kCos:
    case OpKind::kLogicalAnd:
    case OpKind::kPow:
    case OpKind::kCompare:
    case OpKind::kWhere:
      return true;
    default:
      return false;
  }
}

bool Lowering::IsPointwiseUse(NodeId user, bool or_cat) const {
  const OpKind kind = graph_.nodes[user].kind;
  if (IsViewNode(kind) || kind == OpKind::kGetItem || kind == OpKind::kSplit) {
    if (is_output_[user.index()]) return false;
    return std::ranges::all_of(users_[user], [&](NodeId next) { return IsPointwiseUse(next, or_cat); });
  }
  return IsPointwise(kind) || (or_cat && (kind == OpKind::kCat || kind == OpKind::kConstantPad));
}

bool Lowering::IsBetterLoaded(const Value& v) {
  if (!box(v).realized()) return true;
  return buffer(v).is_fixed || (buffer(v).kind != Buffer::Kind::kLoops && buffer(v).kind != Buffer::Kind::kExtern);
}

bool Lowering::ComesFromReduction(BufferId id) const {
  const Buffer& b = result_.buffers[id];
  if (b.kind != Buffer::Kind::kLoops || !b.operation.valid()) return false;
  const Operation& op = result_.operations[b.operation];
  if (op.reduction == ReductionKind::kScan) return false;
  return op.is_reduction() || (op.kind == Operation::Kind::kLoops && ReadsReduction(op.body));
}

bool Lowering::ReadsReduction(ExpressionId body) const {
  return std::ranges::any_of(result_.expressions.Nodes(body), [&](ExpressionId id) {
    const Expression& e = result_.expressions[id];
    return e.kind == ExpressionKind::kLoad && ComesFromReduction(e.buffer);
  });
}

bool Lowering::HasSharedOperand(const std::vector<Value>& parts) {
  for (size_t i = 0; i < node().inputs.size(); ++i) {
    const NodeId input = node().inputs[i];
    if (users_[input].size() + (is_output_[input.index()] ? 1 : 0) <= 1) continue;
    const bool pointwise = std::ranges::any_of(
        users_[input], [&](NodeId user) { return user != current_ && IsPointwiseUse(user, false); });
    const bool lazy = !boxes_[parts[i].box].realized();
    if (pointwise || lazy) return true;
  }
  return false;
}

void Lowering::Concatenate(std::vector<Value> parts, int dim) {
  const bool is_output = is_output_[current_.index()];
  const bool pointwise_uses =
      !is_output && std::ranges::all_of(users_[current_], [&](NodeId user) { return IsPointwiseUse(user, true); });
  bool any = false;
  bool all = true;
  bool reduction = false;
  for (const Value& v : parts) {
    const bool better = IsBetterLoaded(v);
    any = any || better;
    all = all && better;
    const bool reads = box(v).realized() ? ComesFromReduction(box(v).buffer) : ReadsReduction(box(v).body);
    reduction = reduction || reads;
  }
  const bool pointwise = parts.size() <= kPointwiseCatAtMost && !HasSharedOperand(parts) &&
                         ((any && pointwise_uses) || (all && !reduction));
  pointwise ? PointwiseCat(parts, dim) : WriteInPlaces(std::move(parts), dim);
}

void Lowering::WriteInPlaces(std::vector<Value> parts, int dim) {
  Buffer whole;
  whole.kind = Buffer::Kind::kConcat;
  whole.dtype = dtype();
  whole.sizes = sizes();
  whole.strides = options_.is_symbolic && DependsOnLength(whole) ? Contiguous(sizes())
                                                                 : PadStrides(Contiguous(sizes()), sizes(), dtype());
  whole.is_fixed = true;
  whole.node = current_;
  const BufferId id = result_.buffers.Add(whole);
  Operation op;
  op.kind = Operation::Kind::kConcat;
  Extent begin = 0;
  for (Value& v : parts) {
    if (v.form == Value::Form::kPlain) Realize(v.box);
    const bool free = v.form == Value::Form::kPlain && !IsBetterLoaded(v);
    if (!free) v = Copy(v);
    Buffer& part = buffer(v);
    part.within = id;
    part.offset = begin * whole.strides[dim];
    part.strides = whole.strides;
    part.is_fixed = true;
    op.operands.push_back({box(v).buffer, {}, {}, 0});
    begin += v.sizes[dim];
  }
  result_.buffers[id].name = fmt::format("buf{}", buffer_count_++);
  AddOperation(std::move(op), id);
  Define(Realized(id));
}

void Lowering::Cat() {
  std::vector<Value> parts;
  for (size_t i = 0; i < node().inputs.size(); ++i) parts.push_back(in(i));
  Concatenate(std::move(parts), static_cast<int>(node().integer[0].hint()));
}

void Lowering::Pad() {
  const int last = sizes().size() - 1;
  if (node().integer[0].is(1)) {
    const std::vector<Extent> ranges = RangesOf(sizes());
    const std::vector<Index> at = Identity(sizes());
    const ExpressionId position = expressions().IndexValue(at[static_cast<size_t>(last)], DType::kInt64);
    const ExpressionId bound = expressions().IndexValue(Index(in(0).sizes[last]), DType::kInt64);
    const ExpressionId mask = Call("lt", {position, bound}, DType::kBool);
    return Define(Lazy(dtype(), sizes(), Masked(mask, LoadAt(in(0), at, ranges))));
  }
  Shape rest = in(0).sizes;
  rest[last] = sizes()[last] - in(0).sizes[last];
  const bool is_integer = dtype() == DType::kInt64;
  Value fill = Lazy(dtype(), rest, expressions().Constant(node().number, is_integer, dtype()));
  Concatenate({in(0), fill}, last);
}

void Lowering::SliceScatter() {
  const int dim = static_cast<int>(node().integer[0].hint());
  const Extent begin = node().integer[1];
  const Extent end = node().integer[2];
  const std::vector<Extent> ranges = RangesOf(sizes());
  std::vector<Index> at = Identity(sizes());
  const ExpressionId position = expressions().IndexValue(at[static_cast<size_t>(dim)], DType::kInt64);
  std::vector<ExpressionId> conditions;
  if (!begin.is(0)) {
    conditions.push_back(Call("ge", {position, expressions().IndexValue(Index(begin), DType::kInt64)}, DType::kBool));
  }
  if (!(end == sizes()[dim])) {
    conditions.push_back(Call("lt", {position, expressions().IndexValue(Index(end), DType::kInt64)}, DType::kBool));
  }
  const ExpressionId old = LoadAt(in(0), at, ranges);
  at[static_cast<size_t>(dim)] = at[static_cast<size_t>(dim)] + Index(Extent(0) - begin);
  const ExpressionId source = LoadAt(in(1), at, ranges);
  if (conditions.empty()) return Define(Lazy(dtype(), sizes(), source));
  const ExpressionId mask =
      conditions.size() == 1 ? conditions[0] : Call("and_", {conditions[0], conditions[1]}, DType::kBool);
  Define(Lazy(dtype(), sizes(), Call("where", {mask, Masked(mask, source), old}, dtype())));
}

void Lowering::LookUp() {
  const std::vector<Extent> ranges = RangesOf(sizes());
  std::vector<Index> at;
  std::vector<ExpressionId> indirect;
  for (size_t i = 1; i < node().inputs.size(); ++i) {
    const ExpressionId value = LoadBroadcast(in(i), sizes());
    if (expressions()[value].kind == ExpressionKind::kIndexValue) {
      at.push_back(expressions()[value].indices[0]);
      continue;
    }
    at.push_back(Index::Variable(kIndirectVariable + static_cast<int>(indirect.size())));
    indirect.push_back(value);
  }
  Define(Lazy(dtype(), sizes(), LoadAt(in(0), std::move(at), ranges, indirect)));
}

void Lowering::CumulativeSum() {
  const int last = sizes().size() - 1;
  Shape kept;
  for (int i = 0; i < last; ++i) kept.Append(sizes()[i]);
  const ExpressionId body = Cast(LoadAt(in(0), Identity(sizes()), RangesOf(sizes())), dtype());
  if (sizes()[last].is(1)) return Define(Lazy(dtype(), sizes(), body));
  const BufferId b = AddBuffer(Buffer::Kind::kLoops, dtype(), sizes());
  Operation op;
  op.sizes = kept;
  op.reduced = {sizes()[last]};
  op.body = body;
  op.reduction = ReductionKind::kScan;
  AddOperation(std::move(op), b);
  Define(Realized(b));
}

void Lowering::PointwiseCat(std::vector<Value>& parts, int dim) {
  const std::vector<Extent> ranges = RangesOf(sizes());
  const ExpressionId position = expressions().IndexValue(Identity(sizes())[static_cast<size_t>(dim)], DType::kInt64);
  std::vector<ExpressionId> masks;
  std::vector<ExpressionId> loads;
  std::vector<ExpressionId> unused;
  Extent begin = 0;
  const size_t count = parts.size();
  for (size_t i = 0; i < count; ++i) {
    const Extent end = begin + parts[i].sizes[dim];
    const ExpressionId low =
        i == 0 ? expressions().Constant(0, true, DType::kInt64) : expressions().IndexValue(Index(begin), DType::kInt64);
    const ExpressionId high = expressions().IndexValue(Index(end), DType::kInt64);
    const ExpressionId after = Call("ge", {position, low}, DType::kBool);
    const ExpressionId before = Call("lt", {position, high}, DType::kBool);
    unused.insert(unused.end(), {after, before});
    masks.push_back(i == 0 ? before : i == count - 1 ? after : Call("and_", {after, before}, DType::kBool));
    loads.push_back(Masked(masks.back(), Shifted(parts[i], dim, begin, ranges)));
    begin = end;
  }
  ExpressionId result = loads.back();
  for (size_t i = count - 1; i-- > 0;) {
    std::vector<ExpressionId> operands = {masks[i], loads[i], result};
    // The unused conditions count as operations, too.
    if (i == 0) operands.insert(operands.end(), unused.begin(), unused.end());
    result = Call("where", std::move(operands), dtype());
  }
  Define(Lazy(dtype(), sizes(), result));
}

ExpressionId Lowering::Masked(ExpressionId mask, ExpressionId body) {
  return Call("masked", {mask, body}, expressions()[body].dtype);
}

ExpressionId Lowering::Shifted(Value& v, int dim, Extent begin, const std::vector<Extent>& ranges) {
  std::vector<Index> at = Identity(sizes());
  Index& index = at[static_cast<size_t>(dim)];
  index = index + Index(Extent(0) - begin);
  const ExpressionId loaded = LoadAt(v, std::move(at), ranges);
  return MarkOpaque(loaded);
}

ExpressionId Lowering::MarkOpaque(ExpressionId root) {
  std::vector<std::pair<ExpressionId, ExpressionId>> now;
  const auto find = [&](ExpressionId old) {
    return std::ranges::find(now, old, &std::pair<ExpressionId, ExpressionId>::first)->second;
  };
  for (const ExpressionId id : expressions().Nodes(root)) {
    Expression e = expressions()[id];
    for (ExpressionId& operand : e.operands) operand = find(operand);
    if (e.kind == ExpressionKind::kLoad) e.is_opaque = true;
    now.emplace_back(id, expressions().Add(std::move(e)));
  }
  return find(root);
}

void Lowering::IndexPut() {
  Value& target = in(0);
  Value& mask = in(1);
  Value& rows = in(2);
  Value& values = in(3);
  const Value copy = Copy(target);
  mutated_.push_back(buffer(copy).name);
  DecideLayout(buffer(copy));
  const Shape loops = values.sizes;
  const std::vector<Extent> ranges = RangesOf(loops);
  std::vector<Index> at = Identity(loops);
  const ExpressionId value = LoadAt(values, at, ranges);
  const ExpressionId kept = LoadBroadcast(mask, loops);
  at.pop_back();
  const BufferId mutation = AddBuffer(Buffer::Kind::kMutation, dtype(), sizes());
  result_.buffers[mutation].mutated = box(copy).buffer;
  result_.buffers[mutation].strides = buffer(copy).strides;
  result_.buffers[mutation].is_fixed = true;
  Operation op;
  op.kind = Operation::Kind::kScatter;
  op.sizes = loops;
  const ExpressionId zero = expressions().Constant(0, true, dtype());
  op.body = Call("where", {kept, Cast(value, dtype()), zero}, dtype());
  op.row = LoadAt(rows, std::move(at), ranges);
  AddOperation(std::move(op), mutation);
  Define(Realized(mutation));
}

}  // namespace tidemark::compile
