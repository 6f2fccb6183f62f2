#include "graph/model.h"

#include <array>

#include "graph/models/nanogpt.h"

namespace tidemark {

std::span<const ModelInfo> Models() {
  static constexpr std::array kModels = {
      ModelInfo{Family::kGpt2, Implementation::kNanogpt, "gpt2", "GPT-2 as nanoGPT writes it", &MakeNanogpt},
  };
  return kModels;
}

DType WeightDType(Precision precision) {
  switch (precision) {
    case Precision::kBf16:
      return DType::kBFloat16;
    case Precision::kFp16:
      return DType::kFloat16;
    default:
      return DType::kFloat32;
  }
}

Result<std::unique_ptr<Model>> MakeModel(Tracer& tracer, const RunConfig& run) {
  for (const ModelInfo& model : Models()) {
    if (model.family == run.model.family && model.implementation == run.model.implementation) {
      return model.make(tracer, run);
    }
  }
  std::string known;
  for (const ModelInfo& model : Models()) {
    if (!known.empty()) known += ", ";
    known += std::string(model.name) + (model.implementation == Implementation::kNanogpt ? " (nanogpt)" : "");
  }
  return InvalidInput("model.family: this family can't be simulated yet; there are: " + known);
}

}  // namespace tidemark
