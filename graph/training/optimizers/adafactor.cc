// Adafactor keeps averages of a matrix's squared gradients by row and by column only; their product estimates the rest.
// Norms of parameters and updates are read back to the host: they decide factors, no size.
// Source: PyTorch 2.14, torch/optim/_adafactor.py.
#include <cmath>

#include "graph/training/optimizers/optimizers.h"

namespace tidemark {
namespace {

constexpr double kBeta2Decay = -0.8;

double EpsilonOf(DType dtype) {
  if (dtype == DType::kBFloat16) return std::ldexp(1.0, -7);
  if (dtype == DType::kFloat16) return std::ldexp(1.0, -10);
  return std::ldexp(1.0, -23);
}

bool IsMatrix(const Tensor& t) { return t.dims() > 1; }

// A norm (or mean) over every dimension of t that is 1 in `sizes`.
Tensor Reduced(OpKind kind, const Tensor& t, const Dims& sizes) {
  return t.tracer().Emit(kind, {&t}, Contiguous(t.dtype(), sizes, Role::kScalar));
}

// tensor.norm(2).item()
void ReadNorm(const Tensor& t) { Reduced(OpKind::kNorm, t, {}); }

Dims RowsOf(const Tensor& t) { return {t.size(0), 1}; }
Dims ColumnsOf(const Tensor& t) { return {1, t.size(1)}; }

class Adafactor : public Optimizer {
 public:
  Adafactor(Tracer& tracer, std::vector<ParameterGroup> groups, bool foreach)
      : Optimizer(tracer, std::move(groups)), foreach_(foreach) {}

  void Step() override {
    ++step_;
    states_.resize(groups_.size());
    for (size_t i = 0; i < groups_.size(); ++i) {
      const Lists lists = ListsOf(groups_[i]);
      if (lists.owners.empty()) continue;
      if (states_[i].empty()) MakeStates(lists, states_[i]);
      const std::vector<Item> items = ItemsOf(lists, states_[i], groups_[i].weight_decay);
      foreach_ ? Foreach(items) : ForLoop(items);
    }
  }

 private:
  struct AdafactorState {
    Tensor row;  // of matrices
    Tensor column;
    Tensor variance;  // of vectors
  };
  struct Item {  // a parameter with what belongs to it
    const Tensor* parameter;
    const Tensor* gradient;
    const AdafactorState* state;
    double weight_decay;
  };

  void MakeStates(const Lists& lists, std::vector<AdafactorState>& states) {
    for (size_t i = 0; i < lists.owners.size(); ++i) {
      const Parameter& p = *lists.owners[i];
      const Tensor& gradient = *lists.gradients[i];
      const auto zeros = [&](const ResultType& type, const char* name) {
        return State(tracer_.Emit(OpKind::kFull, {}, type), p, name);
      };
      AdafactorState& state = states.emplace_back();
      if (IsMatrix(gradient)) {
        state.row = zeros(Contiguous(gradient.dtype(), RowsOf(gradient)), "row_var");
        state.column = zeros(Contiguous(gradient.dtype(), ColumnsOf(gradient)), "col_var");
      } else {
        state.variance = zeros(Like(gradient), "variance");
      }
    }
  }

  static std::vector<Item> ItemsOf(const Lists& lists, const std::vector<AdafactorState>& states, double weight_decay) {
    std::vector<Item> items;
    for (size_t i = 0; i < lists.owners.size(); ++i) {
      items.push_back({lists.parameters[i], lists.gradients[i], &states[i], weight_decay});
    }
    return items;
  }

  // The average moves towards the squares of norms, divided by how many elements each is of.
  void Average(const Tensor& average, const Tensor& squares, int64_t elements) {
    if (elements > 0) {
      tracer_.EmitInPlace(OpKind::kSquareInto, {&squares}, {&squares}, {.number = static_cast<double>(elements)});
    }
    tracer_.EmitInPlace(OpKind::kLerpInto, {&average, &squares}, {&average},
                        {.number = std::pow(static_cast<double>(step_), kBeta2Decay)});
  }

  Tensor RowNorms(const Item& item) { return Reduced(OpKind::kNorm, *item.gradient, RowsOf(*item.gradient)); }
  Tensor ColumnNorms(const Item& item) { return Reduced(OpKind::kNorm, *item.gradient, ColumnsOf(*item.gradient)); }
  Tensor Product(const Item& item) {
    return tracer_.Emit(OpKind::kMm, {&item.state->row, &item.state->column},
                        Contiguous(item.gradient->dtype(), item.gradient->sizes()));
  }
  Tensor MeanOfRow(const Item& item) { return Reduced(OpKind::kMean, item.state->row, {1, 1}); }
  void DivideByMean(const Tensor& estimate, const Tensor& mean) {
    tracer_.EmitInPlace(OpKind::kDivInto, {&estimate, &mean}, {&estimate}, {.number = EpsilonOf(mean.dtype())});
  }
  // The estimate becomes the update.
  void ScaleGradient(const Item& item, const Tensor& estimate) {
    const double epsilon = EpsilonOf(item.parameter->dtype());
    tracer_.EmitInPlace(OpKind::kRsqrtMulInto, {&estimate, item.gradient}, {&estimate}, {.number = epsilon * epsilon});
  }
  void Apply(const Item& item, const Tensor& update) {
    tracer_.EmitInPlace(OpKind::kAdafactorUpdate, {item.parameter, &update}, {item.parameter},
                        {.number = item.weight_decay, .integer = {step_}});
  }

  // Matrices and vectors apart, in the order in which the group has its first of each.
  void Foreach(const std::vector<Item>& items) {
    std::vector<Item> matrices, vectors;
    for (const Item& item : items) (IsMatrix(*item.gradient) ? matrices : vectors).push_back(item);
    TemporaryList updates;
    const bool matrices_first = IsMatrix(*items.front().gradient);
    for (const bool is_matrix : {matrices_first, !matrices_first}) {
      const std::vector<Item>& kind = is_matrix ? matrices : vectors;
      if (kind.empty()) continue;
      for (const Item& item : kind) ReadNorm(*item.parameter);
      if (is_matrix) {
        updates = EstimatesOfMatrices(kind);
      } else {
        updates = EstimatesOfVectors(kind);
      }
      const Pointers pointers = updates.pointers();
      for (size_t i = 0; i < kind.size(); ++i) ScaleGradient(kind[i], *pointers[i]);
      for (const Tensor* update : pointers) ReadNorm(*update);
      for (size_t i = 0; i < kind.size(); ++i) Apply(kind[i], *pointers[i]);
    }
  }

  TemporaryList EstimatesOfMatrices(const std::vector<Item>& items) {
    {
      TemporaryList norms;
      for (const Item& item : items) norms.Append(RowNorms(item));
      const Pointers squares = norms.pointers();
      for (size_t i = 0; i < items.size(); ++i) Average(items[i].state->row, *squares[i], items[i].gradient->size(1));
    }
    {
      TemporaryList norms;
      for (const Item& item : items) norms.Append(ColumnNorms(item));
      const Pointers squares = norms.pointers();
      for (size_t i = 0; i < items.size(); ++i)
        Average(items[i].state->column, *squares[i], items[i].gradient->size(0));
    }
    TemporaryList estimates;
    for (const Item& item : items) estimates.Append(Product(item));
    TemporaryList means;
    for (const Item& item : items) means.Append(MeanOfRow(item));
    const Pointers estimate_list = estimates.pointers();
    const Pointers mean_list = means.pointers();
    for (size_t i = 0; i < items.size(); ++i) DivideByMean(*estimate_list[i], *mean_list[i]);
    return estimates;
  }

  TemporaryList EstimatesOfVectors(const std::vector<Item>& items) {
    {
      TemporaryList squares;
      for (const Item& item : items) squares.Append(Mul(*item.gradient, *item.gradient));
      const Pointers square_list = squares.pointers();
      for (size_t i = 0; i < items.size(); ++i) Average(items[i].state->variance, *square_list[i], 0);
    }
    TemporaryList estimates;
    for (const Item& item : items) estimates.Append(Clone(item.state->variance));
    return estimates;
  }

  // One parameter after the other; names keep their last tensor.
  void ForLoop(const std::vector<Item>& items) {
    Tensor update, squares, column_norms, row_norms;
    for (const Item& item : items) {
      ReadNorm(*item.parameter);
      Tensor estimate;
      if (IsMatrix(*item.gradient)) {
        row_norms = RowNorms(item);
        Average(item.state->row, row_norms, item.gradient->size(1));
        column_norms = ColumnNorms(item);
        Average(item.state->column, column_norms, item.gradient->size(0));
        estimate = Product(item);
        DivideByMean(estimate, MeanOfRow(item));
      } else {
        squares = Mul(*item.gradient, *item.gradient);
        Average(item.state->variance, squares, 0);
        estimate = Clone(item.state->variance);
      }
      ScaleGradient(item, estimate);
      update = std::move(estimate);
      ReadNorm(update);
      Apply(item, update);
    }
  }

  bool foreach_;
  int64_t step_ = 0;
  std::vector<std::vector<AdafactorState>> states_;  // by group and parameter
};

}  // namespace

std::unique_ptr<Optimizer> MakeAdafactor(Tracer& tracer, std::vector<ParameterGroup> groups,
                                         const OptimizerConfig& config) {
  return std::make_unique<Adafactor>(tracer, std::move(groups),
                                     config.implementation == OptimizerImplementation::kForeach);
}

}  // namespace tidemark
