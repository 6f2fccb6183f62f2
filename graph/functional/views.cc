#include <algorithm>
#include <array>

#include "graph/autograd.h"
#include "graph/base/check.h"
#include "graph/functional.h"

namespace tidemark {
namespace {

int64_t FromEnd(int64_t dim, int dims) { return dim < 0 ? dim + dims : dim; }

// Gradients of views.

void ReshapeGradient(Node& n, Gradients& in, Gradients& out) {
  if (n.Wants(0) && in[0].defined()) out[0] = Reshape(in[0], n.data.sizes);
}
constexpr NodeType kViewBackward = {"ViewBackward0", &ReshapeGradient};
constexpr NodeType kUnsafeViewBackward = {"UnsafeViewBackward0", &ReshapeGradient};

void TransposeGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0) || !in[0].defined()) return;
  out[0] = Transpose(in[0], static_cast<int>(n.data.integer[0]), static_cast<int>(n.data.integer[1]));
}
constexpr NodeType kTransposeBackward = {"TransposeBackward0", &TransposeGradient};
constexpr NodeType kTBackward = {"TBackward0", &TransposeGradient};

void PermuteGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0) || !in[0].defined()) return;
  Dims inverse = n.data.sizes;
  for (int i = 0; i < inverse.size(); ++i) inverse[static_cast<int>(n.data.sizes[i])] = i;
  out[0] = Permute(in[0], inverse);
}
constexpr NodeType kPermuteBackward = {"PermuteBackward0", &PermuteGradient};

void SliceGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0) || !in[0].defined()) return;
  const Attributes a = {.integer = {n.data.integer[0], n.data.integer[1], 1}};
  out[0] = n.tracer->Emit(OpKind::kSliceBackward, {&in[0]}, Contiguous(in[0].dtype(), n.data.sizes), a);
}
constexpr NodeType kSliceBackward = {"SliceBackward0", &SliceGradient};

void SameGradient(Node& n, Gradients& in, Gradients& out) {
  if (n.Wants(0)) out[0] = in[0];
}
constexpr NodeType kAliasBackward = {"AliasBackward0", &SameGradient};
constexpr NodeType kCloneBackward = {"CloneBackward0", &SameGradient};

void ExpandGradient(Node& n, Gradients& in, Gradients& out) {
  if (n.Wants(0) && in[0].defined()) out[0] = SumTo(in[0], n.data.sizes);
}
constexpr NodeType kExpandBackward = {"ExpandBackward0", &ExpandGradient};

void UnsqueezeGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0) || !in[0].defined()) return;
  Dims sizes;
  Dims strides;
  for (int i = 0; i < in[0].dims(); ++i) {
    if (i == n.data.integer[0]) continue;
    sizes.Append(in[0].size(i));
    strides.Append(in[0].strides()[i]);
  }
  out[0] = n.tracer->View(in[0], {OpKind::kSqueeze, {.integer = {n.data.integer[0]}}}, sizes, strides);
}
constexpr NodeType kUnsqueezeBackward = {"UnsqueezeBackward0", &UnsqueezeGradient};

// One gradient a piece; missing pieces are zeros.
void SplitGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0)) return;
  std::vector<Tensor> parts;
  const int dim = static_cast<int>(n.data.integer[0]);
  const auto given = std::ranges::find_if(in, [](const Tensor& t) { return t.defined(); });
  if (given == in.end()) return;
  for (size_t i = 0; i < n.slot_count; ++i) {
    parts.push_back(in[i].defined() ? in[i] : Full(*n.tracer, given->dtype(), n.expected[i].sizes, 0));
  }
  out[0] = Cat(std::move(parts), dim);
}
constexpr NodeType kSplitBackward = {"SplitBackward0", &SplitGradient};

void ToGradient(Node& n, Gradients& in, Gradients& out) {
  if (n.Wants(0) && in[0].defined()) out[0] = To(in[0], n.data.dtype);
}
constexpr NodeType kToCopyBackward = {"ToCopyBackward0", &ToGradient};

// Views of the gradient, one a part; a part of another dtype gets its cast in validation.
void CatGradient(Node& n, Gradients& in, Gradients& out) {
  if (!in[0].defined()) return;
  const int dim = static_cast<int>(n.data.integer[0]);
  int64_t begin = 0;
  for (uint32_t i = 0; i < n.edge_count; ++i) {
    const int64_t end = begin + n.data.sizes[static_cast<int>(i)];
    if (n.Wants(i)) out[i] = Slice(in[0], dim, begin, end);
    begin = end;
  }
}
constexpr NodeType kCatBackward = {"CatBackward0", &CatGradient};

void PadGradient(Node& n, Gradients& in, Gradients& out) {
  if (!n.Wants(0) || !in[0].defined()) return;
  out[0] = Clone(Slice(in[0], -1, 0, n.data.integer[0]));
}
constexpr NodeType kConstantPadBackward = {"ConstantPadNdBackward0", &PadGradient};

// A permutation as the attribute of kPermute.
ViewOp PermuteOp(const Dims& order) {
  int64_t packed = 0;
  for (int i = 0; i < order.size(); ++i) packed |= order[i] << (4 * i);
  return {OpKind::kPermute, {.integer = {packed}}};
}

ViewOp SwapOp(int dims, int a, int b) {
  Dims order;
  for (int i = 0; i < dims; ++i) order.Append(i == a ? b : i == b ? a : i);
  return PermuteOp(order);
}

// A view with a node.
Tensor ViewOf(Operand& x, const NodeType& type, const ViewOp& how, const Dims& sizes, const Dims& strides,
              int64_t offset, const NodeData& data) {
  Tracer& tracer = x->tracer();
  const NodeRef node = MakeNode(tracer, type, {&*x});
  Tensor result = tracer.View(*x, how, sizes, strides, offset);
  if (node) {
    node->data = data;
    node->SetHistory(result);
  }
  x.Drop();
  return result;
}

}  // namespace

Tensor View(Operand x, const Dims& sizes) {
  const std::optional<Dims> strides = ViewStrides(x->sizes(), x->strides(), sizes);
  CHECK(strides.has_value());
  return ViewOf(x, kViewBackward, {}, sizes, *strides, 0, {.sizes = x->sizes()});
}

Tensor Reshape(Operand x, const Dims& sizes) {
  if (ViewStrides(x->sizes(), x->strides(), sizes).has_value()) return View(std::move(x), sizes);
  return UnsafeView(Clone(std::move(x)), sizes);
}

Tensor UnsafeView(Operand x, const Dims& sizes) {
  Tracer& tracer = x->tracer();
  const NodeRef node = MakeNode(tracer, kUnsafeViewBackward, {&*x});
  const std::optional<Dims> strides = ViewStrides(x->sizes(), x->strides(), sizes);
  CHECK(strides.has_value());
  Tensor result;
  if (tracer.functional) {
    result = tracer.View(*x, {}, sizes, *strides);
  } else {
    result = tracer.Detach(*x);
    result.impl()->id = TensorId();
    result.impl()->sizes = sizes;
    result.impl()->strides = *strides;
  }
  if (node) {
    node->data.sizes = x->sizes();
    node->SetHistory(result);
  }
  x.Drop();
  return result;
}

Tensor Transpose(Operand x, int a, int b) {
  a = static_cast<int>(FromEnd(a, x->dims()));
  b = static_cast<int>(FromEnd(b, x->dims()));
  Dims sizes = x->sizes();
  Dims strides = x->strides();
  std::swap(sizes[a], sizes[b]);
  std::swap(strides[a], strides[b]);
  return ViewOf(x, kTransposeBackward, SwapOp(x->dims(), a, b), sizes, strides, 0, {.integer = {a, b}});
}

Tensor T(Operand x) {
  const Dims sizes = {x->size(1), x->size(0)};
  const Dims strides = {x->strides()[1], x->strides()[0]};
  return ViewOf(x, kTBackward, SwapOp(2, 0, 1), sizes, strides, 0, {.integer = {0, 1}});
}

Tensor Slice(Operand x, int dim, int64_t begin, int64_t end) {
  dim = static_cast<int>(FromEnd(dim, x->dims()));
  Dims sizes = x->sizes();
  const bool whole = begin == 0 && end == sizes[dim] && !x->tracer().open_length;
  sizes[dim] = end - begin;
  const NodeType& type = whole ? kAliasBackward : kSliceBackward;
  return ViewOf(x, type, {OpKind::kSlice, {.integer = {dim, begin, end}}}, sizes, x->strides(),
                begin * x->strides()[dim], {.integer = {dim, begin}, .sizes = x->sizes()});
}

Tensor Expand(Operand x, const Dims& sizes) {
  Dims strides = sizes;
  const int offset = sizes.size() - x->dims();
  for (int i = 0; i < sizes.size(); ++i) {
    const bool stretched = i < offset || (x->size(i - offset) == 1 && sizes[i] != 1);
    strides[i] = stretched ? 0 : x->strides()[i - offset];
  }
  return ViewOf(x, kExpandBackward, {OpKind::kExpand}, sizes, strides, 0, {.sizes = x->sizes()});
}

Tensor Unsqueeze(Operand x, int dim) {
  dim = static_cast<int>(FromEnd(dim, x->dims() + 1));
  Dims sizes;
  Dims strides;
  for (int i = 0; i <= x->dims(); ++i) {
    if (i == dim) {
      sizes.Append(1);
      strides.Append(i < x->dims() ? x->size(i) * x->strides()[i] : 1);
    }
    if (i < x->dims()) {
      sizes.Append(x->size(i));
      strides.Append(x->strides()[i]);
    }
  }
  return ViewOf(x, kUnsqueezeBackward, {OpKind::kUnsqueeze, {.integer = {dim}}}, sizes, strides, 0, {.integer = {dim}});
}

Tensor Permute(Operand x, const Dims& order) {
  Dims sizes = order;
  Dims strides = order;
  for (int i = 0; i < order.size(); ++i) {
    sizes[i] = x->size(static_cast<int>(order[i]));
    strides[i] = x->strides()[static_cast<int>(order[i])];
  }
  return ViewOf(x, kPermuteBackward, PermuteOp(order), sizes, strides, 0, {.sizes = order});
}

std::vector<Tensor> Split(Operand x, int64_t size, int dim) {
  dim = static_cast<int>(FromEnd(dim, x->dims()));
  Tracer& tracer = x->tracer();
  const NodeRef node = MakeNode(tracer, kSplitBackward, {&*x});
  std::vector<Tensor> parts;
  std::vector<ResultType> types;
  Dims sizes = x->sizes();
  for (int64_t begin = 0; begin < x->size(dim); begin += size) {
    sizes[dim] = std::min(size, x->size(dim) - begin);
    if (tracer.functional) {
      types.push_back({x->dtype(), {sizes, x->strides()}});
    } else {
      parts.push_back(tracer.View(*x, {OpKind::kSplit}, sizes, x->strides(), begin * x->strides()[dim]));
    }
  }
  if (tracer.functional) {
    parts.resize(types.size());
    const std::array<const Tensor*, 1> inputs = {&*x};
    tracer.Emit(OpKind::kSplit, inputs, types, parts, {.integer = {dim, size}});
  }
  if (node) {
    node->data.integer[0] = dim;
    for (size_t i = 0; i < parts.size(); ++i) node->SetHistory(parts[i], static_cast<uint32_t>(i));
  }
  x.Drop();
  return parts;
}

Tensor To(Operand x, DType dtype) {
  if (x->dtype() == dtype) return x.Take();
  Tracer& tracer = x->tracer();
  const NodeRef node = IsFloating(dtype) ? MakeNode(tracer, kToCopyBackward, {&*x}) : NodeRef();
  const Dims strides = IsDense(x->sizes(), x->strides()) ? x->strides() : DenseStridesLike(x->sizes(), x->strides());
  Tensor result = tracer.Emit(OpKind::kToCopy, {&*x}, {dtype, {x->sizes(), strides}});
  if (node) {
    node->data.dtype = x->dtype();
    node->SetHistory(result);
  }
  x.Drop();
  return result;
}

Tensor Clone(Operand x) {
  Tracer& tracer = x->tracer();
  const NodeRef node = MakeNode(tracer, kCloneBackward, {&*x});
  Tensor result = tracer.Emit(OpKind::kClone, {&*x}, Contiguous(x->dtype(), x->sizes()));
  if (node) node->SetHistory(result);
  x.Drop();
  return result;
}

Tensor Contiguous(Operand x) { return x->IsContiguous() ? x.Take() : Clone(std::move(x)); }

namespace {
constexpr size_t kMaxCat = 3;  // as many as slots that a split has
Tensor CatOf(std::span<const Tensor* const> parts, int dim) {
  CHECK(!parts.empty() && parts.size() <= kMaxCat);
  Tracer& tracer = parts[0]->tracer();
  dim = static_cast<int>(FromEnd(dim, parts[0]->dims()));
  std::array<const Tensor*, kMaxCat> inputs{};
  std::ranges::copy(parts, inputs.begin());
  const NodeRef node = MakeNode(tracer, kCatBackward, {inputs[0], inputs[1], inputs[2]});
  Dims sizes = parts[0]->sizes();
  Dims lengths;
  DType dtype = parts[0]->dtype();
  sizes[dim] = 0;
  for (const Tensor* part : parts) {
    sizes[dim] += part->size(dim);
    lengths.Append(part->size(dim));
    dtype = Promote(dtype, part->dtype());
  }
  Tensor result = tracer.Emit(OpKind::kCat, parts, Contiguous(dtype, sizes), {.integer = {dim}});
  if (node) {
    node->edge_count = static_cast<uint8_t>(parts.size());
    node->data.integer[0] = dim;
    node->data.sizes = lengths;
    node->SetHistory(result);
  }
  return result;
}
}  // namespace

Tensor Cat(std::vector<Tensor> parts, int dim) {
  CHECK(parts.size() <= kMaxCat);
  std::array<const Tensor*, kMaxCat> pointers{};
  for (size_t i = 0; i < parts.size(); ++i) pointers[i] = &parts[i];
  Tensor result = CatOf(std::span(pointers.data(), parts.size()), dim);
  for (size_t i = parts.size(); i-- > 0;) parts[i].Reset();
  return result;
}

Tensor Cat(Operand a, Operand b, int dim) {
  const std::array<const Tensor*, 2> parts = {&*a, &*b};
  Tensor result = CatOf(parts, dim);
  Drop(b, a);
  return result;
}

Tensor Pad(Operand x, int64_t last, double value) {
  Tracer& tracer = x->tracer();
  const NodeRef node = MakeNode(tracer, kConstantPadBackward, {&*x});
  Dims sizes = x->sizes();
  sizes[sizes.size() - 1] = last;
  Tensor result = tracer.Emit(OpKind::kConstantPad, {&*x}, Contiguous(x->dtype(), sizes), {.number = value});
  if (node) {
    node->data.integer[0] = x->size(-1);
    node->SetHistory(result);
  }
  x.Drop();
  return result;
}

}  // namespace tidemark
