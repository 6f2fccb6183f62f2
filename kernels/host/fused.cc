// Fused kernels: interprets the loops of a FusedKernel, chunk by chunk, in double precision. What a result on the
// memory of an input reads there, it reads before it writes: each chunk is computed whole, then stored.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/host/elements.h"
#include "kernels/host/kernel.h"
#include "kernels/random.h"

namespace tidemark::host {
namespace {

using Values = std::vector<double>;

int64_t ElementsOf(const TensorSpan& t) {
  int64_t last = 0;
  for (int i = 0; i < t.sizes.size(); ++i) last += (t.sizes[i] - 1) * t.strides[i];
  return last + 1;
}

// Where a buffer of the kernel is.
struct Memory {
  TensorSpan span;  // flat
  double* local = nullptr;
  int64_t elements = 0;
};

class Interpreter {
 public:
  explicit Interpreter(const KernelCall& call) : kernel_(*call.fused) {
    size_t locals = 0;
    for (const FusedBuffer& b : kernel_.buffers) locals += b.kind == FusedBuffer::Kind::kLocal ? 1 : 0;
    locals_.reserve(locals);
    for (const FusedBuffer& b : kernel_.buffers) memory_.push_back(MemoryOf(b, call));
  }

  RunOutcome Run() {
    for (size_t i = 0; i < memory_.size(); ++i) {
      if (!kernel_.buffers[i].is_cleared) continue;
      for (int64_t k = 0; k < memory_[i].elements; ++k) Store(memory_[i], k, 0);
    }
    for (const FusedLoops& loops : kernel_.loops) {
      loops_ = &loops;
      loops.reduced.empty() ? RunPointwise() : RunFold();
    }
    return valid_ ? RunOutcome::kDone : RunOutcome::kBadIndex;
  }

 private:
  Memory MemoryOf(const FusedBuffer& b, const KernelCall& call) {
    if (b.kind == FusedBuffer::Kind::kLocal) {
      Values& values = locals_.emplace_back(static_cast<size_t>(b.elements));
      return {{}, values.data(), b.elements};
    }
    const TensorSpan& t = b.kind == FusedBuffer::Kind::kInput ? call.in[b.number] : call.out[b.number];
    return {t, nullptr, ElementsOf(t)};
  }

  static double Load(const Memory& m, int64_t i) {
    return m.local != nullptr ? m.local[i] : LoadNumber(m.span.dtype, m.span.data + SizeOf(m.span.dtype).count() * i);
  }
  static void Store(const Memory& m, int64_t i, double value) {
    if (m.local != nullptr) {
      m.local[i] = value;
      return;
    }
    StoreNumber(m.span.dtype, m.span.data + SizeOf(m.span.dtype).count() * i, value);
  }

  // Loop variables of iterations [begin, begin + n) of the loops of `sizes`, the first of them variable `first`.
  void SetVariables(const std::vector<int64_t>& sizes, size_t first, int64_t begin, int64_t n) {
    int64_t inner = 1;
    for (size_t d = sizes.size(); d-- > 0;) {
      std::vector<int64_t>& variable = variables_[first + d];
      variable.resize(static_cast<size_t>(n));
      for (int64_t i = 0; i < n; ++i) variable[static_cast<size_t>(i)] = (begin + i) / inner % sizes[d];
      inner *= sizes[d];
    }
  }

  void Prepare() {
    variables_.resize(loops_->sizes.size() + loops_->reduced.size());
    values_.resize(loops_->nodes.size());
  }

  void RunPointwise() {
    Prepare();
    const int64_t n = Product(loops_->sizes);
    for (int64_t begin = 0; begin < n; begin += kChunk) {
      count_ = std::min(kChunk, n - begin);
      SetVariables(loops_->sizes, 0, begin, count_);
      Evaluate();
      const std::vector<int64_t>& where = Indices(loops_->where, loops_->where_operands);
      for (size_t i = 0; i < static_cast<size_t>(count_); ++i) Write(where[i], values_.back()[i]);
    }
  }

  void Write(int64_t where, double value) {
    const Memory& m = memory_[loops_->result];
    if (where < 0 || where >= m.elements) {
      valid_ = false;
      return;
    }
    Store(m, where, loops_->accumulates ? Load(m, where) + value : value);
  }

  // One result after the other.
  void RunFold() {
    Prepare();
    const int64_t results = Product(loops_->sizes);
    const int64_t length = Product(loops_->reduced);
    row_.resize(static_cast<size_t>(length));
    for (int64_t result = 0; result < results; ++result) {
      for (int64_t begin = 0; begin < length; begin += kChunk) {
        count_ = std::min(kChunk, length - begin);
        FixVariables(result);
        SetVariables(loops_->reduced, loops_->sizes.size(), begin, count_);
        Evaluate();
        std::copy_n(values_.back().begin(), count_, row_.begin() + begin);
      }
      if (loops_->fold == FusedFold::kScan) {
        WriteScan(result, length);
        continue;
      }
      count_ = 1;
      FixVariables(result);
      SetVariables(loops_->reduced, loops_->sizes.size(), 0, 1);
      Write(Indices(loops_->where, loops_->where_operands)[0], Folded());
    }
  }

  void FixVariables(int64_t result) {
    int64_t rest = result;
    for (size_t d = loops_->sizes.size(); d-- > 0;) {
      variables_[d].assign(static_cast<size_t>(count_), rest % loops_->sizes[d]);
      rest /= loops_->sizes[d];
    }
  }

  void WriteScan(int64_t result, int64_t length) {
    std::partial_sum(row_.begin(), row_.end(), row_.begin());
    count_ = length;
    FixVariables(result);
    SetVariables(loops_->reduced, loops_->sizes.size(), 0, length);
    const std::vector<int64_t>& where = Indices(loops_->where, {});
    for (size_t i = 0; i < row_.size(); ++i) Write(where[i], row_[i]);
  }

  double Folded() const {
    const double maximum = *std::ranges::max_element(row_);
    const double sum = std::accumulate(row_.begin(), row_.end(), 0.0);
    const double mean = sum / static_cast<double>(row_.size());
    double result = 0;
    switch (loops_->fold) {
      case FusedFold::kMaximum:
        return std::isnan(sum) ? sum : maximum;
      case FusedFold::kMean:
        return mean;
      case FusedFold::kSquares:
        for (const double x : row_) result += (x - mean) * (x - mean);
        return result;
      case FusedFold::kSumOfExponentials:
        for (const double x : row_) result += std::exp(x - maximum);
        return result;
      default:
        return sum;
    }
  }

  static int64_t Product(const std::vector<int64_t>& sizes) {
    return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
  }

  const std::vector<int64_t>& Indices(const FusedIndex& index, const std::vector<uint32_t>& operands) {
    indices_.assign(static_cast<size_t>(count_), index.offset);
    for (const FusedTerm& t : index.terms) {
      const bool looked_up = t.variable >= FusedTerm::kLookedUp;
      for (size_t i = 0; i < indices_.size(); ++i) {
        int64_t v = 0;
        if (looked_up) {
          const double value = values_[operands[static_cast<size_t>(t.variable - FusedTerm::kLookedUp)]][i];
          constexpr double kMost = 1e15;  // beyond it, or not a number: outside of any buffer
          v = std::abs(value) < kMost ? static_cast<int64_t>(value) : static_cast<int64_t>(kMost);
        } else {
          v = variables_[static_cast<size_t>(t.variable)][i];
        }
        v /= t.divisor;
        if (t.modulus != 0) v %= t.modulus;
        indices_[i] += t.coefficient * v;
      }
    }
    return indices_;
  }

  void Evaluate() {
    for (size_t i = 0; i < loops_->nodes.size(); ++i) {
      values_[i].resize(static_cast<size_t>(count_));
      EvaluateNode(loops_->nodes[i], values_[i]);
    }
  }

  void EvaluateLoad(const FusedNode& node, Values& to) {
    const Memory& m = memory_[node.buffer];
    const std::vector<int64_t>& at = Indices(node.index, node.operands);
    for (size_t i = 0; i < to.size(); ++i) {
      const bool inside = at[i] >= 0 && at[i] < m.elements;
      valid_ = valid_ && (inside || node.masked);
      to[i] = inside ? Load(m, at[i]) : 0;
      if (inside && m.local == nullptr && m.span.dtype == DType::kBool) valid_ = valid_ && to[i] <= 1;
    }
  }

  template <typename F>
  void Map(const FusedNode& node, Values& to, const F& f) {
    const Values& a = values_[node.operands[0]];
    const Values& b = values_[node.operands[node.operands.size() > 1 ? 1 : 0]];
    for (size_t i = 0; i < to.size(); ++i) to[i] = f(a[i], b[i]);
  }

  void EvaluateNode(const FusedNode& node, Values& to);
  void EvaluateArithmetic(const FusedNode& node, Values& to);
  void EvaluateComparison(const FusedNode& node, Values& to);

  const FusedKernel& kernel_;
  std::vector<Values> locals_;
  std::vector<Memory> memory_;  // by buffer
  const FusedLoops* loops_ = nullptr;
  int64_t count_ = 0;                            // iterations of the chunk
  std::vector<std::vector<int64_t>> variables_;  // by loop, then by iteration
  std::vector<Values> values_;                   // by node
  std::vector<int64_t> indices_;
  Values row_;
  bool valid_ = true;
};

void Interpreter::EvaluateNode(const FusedNode& node, Values& to) {
  switch (node.function) {
    case FusedFunction::kConstant:
      std::ranges::fill(to, node.number);
      return;
    case FusedFunction::kIndex:
      std::ranges::copy(Indices(node.index, node.operands), to.begin());
      return;
    case FusedFunction::kLoad:
      return EvaluateLoad(node, to);
    case FusedFunction::kWhere: {
      const Values& condition = values_[node.operands[0]];
      const Values& yes = values_[node.operands[1]];
      const Values& no = values_[node.operands[2]];
      for (size_t i = 0; i < to.size(); ++i) to[i] = condition[i] != 0 ? yes[i] : no[i];
      return;
    }
    case FusedFunction::kMasked:
      return Map(node, to, [](double mask, double value) { return mask != 0 ? value : 0; });
    case FusedFunction::kRandom:
      return Map(node, to, [](double stream, double index) {
        return RandomBits(static_cast<int64_t>(stream), static_cast<int64_t>(index)) / kProbabilityUnit;
      });
    case FusedFunction::kCast:
      if (IsFloating(node.dtype)) return Map(node, to, [](double a, double) { return a; });
      if (node.dtype == DType::kBool) return Map(node, to, [](double a, double) { return a != 0 ? 1.0 : 0.0; });
      return Map(node, to, [](double a, double) { return std::trunc(a); });
    case FusedFunction::kAnd:
    case FusedFunction::kEqual:
    case FusedFunction::kNotEqual:
    case FusedFunction::kLess:
    case FusedFunction::kLessEqual:
    case FusedFunction::kGreater:
    case FusedFunction::kGreaterEqual:
      return EvaluateComparison(node, to);
    default:
      return EvaluateArithmetic(node, to);
  }
}

void Interpreter::EvaluateComparison(const FusedNode& node, Values& to) {
  switch (node.function) {
    case FusedFunction::kEqual:
      return Map(node, to, [](double a, double b) { return a == b ? 1.0 : 0.0; });
    case FusedFunction::kNotEqual:
      return Map(node, to, [](double a, double b) { return a != b ? 1.0 : 0.0; });
    case FusedFunction::kLess:
      return Map(node, to, [](double a, double b) { return a < b ? 1.0 : 0.0; });
    case FusedFunction::kLessEqual:
      return Map(node, to, [](double a, double b) { return a <= b ? 1.0 : 0.0; });
    case FusedFunction::kGreater:
      return Map(node, to, [](double a, double b) { return a > b ? 1.0 : 0.0; });
    case FusedFunction::kGreaterEqual:
      return Map(node, to, [](double a, double b) { return a >= b ? 1.0 : 0.0; });
    default:
      return Map(node, to, [](double a, double b) { return a != 0 && b != 0 ? 1.0 : 0.0; });
  }
}

void Interpreter::EvaluateArithmetic(const FusedNode& node, Values& to) {
  switch (node.function) {
    case FusedFunction::kAdd:
      return Map(node, to, [](double a, double b) { return a + b; });
    case FusedFunction::kSub:
      return Map(node, to, [](double a, double b) { return a - b; });
    case FusedFunction::kMul:
      return Map(node, to, [](double a, double b) { return a * b; });
    case FusedFunction::kDiv:
      return Map(node, to, [](double a, double b) { return a / b; });
    case FusedFunction::kMaximum:
      return Map(node, to, [](double a, double b) { return std::isnan(a) || a > b ? a : b; });
    case FusedFunction::kNeg:
      return Map(node, to, [](double a, double) { return -a; });
    case FusedFunction::kExp:
      return Map(node, to, [](double a, double) { return std::exp(a); });
    case FusedFunction::kErf:
      return Map(node, to, [](double a, double) { return std::erf(a); });
    case FusedFunction::kLog:
      return Map(node, to, [](double a, double) { return std::log(a); });
    case FusedFunction::kRsqrt:
      return Map(node, to, [](double a, double) { return 1 / std::sqrt(a); });
    case FusedFunction::kSigmoid:
      return Map(node, to, [](double a, double) { return 1 / (1 + std::exp(-a)); });
    case FusedFunction::kTanh:
      return Map(node, to, [](double a, double) { return std::tanh(a); });
    case FusedFunction::kRelu:
      return Map(node, to, [](double a, double) { return a < 0 ? 0 : a; });
    case FusedFunction::kSin:
      return Map(node, to, [](double a, double) { return std::sin(a); });
    case FusedFunction::kCos:
      return Map(node, to, [](double a, double) { return std::cos(a); });
    default:
      break;  // EvaluateNode has seen to the others
  }
}

Result<RunOutcome> FusedKernelOnHost(const KernelCall& c) {
  if (c.fused == nullptr || c.fused->loops.empty()) {
    return Error{ErrorCode::kUnavailable, "a fused kernel whose loops aren't known"};
  }
  return Interpreter(c).Run();
}

// Streams of the graph's random ops: from the number of the first on.
Result<RunOutcome> Seeds(const KernelCall& c) {
  const TensorSpan& out = c.out[0];
  for (int64_t i = 0; i < out.sizes[0]; ++i) {
    StoreNumber(out.dtype, out.data + SizeOf(out.dtype).count() * i * out.strides[0],
                static_cast<double>(c.attributes.integer[0] + i));
  }
  return RunOutcome::kDone;
}

constexpr KernelEntry kEntries[] = {
    {OpKind::kFusedKernel, &FusedKernelOnHost},
    {OpKind::kSeeds, &Seeds},
};

}  // namespace

std::span<const KernelEntry> FusedKernels() { return kEntries; }

}  // namespace tidemark::host
