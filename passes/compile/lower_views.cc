#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "graph/base/check.h"
#include "passes/compile/lowering.h"

namespace tidemark::compile {

Value Lowering::Strided(const Value& v, const Shape& sizes, const Shape& strides, Extent offset) {
  return {.form = Value::Form::kStrided, .box = v.box, .sizes = sizes, .strides = strides, .offset = offset};
}

Value Lowering::Indexed(const Value& v, const Shape& sizes, std::vector<Index> map) {
  if (v.form == Value::Form::kIndexed) {
    std::vector<Index> composed;
    for (const Index& m : v.map) composed.push_back(m.Substitute(map, RangesOf(sizes)));
    map = std::move(composed);
  }
  return {.form = Value::Form::kIndexed,
          .box = v.box,
          .sizes = sizes,
          .map = std::move(map),
          .strides = v.strides,
          .offset = v.offset};
}

void Lowering::FixForView(const Value& v) {
  if (v.form == Value::Form::kPlain) DecideLayout(buffer(v));
}

Value Lowering::View(const Value& v, const Shape& sizes) {
  if (v.sizes == sizes) return v;
  if (!IsStorage(v)) return Indexed(v, sizes, ReshapeIndices(v.sizes, sizes));
  if (SameStrides(StridesOf(v), Contiguous(v.sizes), v.sizes)) {
    if (v.form == Value::Form::kPlain && !buffer(v).is_fixed) Fix(buffer(v), Contiguous(v.sizes), false);
    return Strided(v, sizes, Contiguous(sizes), v.offset);
  }
  const std::optional<Shape> strides = StridesOfReshape(v.sizes, StridesOf(v), sizes);
  if (strides.has_value()) return Strided(v, sizes, *strides, v.offset);
  return Indexed(v, sizes, ReshapeIndices(v.sizes, sizes));
}

Value Lowering::Permute(const Value& v, int64_t order) {
  Shape sizes;
  Shape strides;
  std::vector<Index> map(static_cast<size_t>(v.sizes.size()));
  if (IsStorage(v)) FixForView(v);
  for (int i = 0; i < v.sizes.size(); ++i) {
    const int from = static_cast<int>(order >> (4 * i) & 15);
    sizes.Append(v.sizes[from]);
    if (IsStorage(v)) strides.Append(StridesOf(v)[from]);
    map[static_cast<size_t>(from)] = v.sizes[from].is(1) ? Index() : Index::Variable(i);
  }
  return IsStorage(v) ? Strided(v, sizes, strides, v.offset) : Indexed(v, sizes, std::move(map));
}

Value Lowering::Expand(const Value& v, const Shape& sizes) {
  if (v.sizes == sizes) return v;
  RealizeIfStretched(v, sizes);
  const int leading = sizes.size() - v.sizes.size();
  if (IsStorage(v)) {
    FixForView(v);
    Shape strides;
    for (int i = 0; i < sizes.size(); ++i) {
      const bool stretched = i < leading || (v.sizes[i - leading].is(1) && !sizes[i].is(1));
      strides.Append(stretched ? Extent(0) : StridesOf(v)[i - leading]);
    }
    return Strided(v, sizes, strides, v.offset);
  }
  std::vector<Index> map;
  for (int i = 0; i < v.sizes.size(); ++i) map.push_back(v.sizes[i].is(1) ? Index() : Index::Variable(i + leading));
  return Indexed(v, sizes, std::move(map));
}

Value Lowering::Slice(const Value& v, int dim, Extent begin, Extent length) {
  Shape sizes = v.sizes;
  sizes[dim] = length;
  if (v.sizes == sizes) return v;
  if (IsStorage(v)) {
    FixForView(v);
    return Strided(v, sizes, StridesOf(v), v.offset + StridesOf(v)[dim] * begin);
  }
  std::vector<Index> map = Identity(sizes);
  map[static_cast<size_t>(dim)] = map[static_cast<size_t>(dim)].Pinned(true) + Index(begin);
  return Indexed(v, sizes, std::move(map));
}

BufferView Lowering::RealizeInput(Value& v) {
  if (v.form == Value::Form::kStrided) return {box(v).buffer, v.sizes, v.strides, v.offset};
  Realize(v.box);
  if (v.form == Value::Form::kPlain) return {box(v).buffer, v.sizes, {}, 0};
  if (MakeStrided(v)) return {box(v).buffer, v.sizes, v.strides, v.offset};
  const Value copy = Copy(v);  // this call's: the next one makes its own
  return {box(copy).buffer, v.sizes, {}, 0};
}

bool Lowering::MakeStrided(Value& v) {
  if (!box(v).realized()) return false;
  FreezeLayout(buffer(v));
  const Shape& shown = v.strides.empty() ? buffer(v).strides : v.strides;
  Index linear(v.offset);
  for (int i = 0; i < shown.size(); ++i) linear = linear + v.map[static_cast<size_t>(i)] * shown[i];
  linear = linear.Pinned(false);
  linear.Normalize(RangesOf(v.sizes));
  if (!linear.IsAffine()) return false;
  Shape strides;
  for (int i = 0; i < v.sizes.size(); ++i) strides.Append(linear.StrideOf(i));
  v = Strided(v, v.sizes, strides, linear.offset());
  return true;
}

void Lowering::AfterNode() {
  Value& v = values_[current_];
  const bool is_output = is_output_[current_.index()];
  if (is_output) {
    if (v.form != Value::Form::kPlain) Realize(v.box);
    RequireOutputStrides(v);
  }
  const size_t users = users_[current_].size() + (is_output ? 1 : 0);
  if (users > 1) {
    for (const NodeId user : users_[current_]) {
      const OpKind kind = graph_.nodes[user].kind;
      if (!NeedsRealizedInputs(kind)) continue;
      RealizeHint(v);
      if (kind == OpKind::kMm) RequireStrideOrder(v, node().type().strides, true);
    }
    const bool lazy = v.form == Value::Form::kPlain && !box(v).realized();
    if (is_output && lazy) {
      const Expressions::Counts counts = expressions().Count(box(v).body);
      if (counts.loads > 0 || counts.operations > kOperationsAtMost) Realize(v.box);
    }
    MarkReuse(v);
  }
  if (!box(v).realized()) {
    const Expressions::Counts counts = expressions().Count(box(v).body);
    if (counts.loads > kReadsAtMost || counts.operations > kOperationsAtMost) RealizeHint(v);
  }
}

void Lowering::RealizeHint(const Value& v) {
  if (!box(v).realized() && expressions().Count(box(v).body).nontrivial_loads > 1) Realize(v.box);
}

void Lowering::MarkReuse(const Value& v) {
  if (box(v).realized()) return;
  const Expressions::Counts counts = expressions().Count(box(v).body);
  if (counts.operations > kOperationsAtMost || counts.loads > kReadsOfReused) Realize(v.box);
}

void Lowering::RequireOutputStrides(Value& v) {
  const Shape& strides = node().type().strides;
  if (strides.empty()) return;
  const bool visible = std::ranges::find(is_visible_, current_) != is_visible_.end();
  const bool is_view = v.form != Value::Form::kPlain || IsViewNode(node().kind);
  if (is_view) return RequireStrideOrder(v, strides, !visible);
  RequireExactStrides(v, strides, !visible);
}

bool Lowering::IsViewNode(OpKind kind) {
  return kind == OpKind::kView || kind == OpKind::kPermute || kind == OpKind::kExpand || kind == OpKind::kSlice ||
         kind == OpKind::kUnsqueeze || kind == OpKind::kSqueeze;
}

void Lowering::RequireStrideOrder(Value& v, const Shape& like, bool allow_padding) {
  const Extent elements = Product(v.sizes);
  if (elements.is(0) || elements.is(1)) return;
  const std::vector<int> order = StrideOrder(like);
  if (IsStorage(v)) {
    if (v.form == Value::Form::kPlain && !buffer(v).is_fixed) {
      Buffer& b = buffer(v);
      if (IsStrideOrdered(b.strides, b.sizes, order)) return FreezeLayout(b);
      return Fix(b, StrideOrdered(b.sizes, order), allow_padding);
    }
    if (IsStrideOrdered(StridesOf(v), v.sizes, order)) return;
  }
  if (v.form == Value::Form::kIndexed && MakeStrided(v)) return RequireStrideOrder(v, like, allow_padding);
  v = Copy(v);
  Buffer& b = buffer(v);
  Fix(b, StrideOrdered(b.sizes, order), allow_padding);
}

bool Lowering::AreStrides(const Shape& a, const Shape& b, const Shape& sizes) {
  bool same = true;
  bool same_now = true;
  for (int i = 0; i < sizes.size(); ++i) {
    if (sizes[i].is(1)) continue;
    same = same && a[i].hint() == b[i].hint();
    same_now = same_now && a[i].now() == b[i].now();
  }
  result_.guards_hold = result_.guards_hold && same == same_now;
  return same;
}

void Lowering::RequireExactStrides(Value& v, const Shape& strides, bool allow_padding) {
  if (IsStorage(v)) {
    if (v.form == Value::Form::kPlain && !buffer(v).is_fixed) return Fix(buffer(v), strides, allow_padding);
    if (SameStrides(StridesOf(v), strides, v.sizes)) return;
    if (allow_padding && SameStrides(StridesOf(v), Padded(strides, buffer(v)), v.sizes)) return;
  }
  if (v.form == Value::Form::kIndexed && MakeStrided(v)) return RequireExactStrides(v, strides, allow_padding);
  v = Copy(v);
  Fix(buffer(v), strides, allow_padding);
}

}  // namespace tidemark::compile
