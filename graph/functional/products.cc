#include "graph/autocast.h"
#include "graph/autograd.h"
#include "graph/base/check.h"
#include "graph/functional.h"

namespace tidemark {
namespace {

Tensor EmitProduct(OpKind kind, std::initializer_list<const Tensor*> inputs, const Dims& sizes) {
  const Tensor& first = **inputs.begin();
  return first.tracer().Emit(kind, inputs, Contiguous(first.dtype(), sizes));
}

// The gradient of a right operand: a^T grad. Computed transposed where the operand itself was a transposed matrix, so
// that the gradient has its strides.
Tensor RightGradient(const Tensor& a, const Tensor& gradient, const Dims& right_strides) {
  if (right_strides[0] == 1 && right_strides[1] == a.size(1)) {
    const Tensor gradient_t = T(gradient);
    return T(EmitProduct(OpKind::kMm, {&gradient_t, &a}, {gradient.size(1), a.size(1)}));
  }
  const Tensor a_t = T(a);
  return EmitProduct(OpKind::kMm, {&a_t, &gradient}, {a.size(1), gradient.size(1)});
}

Tensor LeftGradient(const Tensor& gradient, const Tensor& right) {
  const Tensor right_t = T(right);
  return EmitProduct(OpKind::kMm, {&gradient, &right_t}, {gradient.size(0), right.size(0)});
}

// Saved: 0 mat2, 1 self. Edges: self, mat2.
void MmGradient(Node& n, Gradients& in, Gradients& out) {
  const Tensor mat2 = n.Unpack(0);
  const Tensor self = n.Unpack(1);
  if (n.Wants(1)) out[1] = RightGradient(self, in[0], n.data.strides);
  if (n.Wants(0)) out[0] = LeftGradient(in[0], mat2);
}
constexpr NodeType kMmBackward = {"MmBackward0", &MmGradient};

// Saved: 0 mat1, 1 mat2. Edges: self (the bias), mat1, mat2.
void AddmmGradient(Node& n, Gradients& in, Gradients& out) {
  const Tensor mat1 = n.Unpack(0);
  const Tensor mat2 = n.Unpack(1);
  if (n.Wants(1)) out[1] = LeftGradient(in[0], mat2);
  if (n.Wants(2)) out[2] = RightGradient(mat1, in[0], n.data.strides);
  if (n.Wants(0)) out[0] = in[0];
}
constexpr NodeType kAddmmBackward = {"AddmmBackward0", &AddmmGradient};

// Saved: 0 mat2, 1 self. Edges: self, mat2.
void BmmGradient(Node& n, Gradients& in, Gradients& out) {
  const Tensor mat2 = n.Unpack(0);
  const Tensor self = n.Unpack(1);
  if (n.Wants(1)) {
    const Tensor self_t = Transpose(self, 1, 2);
    out[1] = EmitProduct(OpKind::kBmm, {&self_t, &in[0]}, {self_t.size(0), self_t.size(1), in[0].size(2)});
  }
  if (n.Wants(0)) {
    const Tensor mat2_t = Transpose(mat2, 1, 2);
    out[0] = EmitProduct(OpKind::kBmm, {&in[0], &mat2_t}, {in[0].size(0), in[0].size(1), mat2_t.size(2)});
  }
}
constexpr NodeType kBmmBackward = {"BmmBackward0", &BmmGradient};

Tensor Mm(Operand self, Operand mat2) {
  const NodeRef node = MakeNode(self->tracer(), kMmBackward, {&*self, &*mat2});
  if (node) {
    self->requires_grad() ? node->Save(*mat2) : node->SaveNothing();
    mat2->requires_grad() ? node->Save(*self) : node->SaveNothing();
    node->data.strides = mat2->strides();
  }
  Tensor result = EmitProduct(OpKind::kMm, {&*self, &*mat2}, {self->size(0), mat2->size(1)});
  if (node) node->SetHistory(result);
  Drop(self, mat2);
  return result;
}

Tensor AddmmOf(Operand bias, Operand mat1, Operand mat2) {
  const NodeRef node = MakeNode(mat1->tracer(), kAddmmBackward, {&*bias, &*mat1, &*mat2});
  if (node) {
    mat2->requires_grad() ? node->Save(*mat1) : node->SaveNothing();
    mat1->requires_grad() ? node->Save(*mat2) : node->SaveNothing();
    node->data.strides = mat2->strides();
  }
  Tensor result = EmitProduct(OpKind::kAddmm, {&*bias, &*mat1, &*mat2}, {mat1->size(0), mat2->size(1)});
  if (node) node->SetHistory(result);
  Drop(bias, mat1, mat2);
  return result;
}

Tensor Bmm(Operand self, Operand mat2) {
  const NodeRef node = MakeNode(self->tracer(), kBmmBackward, {&*self, &*mat2});
  if (node) {
    self->requires_grad() ? node->Save(*mat2) : node->SaveNothing();
    mat2->requires_grad() ? node->Save(*self) : node->SaveNothing();
  }
  Tensor result = EmitProduct(OpKind::kBmm, {&*self, &*mat2}, {self->size(0), self->size(1), mat2->size(2)});
  if (node) node->SetHistory(result);
  Drop(self, mat2);
  return result;
}

Dims WithLast(Dims sizes, int64_t last) {
  sizes[sizes.size() - 1] = last;
  return sizes;
}

}  // namespace

Tensor Linear(Operand x, const Tensor& weight, const Tensor& bias) {
  Tensor bias_cast = bias.defined() ? CastToHalf(bias) : Tensor();
  Tensor weight_cast = CastToHalf(weight);
  Tensor input = CastToHalf(std::move(x));
  const Dims result_sizes = WithLast(input.sizes(), weight.size(0));
  const Dims flat = {input.NumElements() / input.size(-1), input.size(-1)};
  if (!bias_cast.defined()) {  // matmul(input, weight^T), with the leading dimensions folded
    Tensor right = T(weight_cast);
    if (input.dims() == 2) return Mm(input, std::move(right));
    Tensor left = Reshape(input, flat);
    return UnsafeView(Mm(std::move(left), std::move(right)), result_sizes);
  }
  if (input.dims() == 2) return AddmmOf(bias_cast, input, T(weight_cast));
  Tensor left = View(input, flat);
  Tensor product = AddmmOf(bias_cast, std::move(left), T(weight_cast));
  return View(std::move(product), result_sizes);
}

Tensor Addmm(const Tensor& bias, Operand x, const Tensor& weight) {
  Tensor weight_cast = CastToHalf(weight);  // arguments are evaluated from the right
  Tensor input = CastToHalf(std::move(x));
  Tensor bias_cast = CastToHalf(bias);
  return AddmmOf(bias_cast, input, weight_cast);
}

Tensor MatMul(Operand a, Operand b) {
  Tensor right = CastToHalf(std::move(b));
  Tensor left = CastToHalf(std::move(a));
  CHECK(left.dims() == 4 && right.dims() == 4);
  const int64_t batch = left.size(0) * left.size(1);
  const Dims result = {left.size(0), left.size(1), left.size(2), right.size(3)};
  Tensor left_batch = Reshape(Expand(left, left.sizes()), {batch, left.size(2), left.size(3)});
  Tensor right_batch = Reshape(Expand(right, right.sizes()), {batch, right.size(2), right.size(3)});
  return UnsafeView(Bmm(left_batch, right_batch), result);
}

}  // namespace tidemark
