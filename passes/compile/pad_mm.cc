#include "passes/compile/pad_mm.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "graph/functional.h"

namespace tidemark::compile {
namespace {

constexpr int kFirstWithoutLongReductions = 90;  // compute capability
constexpr size_t kPointwiseCatAtMost = 8;
constexpr double kBalanceFactor = 0.5;

// The one device whose name Inductor finds in its table of rates. Of others it divides the clock in MHz by a thousand
// too many, so that nothing is bound by their memory.
constexpr const char* kRatedDevice = "NVIDIA L4";
constexpr double kRatedBandwidth = 3350;  // GB/s, as the table has it
constexpr double kRatedHalf = 242;        // TFLOPS
constexpr double kRatedTf32 = 120;

int64_t AlignmentOf(DType dtype) {
  if (dtype == DType::kFloat16 || dtype == DType::kBFloat16) return 8;
  return dtype == DType::kFloat32 ? 4 : 0;
}

// Open lengths and dimensions of 1 aren't padded.
int64_t PaddingOf(Extent size, DType dtype) {
  const int64_t alignment = AlignmentOf(dtype);
  if (alignment == 0 || size.hint() != size.now() || size.is(1)) return 0;
  return (alignment - size.hint() % alignment) % alignment;
}

bool IsBoundByArithmetic(const DeviceSpec& device, DType dtype, int64_t m, int64_t k, int64_t n) {
  const bool long_reduction = k > m && k > n && device.compute_capability < kFirstWithoutLongReductions;
  if (dtype == DType::kBFloat16 && long_reduction) return true;
  if (device.name != kRatedDevice) return true;
  const double operations = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  const double intensity = operations / static_cast<double>(m * k + n * k + m * n);
  const double rate = dtype == DType::kFloat32 ? kRatedTf32 : kRatedHalf;
  return intensity > kBalanceFactor * 1000 * rate / kRatedBandwidth;
}

class Products {
 public:
  Products(const FunctionalGraph& graph, const DeviceSpec& device, Extent length)
      : graph_(graph), device_(device), length_(length) {}

  std::vector<TimedProduct> Run() {
    std::vector<TimedProduct> products;
    for (auto id = graph_.order.rbegin(); id != graph_.order.rend(); ++id) {
      const FunctionalNode& node = graph_.nodes[*id];
      const bool is_product = node.kind == OpKind::kMm || node.kind == OpKind::kAddmm || node.kind == OpKind::kBmm;
      if (is_product && IsTimed(node)) products.push_back(Describe(node));
    }
    return products;
  }

 private:
  const TensorType& TypeOf(NodeId id) const { return graph_.nodes[id].type(); }
  // The factors, without a bias.
  NodeId Left(const FunctionalNode& node) const { return node.inputs[node.inputs.size() - 2]; }
  NodeId Right(const FunctionalNode& node) const { return node.inputs.back(); }

  struct Sizes {
    Extent m, k, n;
  };
  Sizes SizesOf(const FunctionalNode& node) const {
    const Shape& a = TypeOf(Left(node)).sizes;
    const Shape& b = TypeOf(Right(node)).sizes;
    return {a[a.size() - 2], a.back(), b.back()};
  }

  bool IsTimed(const FunctionalNode& node) const {
    const Sizes s = SizesOf(node);
    const DType a = TypeOf(Left(node)).dtype;
    const DType b = TypeOf(Right(node)).dtype;
    if (PaddingOf(s.m, a) == 0 && PaddingOf(s.k, a) == 0 && PaddingOf(s.n, b) == 0) return false;
    const auto is_open = [](Extent e) { return e.hint() != e.now(); };
    for (const NodeId input : node.inputs) {
      if (std::ranges::all_of(TypeOf(input).sizes, is_open)) return false;
    }
    return IsBoundByArithmetic(device_, a, s.m.hint(), s.k.hint(), s.n.hint());
  }

  // Whether what computes the operand could write it with padding.
  bool IsFree(NodeId id) const {
    const TensorType& type = TypeOf(id);
    if (!(Contiguous(type.sizes) == type.strides)) return false;
    while (IsViewOrItem(graph_.nodes[id].kind)) id = graph_.nodes[id].inputs[0];
    const FunctionalNode& made = graph_.nodes[id];
    switch (made.kind) {
      case OpKind::kMm:
      case OpKind::kAddmm:
      case OpKind::kBmm:
      case OpKind::kFlashForward:
      case OpKind::kEfficientForward:
      case OpKind::kFromHost:
        return false;
      case OpKind::kCat:
        return made.inputs.size() <= kPointwiseCatAtMost;
      default:
        return true;
    }
  }

  TimedProduct::Operand OperandOf(NodeId id, int64_t rows, int64_t columns) const {
    const TensorType& type = TypeOf(id);
    TimedProduct::Operand operand;
    operand.dtype = type.dtype;
    operand.layout = {type.sizes.Hint(), type.strides.Hint()};
    operand.padded = operand.layout.sizes;
    if (operand.padded.size() > 1) operand.padded[operand.padded.size() - 2] += rows;
    operand.padded[operand.padded.size() - 1] += columns;
    operand.is_padded = rows != 0 || columns != 0;
    operand.is_free = IsFree(id);
    return operand;
  }

  // Open sizes by what they are of the length, which may have been another one when they were asked for before.
  std::string NameOf(const TensorType& type) const {
    std::string name = fmt::format(" {}", ShortName(type.dtype));
    for (const Shape* list : {&type.sizes, &type.strides}) {
      for (const Extent e : *list) {
        const bool is_open = e.hint() != e.now();
        const int64_t factor = is_open ? (e.now() - e.hint()) / (length_.now() - length_.hint()) : 0;
        name +=
            is_open ? fmt::format(",{}s+{}", factor, e.hint() - factor * length_.hint()) : fmt::format(",{}", e.hint());
      }
    }
    return name;
  }

  TimedProduct Describe(const FunctionalNode& node) const {
    const Sizes s = SizesOf(node);
    const DType a = TypeOf(Left(node)).dtype;
    const int64_t m = PaddingOf(s.m, a);
    const int64_t k = PaddingOf(s.k, a);
    const int64_t n = PaddingOf(s.n, TypeOf(Right(node)).dtype);
    TimedProduct product;
    product.kind = node.kind;
    if (node.kind == OpKind::kAddmm) {
      const Shape& bias = TypeOf(node.inputs[0]).sizes;
      const bool has_rows = bias.size() == 2 && !bias[0].is(1);
      product.operands.push_back(OperandOf(node.inputs[0], has_rows ? m : 0, bias.back().is(1) ? 0 : n));
      product.operands.back().is_free = false;
    }
    product.operands.push_back(OperandOf(Left(node), m, k));
    product.operands.push_back(OperandOf(Right(node), k, n));
    product.result = node.type().sizes.Hint();
    product.padded_result = product.result;
    product.padded_result[product.result.size() - 2] += m;
    product.padded_result[product.result.size() - 1] += n;
    product.plain = fmt::format("{}", static_cast<int>(node.kind));
    std::string question;
    for (const NodeId input : node.inputs) product.plain += NameOf(TypeOf(input));
    for (const TimedProduct::Operand& operand : product.operands) question += operand.is_free ? " free" : " copied";
    product.padded = fmt::format("padded {}{}", product.plain, question);
    product.plain.insert(0, "plain ");
    return product;
  }

  const FunctionalGraph& graph_;
  const DeviceSpec& device_;
  Extent length_;
};

// Random numbers in the memory that a tensor of the layout needs.
Tensor Made(Tracer& tracer, DType dtype, const Layout& layout) {
  int64_t elements = 1;
  for (int i = 0; i < layout.sizes.size(); ++i) elements += (layout.sizes[i] - 1) * layout.strides[i];
  const Tensor memory = Full(tracer, dtype, {elements}, 0, Role::kScalar);
  return tracer.Reinterpret(memory, dtype, layout);
}

Tensor Padded(Tracer& tracer, const TimedProduct::Operand& operand) {
  return Full(tracer, operand.dtype, operand.padded, 0, Role::kScalar);
}

void Launch(Tracer& tracer, OpKind kind, const std::vector<Tensor>& operands, const Dims& result) {
  std::vector<const Tensor*> inputs;
  for (const Tensor& t : operands) inputs.push_back(&t);
  const Tensor product = tracer.Emit(kind, inputs, Contiguous(operands.back().dtype(), result, Role::kScalar));
}

class Timing {
 public:
  Timing(Tracer& tracer, const TimedProduct& product) : tracer_(tracer), product_(product) {}

  void Run(bool plain_is_known) {
    const size_t factors = product_.operands.size() - 2;
    given_.resize(product_.operands.size());
    for (size_t i = factors; i < given_.size(); ++i) Make(i);
    if (!plain_is_known && factors == 1) Make(0);
    std::vector<Tensor> free(product_.operands.size());
    for (size_t i = factors; i < free.size(); ++i) {
      const TimedProduct::Operand& operand = product_.operands[i];
      if (operand.is_padded && operand.is_free) free[i] = Padded(tracer_, operand);
    }
    Tensor bias;
    if (factors == 1) bias = Made(tracer_, product_.operands[0].dtype, product_.operands[0].layout);
    if (!plain_is_known) {
      Launch(tracer_, product_.kind, given_, product_.result);
      const Tensor flush = FlushBuffer(tracer_);
      Launch(tracer_, product_.kind, given_, product_.result);
    }
    const Tensor unpadded_bias = given_[0];  // lives on
    if (factors == 1) given_[0] = bias;
    LaunchPadded(free);
    const Tensor flush = FlushBuffer(tracer_);
    LaunchPadded(free);
  }

 private:
  void Make(size_t i) { given_[i] = Made(tracer_, product_.operands[i].dtype, product_.operands[i].layout); }

  void LaunchPadded(const std::vector<Tensor>& free) {
    std::vector<Tensor> operands = given_;
    const auto pad = [&](size_t i) {
      const TimedProduct::Operand& operand = product_.operands[i];
      if (!operand.is_padded) return;
      operands[i] = free[i].defined() ? free[i] : Padded(tracer_, operand);
    };
    const size_t factors = operands.size() - 2;
    for (size_t i = factors; i < operands.size(); ++i) pad(i);
    if (factors == 1 && product_.operands[0].is_padded) {
      // A cat with zeros.
      const TimedProduct::Operand& bias = product_.operands[0];
      const int last = bias.padded.size() - 1;
      const Tensor zeros = Full(tracer_, bias.dtype, {bias.padded[last] - bias.layout.sizes[last]}, 0, Role::kScalar);
      pad(0);
    }
    Launch(tracer_, product_.kind, operands, product_.padded_result);
  }

  Tracer& tracer_;
  const TimedProduct& product_;
  std::vector<Tensor> given_;
};

}  // namespace

std::vector<TimedProduct> ProductsToTime(const FunctionalGraph& graph, const DeviceSpec& device, Extent length) {
  return Products(graph, device, length).Run();
}

void TimeProducts(Tracer& tracer, const std::vector<TimedProduct>& products, TuningCache& cache) {
  if (products.empty()) return;
  const InScope in_scope(tracer, tracer.AddScope("pad_mm"));
  for (const TimedProduct& product : products) {
    if (!cache.insert(product.padded).second) continue;
    const bool plain_is_known = !cache.insert(product.plain).second;
    Timing(tracer, product).Run(plain_is_known);
  }
}

Tensor FlushBuffer(Tracer& tracer) {
  const int64_t elements = tracer.device().l2_cache.count() / SizeOf(DType::kInt32).count();
  return Full(tracer, DType::kInt32, {elements}, 0, Role::kScalar);
}

}  // namespace tidemark::compile
