// Models that can be traced, and the table of them.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "graph/base/result.h"
#include "graph/module.h"
#include "graph/run_config.h"

namespace tidemark {

// What a forward returns. Members are declared in the reverse of the order in which Python drops them.
struct ModelOutput {
  Tensor encoder;             // an encoder's last hidden state
  std::vector<Tensor> cache;  // keys and values, in the order in which they are dropped, reversed
  Tensor logits;
  Tensor loss;
};

class Model : public Module {
 public:
  using Module::Module;
  // tokens and targets: int64 [B, T].
  virtual ModelOutput Forward(const Tensor& tokens, const Tensor& targets) = 0;
  ModelOutput operator()(const Tensor& tokens, const Tensor& targets) {
    const InScope in_scope(tracer(), scope());
    return Forward(tokens, targets);
  }
};

struct ModelInfo {
  Family family;
  Implementation implementation;
  std::string_view name;         // as a run file writes the family
  std::string_view description;  // one line
  Result<std::unique_ptr<Model>> (*make)(Tracer& tracer, const RunConfig& run);
};

// Every model there is, in the order of `list models`.
std::span<const ModelInfo> Models();

// The format of the weights.
DType WeightDType(Precision precision);

// The model of a run, on the host. Errors: a family or an option that isn't there.
Result<std::unique_ptr<Model>> MakeModel(Tracer& tracer, const RunConfig& run);

// Elements of all its parameters, tied ones once. Nothing is traced. Errors: as MakeModel.
Result<int64_t> CountParameters(const RunConfig& run);

}  // namespace tidemark
