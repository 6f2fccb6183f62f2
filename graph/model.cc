#include "graph/model.h"

#include <array>

#include "graph/models/nanogpt.h"
#include "graph/models/transformers/bert.h"
#include "graph/models/transformers/gpt2.h"
#include "graph/models/transformers/gpt_neox.h"
#include "graph/models/transformers/llama.h"
#include "graph/models/transformers/opt.h"
#include "graph/models/transformers/phi.h"
#include "graph/models/transformers/phi3.h"
#include "graph/models/transformers/t5.h"

namespace tidemark {

std::span<const ModelInfo> Models() {
  static constexpr std::array kModels = {
      ModelInfo{Family::kGpt2, Implementation::kNanogpt, "gpt2", "GPT-2 as nanoGPT writes it", &MakeNanogpt},
      ModelInfo{Family::kGpt2, Implementation::kTransformers, "gpt2", "GPT-2 as transformers writes it",
                &transformers::MakeGpt2},
      ModelInfo{Family::kLlama, Implementation::kTransformers, "llama", "Llama", &transformers::MakeLlama},
      ModelInfo{Family::kMistral, Implementation::kTransformers, "mistral", "Mistral: Llama with a sliding window",
                &transformers::MakeMistral},
      ModelInfo{Family::kQwen2, Implementation::kTransformers, "qwen2", "Qwen2 and 2.5: Llama with biases",
                &transformers::MakeQwen2},
      ModelInfo{Family::kQwen3, Implementation::kTransformers, "qwen3", "Qwen3: Llama with normed queries and keys",
                &transformers::MakeQwen3},
      ModelInfo{Family::kGemma, Implementation::kTransformers, "gemma", "Gemma: Llama with scaled embeddings",
                &transformers::MakeGemma},
      ModelInfo{Family::kBert, Implementation::kTransformers, "bert", "BERT, masked language model",
                &transformers::MakeBert},
      ModelInfo{Family::kT5, Implementation::kTransformers, "t5", "T5, encoder and decoder", &transformers::MakeT5},
      ModelInfo{Family::kPhi, Implementation::kTransformers, "phi", "Phi-1, 1.5 and 2", &transformers::MakePhi},
      ModelInfo{Family::kPhi3, Implementation::kTransformers, "phi3", "Phi-3: Llama with fused projections",
                &transformers::MakePhi3},
      ModelInfo{Family::kGptNeox, Implementation::kTransformers, "gpt_neox", "GPT-NeoX, Pythia",
                &transformers::MakeGptNeox},
      ModelInfo{Family::kOpt, Implementation::kTransformers, "opt", "OPT", &transformers::MakeOpt},
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
      ASSIGN_OR_RETURN(std::unique_ptr<Model> made, model.make(tracer, run));
      // nanoGPT's loop makes a model in fp32 and converts it: model.to(dtype).
      if (run.training.loop == Loop::kNanogpt) made->ConvertBuffers();
      return made;
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
