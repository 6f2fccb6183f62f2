// PyTorch's operators on traced tensors, with autocast and autograd: what torch.* and torch.nn.functional.* do.
// An operator takes names (borrowed) and temporaries (which die when it has returned, left to right).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "graph/tracer.h"

namespace tidemark {

// --- Creation. No history.
Tensor Arange(Tracer& tracer, int64_t start, int64_t end);  // int64 [end - start]
Tensor Full(Tracer& tracer, DType dtype, const Dims& sizes, double value, Role role = Role::kActivation);
struct HostSource {
  HostData data = HostData::kUnknown;
  double number = 0;  // kInverseFrequencies: the base; kConstant: the value
  int64_t batch = 0;  // kTokens, kTargets
  int64_t vocab = 0;
};
Tensor FromHost(Tracer& tracer, DType dtype, const Dims& sizes, Role role, const HostSource& source);

// --- Views (functional/views.cc). They allocate nothing and hold their base.
Tensor View(Operand x, const Dims& sizes);        // REQUIRES: the strides allow it
Tensor Reshape(Operand x, const Dims& sizes);     // a view if the strides allow it, else a copy
Tensor UnsafeView(Operand x, const Dims& sizes);  // holds no base. REQUIRES: x is a temporary
Tensor Transpose(Operand x, int a, int b);        // negative: from the end
Tensor T(Operand x);                              // of a matrix
Tensor Slice(Operand x, int dim, int64_t begin, int64_t end);
Tensor Expand(Operand x, const Dims& sizes);
Tensor Unsqueeze(Operand x, int dim);
Tensor Permute(Operand x, const Dims& order);
std::vector<Tensor> Split(Operand x, int64_t size, int dim);  // in pieces of `size`

// --- Copies (functional/views.cc)
Tensor To(Operand x, DType dtype);  // the same tensor if it has the dtype already
Tensor Clone(Operand x);            // contiguous
Tensor Contiguous(Operand x);       // a copy iff it isn't
Tensor Cat(std::vector<Tensor> parts, int dim);
Tensor Cat(Operand a, Operand b, int dim);              // of a tuple, which drops b first
Tensor Pad(Operand x, int64_t last, double value = 0);  // `value` behind, up to a last dimension of `last`

// --- Elementwise (functional/elementwise.cc)
Tensor Add(Operand a, Operand b);
Tensor Add(Operand a, double number);
Tensor Sub(Operand a, Operand b);
Tensor Sub(Operand a, double number);
Tensor Mul(Operand a, Operand b);
Tensor Mul(Operand a, double number);
Tensor Div(Operand a, Operand b);  // no gradient
Tensor Div(Operand a, double number);
Tensor Neg(Operand a);
Tensor Pow(Operand a, double exponent);  // autocast: in fp32, as Rsqrt
Tensor Rsqrt(Operand a);
Tensor Tanh(Operand a);
Tensor Relu(Operand a);
Tensor Gelu(Operand a);      // erf form
Tensor GeluTanh(Operand a);  // tanh form
Tensor Silu(Operand a);
Tensor MaskedFill(Operand a, Operand mask, double value);
Tensor WhereOrNumber(Operand condition, Operand a, double otherwise);  // torch.where(condition, a, number)
Tensor Where(Operand condition, Operand a, Operand b);                 // no gradient
Tensor WhereNumbers(Operand condition, double a, double b);            // of two numbers: fp32
Tensor Clamp(Operand a, Operand low, Operand high);                    // no gradient of the limits
Tensor Dropout(Operand a, double p, bool training);
Tensor Compare(Comparison how, Operand a, Operand b);  // bool
Tensor Compare(Comparison how, Operand a, double number);
Tensor Unary(OpKind kind, Operand a, std::optional<DType> dtype = {});  // no gradient
Tensor Binary(OpKind kind, Operand a, Operand b);                       // no gradient
void AddInPlace(const Tensor& a, Operand b);                            // a += b
DType Promote(DType a, DType b);

// --- Reductions and normalisation (functional/normalization.cc)
Tensor MeanLast(Operand a);                                  // over the last dimension, which stays as 1
Tensor SumTo(Operand a, const Dims& sizes);                  // at::sum_to
Tensor Softmax(Operand a, std::optional<DType> dtype = {});  // along the last dimension
Tensor LogSoftmax(Operand a, std::optional<DType> dtype = {});
// Over the last dimension; bias may be undefined.
Tensor LayerNorm(Operand x, const Tensor& weight, const Tensor& bias, double epsilon = 1e-5);
Tensor Embedding(const Tensor& weight, Operand indices);

// --- Products (functional/products.cc)
Tensor Linear(Operand x, const Tensor& weight, const Tensor& bias);  // x W^T + b; bias may be undefined
Tensor Addmm(const Tensor& bias, Operand x, const Tensor& weight);   // b + x W, all of two dimensions but b: Conv1D's
Tensor MatMul(Operand a, Operand b);                                 // of 4 dimensions

// --- Losses (functional/loss.cc)
constexpr int64_t kIgnoredLabel = -100;  // PyTorch's default
// Mean over targets that aren't `ignored`. logits [N, V], targets [N].
Tensor CrossEntropy(Operand logits, Operand targets, int64_t ignored = kIgnoredLabel);

// --- Attention (functional/attention.cc)
struct AttentionOptions {
  bool causal = false;
  double dropout = 0;
  bool grouped = false;         // enable_gqa: fewer heads of k and v
  std::optional<double> scale;  // default: 1 / sqrt(D)
};
enum class AttentionKernel : uint8_t { kFlash, kEfficient, kCudnn, kMath };
// torch.nn.functional.scaled_dot_product_attention. q [B, H, T, D], k and v [B, K, Tk, D]; mask undefined, bool or
// floating.
Tensor ScaledDotProductAttention(Operand q, Operand k, Operand v, Operand mask, const AttentionOptions& options);

}  // namespace tidemark
