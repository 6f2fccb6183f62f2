#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "graph/base/check.h"
#include "passes/compile/lowering.h"

namespace tidemark::compile {

void Lowering::Product2() {
  // addmm(bias, x, w): x and w come first.
  std::vector<size_t> order(node().inputs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (node().kind == OpKind::kAddmm) order = {1, 2, 0};
  std::vector<BufferView> operands(order.size());
  for (const size_t i : order) operands[i] = RealizeInput(in(i));
  const BufferId b = AddBuffer(Buffer::Kind::kExtern, dtype(), sizes());
  Operation op;
  op.kind = Operation::Kind::kExtern;
  op.call = node().kind;
  op.operands = std::move(operands);
  AddOperation(std::move(op), b);
  Define(Realized(b));
}

BufferView Lowering::AlignedOperand(size_t i) {
  if (in(i).form == Value::Form::kPlain) {
    AlignOperand(i, in(i));
    return RealizeInput(in(i));
  }
  Value v = in(i);
  AlignOperand(i, v);
  if (v.box == in(i).box) {
    in(i) = v;
  } else if (in(i).form == Value::Form::kIndexed) {
    MakeStrided(in(i));  // the copy is this call's, but what was copied is strided for all who come later
  }
  return RealizeInput(v);
}

void Lowering::AlignOperand(size_t i, Value& v) {
  const int dims = v.sizes.size();
  if ((dims != 3 && dims != 4) || IsAligned(v)) return;
  const Shape& given = graph_.nodes[node().inputs[i]].type().strides;
  if (node().kind == OpKind::kEfficientForward && i == 3) return AlignMask(v, given);
  if (v.form != Value::Form::kPlain && !IsMultiple(v.sizes.back()) && IsMultiple(box(v).sizes.back())) return;
  const bool last_first = StrideOrder(given)[static_cast<size_t>(dims - 1)] == 0;
  Shape like = last_first ? given : Contiguous(v.sizes);
  const size_t result = node().inputs.size() % 2 == 1 ? 5 : 4;
  if (node().kind == OpKind::kEfficientBackward && (i == 0 || i == result)) {
    like = {v.sizes[1] * v.sizes[2] * v.sizes[3], v.sizes[3], v.sizes[1] * v.sizes[3], 1};
  }
  RequireStrideOrder(v, like, false);
}

bool Lowering::IsAligned(const Value& v) {
  if (!IsStorage(v)) return false;
  const Shape strides = StridesOf(v);
  const auto is_aligned = [&](const Dims& at) {
    for (int i = 0; i + 1 < at.size(); ++i) {
      if (at[i] % kAttentionAlignment != 0) return false;
    }
    return strides.back().is(1) || v.sizes.back().is(1);
  };
  const bool aligned = is_aligned(strides.Hint());
  result_.guards_hold = result_.guards_hold && aligned == is_aligned(strides.Now());
  return aligned;
}

void Lowering::AlignMask(Value& v, const Shape& given) {
  const int dims = v.sizes.size();
  Shape strides = v.sizes;
  strides[dims - 1] = 1;
  Extent stride = 1;
  for (int i = dims - 2; i >= 0; --i) {
    if (!strides[i + 1].is(0)) stride *= v.sizes[i + 1];
    if (given[i].is(0) && IsMultiple(strides[i + 1])) {
      strides[i] = 0;
      continue;
    }
    stride = (stride + (kAttentionAlignment - 1)) / kAttentionAlignment * kAttentionAlignment;
    strides[i] = stride;
  }
  if (v.form == Value::Form::kIndexed && MakeStrided(v) && AreStrides(v.strides, strides, v.sizes)) return;
  Shape small = v.sizes;
  for (int i = 0; i < dims; ++i) {
    if (strides[i].is(0) && !v.sizes[i].is(1)) small[i] = 1;
  }
  const Shape whole = v.sizes;
  for (int i = 0; i < dims; ++i) {
    if (!(small[i] == whole[i])) v = Slice(v, i, 0, 1);
  }
  v = Copy(v);
  Fix(buffer(v), strides, false);
  v = Strided(v, whole, strides, 0);
}

void Lowering::Attention() {
  Operation op;
  op.kind = Operation::Kind::kExtern;
  op.call = node().kind;
  for (size_t i = 0; i < node().inputs.size(); ++i) {
    op.operands.push_back(AlignedOperand(i));
  }
  const BufferId tuple = AddBuffer(Buffer::Kind::kTuple, DType::kFloat32, {});
  result_.buffers[tuple].is_fixed = true;
  AddOperation(std::move(op), tuple);
  // Forward flash has five results that are tensors, of which a mask for debugging is never read.
  const std::vector<TensorType>& types = node().results;
  for (size_t i = 0; i < types.size(); ++i) {
    parts_[current_].emplace_back();
    const bool is_tensor = node().kind != OpKind::kFlashForward || i < 2 || i >= 6;
    const bool is_bias_gradient = node().kind == OpKind::kEfficientBackward && i == 3;
    if (!is_tensor || is_bias_gradient) continue;
    const BufferId part = AddBuffer(Buffer::Kind::kPart, types[i].dtype, types[i].sizes);
    result_.buffers[part].strides = types[i].strides;
    result_.buffers[part].is_fixed = true;
    Operation pick;
    pick.kind = Operation::Kind::kPart;
    pick.call = node().kind;
    pick.part = i;
    pick.operands = {{tuple, {}, {}, 0}};
    AddOperation(std::move(pick), part);
    parts_[current_].back() = Realized(part);
  }
}

}  // namespace tidemark::compile
