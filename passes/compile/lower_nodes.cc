#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "graph/base/check.h"
#include "passes/compile/builder.h"
#include "passes/compile/lowering.h"

namespace tidemark::compile {

void Lowering::Pointwise(const Compute& compute) {
  std::vector<ExpressionId> operands;
  for (const NodeId input : node().inputs) operands.push_back(LoadBroadcast(values_[input], sizes()));
  Define(Lazy(dtype(), sizes(), compute(operands)));
}

ExpressionId Lowering::Call(std::string_view name, std::vector<ExpressionId> operands, DType type) {
  return expressions().Call(name, std::move(operands), type);
}

void Lowering::Arithmetic(std::string_view name, DType type) {
  Pointwise([&](const std::vector<ExpressionId>& given) {
    std::vector<ExpressionId> operands;
    for (const ExpressionId e : given) operands.push_back(Cast(e, type));
    if (node().has_number) operands.push_back(NumberAs(type));
    if (node().kind == OpKind::kSub && node().integer[0].is(1)) std::swap(operands[0], operands[1]);
    return Call(name, std::move(operands), dtype());
  });
}

void Lowering::Power() {
  const auto exponent = static_cast<int>(node().number);
  CHECK(exponent == node().number && exponent > 0);
  Pointwise([&](const std::vector<ExpressionId>& operands) {
    const std::function<ExpressionId(int)> power = [&](int n) -> ExpressionId {
      if (n == 1) return operands[0];
      const ExpressionId half = power(n / 2);
      const ExpressionId square = Call("mul", {half, half}, dtype());
      return n % 2 == 1 ? Call("mul", {square, operands[0]}, dtype()) : square;
    };
    return power(exponent);
  });
}

void Lowering::Divide() {
  if (!node().has_number) return Arithmetic("truediv", dtype());
  Pointwise([&](const std::vector<ExpressionId>& operands) {
    const ExpressionId inverse = expressions().Constant(1 / node().number, false, dtype());
    return Call("mul", {Cast(operands[0], dtype()), inverse}, dtype());
  });
}

void Lowering::Compare() {
  DType type = box(in(0)).dtype;
  if (node().inputs.size() > 1) type = std::max(type, box(in(1)).dtype);
  Arithmetic(NameOf(static_cast<Comparison>(node().integer[0].hint())), type);
}

void Lowering::Where() {
  Pointwise([&](const std::vector<ExpressionId>& operands) {
    return Call("where", {operands[0], Cast(operands[1], dtype()), Cast(operands[2], dtype())}, dtype());
  });
}

void Lowering::Embedding() {
  Value& weight = in(0);
  Value& indices = in(1);
  const std::vector<Extent> ranges = RangesOf(sizes());
  std::vector<Index> at = Identity(sizes());
  const Index column = at.back();
  at.pop_back();
  const ExpressionId row = LoadAt(indices, std::move(at), ranges);
  Define(Lazy(dtype(), sizes(), LoadAt(weight, {Index::Variable(kIndirectVariable), column}, ranges, {row})));
}

void Lowering::Gather() {
  const std::vector<Extent> ranges = RangesOf(sizes());
  std::vector<Index> at = Identity(sizes());
  const ExpressionId index = LoadAt(in(1), at, ranges);
  at.back() = Index::Variable(kIndirectVariable);
  Define(Lazy(dtype(), sizes(), LoadAt(in(0), std::move(at), ranges, {index})));
}

void Lowering::Random() {
  const std::vector<Extent> ranges = RangesOf(sizes());
  const ExpressionId seed = LoadAt(in(0), {}, ranges);
  Index linear;
  const Shape strides = Contiguous(sizes());
  const std::vector<Index> at = Identity(sizes());
  for (int i = 0; i < sizes().size(); ++i) linear = linear + at[static_cast<size_t>(i)] * strides[i];
  linear.Normalize(ranges);
  const ExpressionId index = expressions().IndexValue(linear, DType::kInt32);
  Define(Lazy(dtype(), sizes(), Call("rand", {seed, index}, dtype())));
  Realize(values_[current_].box);
}

void Lowering::Seeds() {
  const BufferId b = AddBuffer(Buffer::Kind::kExtern, dtype(), sizes());
  result_.buffers[b].is_fixed = true;
  Operation op;
  op.kind = Operation::Kind::kExtern;
  op.call = OpKind::kSeeds;
  AddOperation(std::move(op), b);
  Define(Realized(b));
}

void Lowering::LookupSeed() {
  const ExpressionId seed = AddLoad(box(in(0)).buffer, {Index(node().integer[0])}, true, {});
  Define(Lazy(dtype(), sizes(), seed));
}

bool Lowering::LowerView() {
  switch (node().kind) {
    case OpKind::kView:
    case OpKind::kUnsqueeze:
    case OpKind::kSqueeze:
      Define(View(in(0), sizes()));
      return true;
    case OpKind::kPermute:
      Define(Permute(in(0), node().integer[0].hint()));
      return true;
    case OpKind::kExpand:
      Define(Expand(in(0), sizes()));
      return true;
    case OpKind::kSlice: {
      const int dim = static_cast<int>(node().integer[0].hint());
      Define(Slice(in(0), dim, node().integer[1], sizes()[dim]));
      return true;
    }
    case OpKind::kSplit: {
      const int dim = static_cast<int>(node().integer[0].hint());
      Extent begin = 0;
      for (const TensorType& type : node().results) {
        parts_[current_].push_back(Slice(in(0), dim, begin, type.sizes[dim]));
        begin += type.sizes[dim];
      }
      return true;
    }
    case OpKind::kGetItem:
      Define(parts_[node().inputs[0]][static_cast<size_t>(node().integer[0].hint())]);
      return true;
    default:
      return false;
  }
}

bool Lowering::LowerPointwise() {
  const auto simple = [this](std::string_view name) {
    Arithmetic(name, dtype());
    return true;
  };
  switch (node().kind) {
    case OpKind::kToCopy:
      Pointwise([&](const std::vector<ExpressionId>& operands) { return Cast(operands[0], dtype()); });
      return true;
    case OpKind::kClone:
      Pointwise([&](const std::vector<ExpressionId>& operands) { return operands[0]; });
      return true;
    case OpKind::kFull:
      Define(Lazy(dtype(), sizes(), NumberAs(dtype())));
      return true;
    case OpKind::kArange: {
      const Index index = Identity(sizes())[0] + Index(static_cast<int64_t>(node().number));
      Define(Lazy(dtype(), sizes(), expressions().IndexValue(index, dtype())));
      return true;
    }
    case OpKind::kAdd:
      return simple("add");
    case OpKind::kSub:
      return simple("sub");
    case OpKind::kMul:
      return simple("mul");
    case OpKind::kNeg:
      return simple("neg");
    case OpKind::kExp:
      return simple("exp");
    case OpKind::kErf:
      return simple("erf");
    case OpKind::kLog:
      return simple("log");
    case OpKind::kRsqrt:
      return simple("rsqrt");
    case OpKind::kSigmoid:
      return simple("sigmoid");
    case OpKind::kTanh:
      return simple("tanh");
    case OpKind::kRelu:
      return simple("relu");
    case OpKind::kSin:
      return simple("sin");
    case OpKind::kCos:
      return simple("cos");
    case OpKind::kLogicalAnd:
      return simple("bitwise_and");
    case OpKind::kPow:
      Power();
      return true;
    case OpKind::kDiv:
      Divide();
      return true;
    case OpKind::kCompare:
      Compare();
      return true;
    case OpKind::kWhere:
      Where();
      return true;
    default:
      return false;
  }
}

void Lowering::LowerNode() {
  if (LowerView() || LowerPointwise()) return;
  switch (node().kind) {
    case OpKind::kEmbedding:
      return Embedding();
    case OpKind::kGather:
      return Gather();
    case OpKind::kRand:
      return Random();
    case OpKind::kSeeds:
      return Seeds();
    case OpKind::kLookupSeed:
      return LookupSeed();
    case OpKind::kCat:
      return Cat();
    case OpKind::kConstantPad:
      return Pad();
    case OpKind::kSliceScatter:
      return SliceScatter();
    case OpKind::kIndex:
      return LookUp();
    case OpKind::kCumsum:
      return CumulativeSum();
    case OpKind::kIndexPutAccumulate:
      return IndexPut();
    case OpKind::kSum:
      return Sum();
    case OpKind::kAmax:
      return Maximum();
    case OpKind::kMean:
      return Mean();
    case OpKind::kVarMean:
      return VarMean();
    case OpKind::kOnlineSoftmax:
      return OnlineSoftmax();
    case OpKind::kMm:
    case OpKind::kAddmm:
    case OpKind::kBmm:
      return Product2();
    case OpKind::kFlashForward:
    case OpKind::kFlashBackward:
    case OpKind::kEfficientForward:
    case OpKind::kEfficientBackward:
      return Attention();
    default:
      CHECK(false && "an operator without a lowering");
  }
}

}  // namespace tidemark::compile
