// A training run, resolved: what a run file says, with every default filled in (contract, section 3).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "graph/device.h"

namespace tidemark {

enum class Family : uint8_t {
  kGpt2,
  kLlama,
  kMistral,
  kQwen2,
  kQwen3,
  kGemma,
  kPhi,
  kPhi3,
  kGptNeox,
  kOpt,
  kBert,
  kT5
};
enum class Implementation : uint8_t { kNanogpt, kTransformers };
enum class Precision : uint8_t { kFp32, kAmpFp16, kAmpBf16, kBf16, kFp16 };
enum class AttentionChoice : uint8_t { kAuto, kFlash, kEfficient, kMath, kEager };
enum class OptimizerKind : uint8_t { kAdamw, kAdam, kSgd, kRmsprop, kAdagrad, kAdafactor };
enum class OptimizerImplementation : uint8_t { kFused, kForeach, kForLoop };
enum class Loop : uint8_t { kNanogpt, kPlain };
enum class CompileMode : uint8_t { kOff, kOn, kFirstRun };

// Further fields of the family's configuration class of transformers ("model.config"), verbatim; std::monostate: null.
using ConfigValue = std::variant<bool, int64_t, double, std::string, std::monostate>;
struct ConfigField {
  std::string key;
  ConfigValue value;
  bool operator==(const ConfigField&) const = default;
};

// Dimensions have one letter in the code of models: B micro_batch, T sequence, C hidden, H heads, K kv_heads, D
// head_dim, F ffn, V vocab, L layers, N = B * T.
struct ModelConfig {
  Family family = Family::kGpt2;
  Implementation implementation = Implementation::kNanogpt;
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t ffn = 0;
  int64_t vocab = 0;
  int64_t context = 0;
  bool bias = false;
  bool tied_embeddings = true;
  double dropout = 0.0;
  bool use_cache = false;
  std::vector<ConfigField> config;
  bool operator==(const ModelConfig&) const = default;
};

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::kAdamw;
  OptimizerImplementation implementation = OptimizerImplementation::kForeach;
  double momentum = 0.0;  // sgd, rmsprop
  bool nesterov = false;  // sgd
  std::optional<double>
      weight_decay;  // none: the loop's own (nanogpt: 0.1 for matrices; plain: the optimizer's default)
  bool operator==(const OptimizerConfig&) const = default;
};

struct EvaluationConfig {
  int64_t every = 1;    // before steps 0, every, 2 * every, …
  int64_t batches = 2;  // each time, in total
  bool operator==(const EvaluationConfig&) const = default;
};

struct TrainingConfig {
  int64_t micro_batch = 0;
  // One length for each gradient_accumulation batches (evaluation's count too), again and again.
  std::vector<int64_t> sequence;
  int64_t gradient_accumulation = 1;
  Precision precision = Precision::kFp32;
  AttentionChoice attention = AttentionChoice::kAuto;
  OptimizerConfig optimizer;
  double grad_clip = 0.0;  // 0: no clipping
  CompileMode compile = CompileMode::kOff;
  int64_t steps = 3;
  std::optional<EvaluationConfig> evaluation;
  Loop loop = Loop::kNanogpt;
  bool operator==(const TrainingConfig&) const = default;
};

// torch.utils.checkpoint around every block.
struct RecomputeConfig {
  bool reentrant = false;
  bool operator==(const RecomputeConfig&) const = default;
};

// --- Passes: what each does is in passes/, a header each; passes/pass.h has the table.

enum class RecomputePolicy : uint8_t { kFull, kEveryN, kSelective, kMinCut, kBudget };

// Drops activations after forward and computes them again in backward.
struct RecomputePass {
  RecomputePolicy policy = RecomputePolicy::kFull;
  bool reentrant = false;        // full
  int64_t blocks = 2;            // every-n: so many blocks share a checkpoint
  std::vector<std::string> ops;  // selective: names of the ops that run again
  Bytes budget;                  // budget: what the allocator may reserve
  bool operator==(const RecomputePass&) const = default;
};

// Each batch as several smaller ones, whose gradients add up.
struct AccumulatePass {
  int64_t parts = 2;
  bool operator==(const AccumulatePass&) const = default;
};

// Runs of elementwise ops and reductions as one kernel, whose inner results never reach memory.
struct FusePass {
  bool reductions = true;  // else elementwise ops only
  bool operator==(const FusePass&) const = default;
};

// The head's product and the loss in parts of the rows, so that whole logits never exist.
struct ChunkLossPass {
  int64_t chunks = 0;           // 0: as many as make a chunk's logits no larger than the head's input
  bool gradient_early = false;  // the gradient is computed along with the loss instead of computing logits again
  bool operator==(const ChunkLossPass&) const = default;
};

enum class OffloadWhat : uint8_t { kActivations, kOptimizerState };

// Keeps tensors in the host's memory while nobody needs them.
struct OffloadPass {
  OffloadWhat what = OffloadWhat::kActivations;
  Bytes smallest = kMiB;  // smaller ones stay
  bool operator==(const OffloadPass&) const = default;
};

// Updates each parameter as soon as its gradient is there, and drops the gradient.
struct OptimizerInBackwardPass {
  bool operator==(const OptimizerInBackwardPass&) const = default;
};

using PassConfig =
    std::variant<RecomputePass, FusePass, ChunkLossPass, AccumulatePass, OffloadPass, OptimizerInBackwardPass>;

struct AllocatorConfig {
  std::string backend = "native";
  std::string conf;  // a PYTORCH_CUDA_ALLOC_CONF string, verbatim
  bool operator==(const AllocatorConfig&) const = default;
};

struct RunConfig {
  std::string framework = "pytorch-2.14";
  ModelConfig model;
  TrainingConfig training;
  DeviceSpec device;
  AllocatorConfig allocator;
  std::vector<PassConfig> passes;  // in the order of the run file
  // What the program itself checkpoints. Set by ResolveProgram (graph/run_program.h), not by whoever reads a file.
  std::optional<RecomputeConfig> recompute;
  bool operator==(const RunConfig&) const = default;
};

}  // namespace tidemark
