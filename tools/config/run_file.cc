#include "tools/config/run_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "tools/config/check_run.h"
#include "tools/config/devices.h"
#include "tools/config/huggingface.h"
#include "tools/config/map_reader.h"
#include "tools/config/nanogpt.h"
#include "tools/config/passes.h"
#include "tools/config/sequence.h"
#include "tools/config/words.h"
#include "tools/formats/files.h"

namespace tidemark {
namespace {

constexpr int64_t kMaxDimension = int64_t{1} << 40;  // products are checked as well: check_run.h

// A field of transformers' configuration class, verbatim.
Result<ConfigValue> ReadConfigValue(const DocumentNode& node, const std::string& path) {
  if (node.kind == DocumentNode::Kind::kNull) return ConfigValue(std::monostate());
  if (node.kind != DocumentNode::Kind::kScalar) {
    return InvalidInput(fmt::format("{}: {} has to be a number, a text, true, false or null", node.place, path));
  }
  const std::string& text = node.text;
  if (node.quoted) return ConfigValue(text);
  if (text == "true" || text == "True") return ConfigValue(true);
  if (text == "false" || text == "False") return ConfigValue(false);
  const char* end = text.data() + text.size();
  int64_t whole = 0;
  if (const auto parsed = std::from_chars(text.data(), end, whole); parsed.ec == std::errc() && parsed.ptr == end) {
    return ConfigValue(whole);
  }
  double number = 0;
  if (const auto parsed = std::from_chars(text.data(), end, number); parsed.ec == std::errc() && parsed.ptr == end) {
    return ConfigValue(number);
  }
  return ConfigValue(text);
}

// The head dimension that a family's configuration class has where none is given; 0: it follows from hidden and heads.
int64_t ClassHeadDim(Family family) {
  switch (family) {
    case Family::kQwen3:
      return 128;
    case Family::kGemma:
      return 256;
    default:
      return 0;
  }
}

Result<ModelConfig> ReadModel(const DocumentNode& node) {
  constexpr IntegerRange kDimension = {.min = 1, .max = kMaxDimension};
  MapReader reader(node, "model");
  ModelConfig model;
  for (const char* key : {"family", "layers", "hidden", "heads", "vocab", "context"}) reader.Require(key);
  reader.Word("family", &model.family, Words<Family>(kFamilyWords));
  model.implementation = model.family == Family::kGpt2 ? Implementation::kNanogpt : Implementation::kTransformers;
  reader.Word("implementation", &model.implementation, Words<Implementation>(kImplementationWords));
  reader.Integer("layers", &model.layers, kDimension);
  reader.Integer("hidden", &model.hidden, kDimension);
  reader.Integer("heads", &model.heads, kDimension);
  reader.Integer("kv_heads", &model.kv_heads, kDimension);
  reader.Integer("head_dim", &model.head_dim, kDimension);
  reader.Integer("ffn", &model.ffn, kDimension);
  reader.Integer("vocab", &model.vocab, kDimension);
  reader.Integer("context", &model.context, kDimension);
  reader.Bool("bias", &model.bias);
  reader.Bool("tied_embeddings", &model.tied_embeddings);
  reader.Number("dropout", &model.dropout, {.min = 0, .max = 1, .max_included = false});
  reader.Bool("use_cache", &model.use_cache);
  const DocumentNode* config = reader.Take("config");
  RETURN_IF_ERROR(reader.Finish());
  if (config != nullptr && config->kind != DocumentNode::Kind::kMap && config->kind != DocumentNode::Kind::kNull) {
    return InvalidInput(fmt::format("{}: model.config has to be a map", config->place));
  }
  for (const DocumentField& field : config != nullptr ? config->fields : std::vector<DocumentField>{}) {
    ASSIGN_OR_RETURN(ConfigValue value, ReadConfigValue(field.value, "model.config." + field.key));
    model.config.push_back({field.key, std::move(value)});
  }
  if (model.kv_heads == 0) model.kv_heads = model.heads;
  if (model.ffn == 0) model.ffn = 4 * model.hidden;
  if (model.head_dim == 0) model.head_dim = ClassHeadDim(model.family);
  if (model.head_dim == 0) {
    if (model.hidden % model.heads != 0) {
      return InvalidInput(fmt::format("{}: model.hidden {} is not a multiple of model.heads {}; say model.head_dim",
                                      reader.place(), model.hidden, model.heads));
    }
    model.head_dim = model.hidden / model.heads;
  }
  return model;
}

Result<OptimizerConfig> ReadOptimizer(const DocumentNode& node) {
  OptimizerConfig optimizer;
  MapReader reader(node, "training.optimizer");
  double weight_decay = 0;
  reader.Require("name");
  reader.Word("name", &optimizer.kind, Words<OptimizerKind>(kOptimizerWords));
  reader.Word("implementation", &optimizer.implementation,
              Words<OptimizerImplementation>(kOptimizerImplementationWords));
  reader.Number("momentum", &optimizer.momentum, {.min = 0, .max = 1});
  reader.Bool("nesterov", &optimizer.nesterov);
  reader.Number("weight_decay", &weight_decay, {.min = 0});
  for (const char* key : {"amsgrad", "centered", "maximize", "capturable", "differentiable"}) {
    bool value = false;
    reader.Bool(key, &value);
    if (value)
      return InvalidInput(
          fmt::format("{}: training.optimizer.{} can't be simulated; leave it out", reader.place(), key));
  }
  RETURN_IF_ERROR(reader.Finish());
  if (reader.Has("weight_decay")) optimizer.weight_decay = weight_decay;
  if (optimizer.kind == OptimizerKind::kAdafactor && !reader.Has("implementation")) {
    optimizer.implementation = OptimizerImplementation::kForLoop;  // PyTorch's default for it
  }
  const bool is_sgd = optimizer.kind == OptimizerKind::kSgd;
  if (optimizer.momentum != 0 && !is_sgd && optimizer.kind != OptimizerKind::kRmsprop) {
    return InvalidInput(fmt::format("{}: training.optimizer.momentum belongs to sgd and rmsprop", reader.place()));
  }
  if (optimizer.nesterov && (!is_sgd || optimizer.momentum == 0)) {
    return InvalidInput(fmt::format("{}: training.optimizer.nesterov belongs to sgd with momentum", reader.place()));
  }
  return optimizer;
}

Result<std::optional<EvaluationConfig>> ReadEvaluation(const DocumentNode& node) {
  if (node.kind == DocumentNode::Kind::kNull) return std::optional<EvaluationConfig>();
  EvaluationConfig evaluation;
  MapReader reader(node, "training.evaluation");
  reader.Integer("every", &evaluation.every, {});
  reader.Integer("batches", &evaluation.batches, {});
  RETURN_IF_ERROR(reader.Finish());
  return std::optional(evaluation);
}

Result<TrainingConfig> ReadTraining(const DocumentNode& node, const ModelConfig& model) {
  MapReader reader(node, "training");
  TrainingConfig training;
  training.loop = model.implementation == Implementation::kNanogpt ? Loop::kNanogpt : Loop::kPlain;
  reader.Require("micro_batch");
  reader.Integer("micro_batch", &training.micro_batch, {.min = 1, .max = kMaxDimension});
  const DocumentNode* sequence = reader.Take("sequence");
  reader.Integer("gradient_accumulation", &training.gradient_accumulation, {});
  reader.Word("precision", &training.precision, Words<Precision>(kPrecisionWords));
  reader.Word("attention", &training.attention, Words<AttentionChoice>(kAttentionWords));
  const DocumentNode* optimizer = reader.Take("optimizer");
  reader.Number("grad_clip", &training.grad_clip, {.min = 0});
  reader.Word("compile", &training.compile, Words<CompileMode>(kCompileWords));
  reader.Integer("steps", &training.steps, {});
  const DocumentNode* evaluation = reader.Take("evaluation");
  reader.Word("loop", &training.loop, Words<Loop>(kLoopWords));
  RETURN_IF_ERROR(reader.Finish());
  if (optimizer != nullptr) {
    ASSIGN_OR_RETURN(training.optimizer, ReadOptimizer(*optimizer));
  }
  if (evaluation != nullptr) {
    ASSIGN_OR_RETURN(training.evaluation, ReadEvaluation(*evaluation));
  }
  if (sequence == nullptr) {
    training.sequence = {model.context};
  } else {
    ASSIGN_OR_RETURN(training.sequence, ReadSequence(*sequence, training));
  }
  return training;
}

Result<AllocatorConfig> ReadAllocator(const DocumentNode& node) {
  AllocatorConfig allocator;
  MapReader reader(node, "allocator");
  reader.Text("backend", &allocator.backend);
  reader.Text("conf", &allocator.conf);
  RETURN_IF_ERROR(reader.Finish());
  return allocator;
}

constexpr const char* kDefaultDevice = "rtx4070";

// `--set device.memory=8GiB` reaches into a device that the file gives by name, or not at all.
void OpenDevice(DocumentNode& root) {
  for (DocumentField& field : root.fields) {
    if (field.key != "device") continue;
    if (field.value.kind == DocumentNode::Kind::kScalar) {
      DocumentNode device = MakeMap(field.value.place);
      AddField(device, "name", std::move(field.value));
      field.value = std::move(device);
    }
    return;
  }
  DocumentNode device = MakeMap(root.place);
  AddField(device, "name", MakeScalar(kDefaultDevice, root.place));
  AddField(root, "device", std::move(device));
}

enum class ConfigKind : uint8_t { kRunFile, kHuggingFace, kNanogpt };

ConfigKind KindOf(const std::string& name, const DocumentNode& root) {
  if (name.ends_with(".py")) return ConfigKind::kNanogpt;
  const bool run_file = FindField(root, "model") != nullptr || FindField(root, "training") != nullptr;
  const bool model_file = FindField(root, "model_type") != nullptr || FindField(root, "architectures") != nullptr;
  return !run_file && model_file ? ConfigKind::kHuggingFace : ConfigKind::kRunFile;
}

}  // namespace

Result<RunConfig> ReadRun(const DocumentNode& root) {
  MapReader reader(root, "");
  RunConfig run;
  reader.Require("model");
  reader.Require("training");
  reader.Text("framework", &run.framework);
  const DocumentNode* model = reader.Take("model");
  const DocumentNode* training = reader.Take("training");
  const DocumentNode* device = reader.Take("device");
  const DocumentNode* allocator = reader.Take("allocator");
  const DocumentNode* passes = reader.Take("passes");
  RETURN_IF_ERROR(reader.Finish());
  ASSIGN_OR_RETURN(run.model, ReadModel(*model));
  ASSIGN_OR_RETURN(run.training, ReadTraining(*training, run.model));
  if (device != nullptr) {
    ASSIGN_OR_RETURN(run.device, ReadDevice(*device));
  } else {
    ASSIGN_OR_RETURN(run.device, FindDevice(kDefaultDevice, reader.place()));
  }
  if (allocator != nullptr) {
    ASSIGN_OR_RETURN(run.allocator, ReadAllocator(*allocator));
  }
  if (passes != nullptr) {
    ASSIGN_OR_RETURN(run.passes, ReadPasses(*passes));
  }
  RETURN_IF_ERROR(CheckRun(run, root));
  return run;
}

Result<LoadedRun> ParseRun(std::string_view text, const std::string& name, std::span<const std::string> overrides) {
  LoadedRun loaded;
  DocumentNode root;
  if (name.ends_with(".py")) {
    ASSIGN_OR_RETURN(root, ReadNanogpt(text, name, loaded.notes));
  } else {
    ASSIGN_OR_RETURN(root, ParseYaml(text, name));
    if (KindOf(name, root) == ConfigKind::kHuggingFace) {
      ASSIGN_OR_RETURN(root, ReadHuggingFace(root, loaded.notes));
    }
  }
  for (const std::string& assignment : overrides) {
    if (assignment.starts_with("device.")) OpenDevice(root);
    RETURN_IF_ERROR(ApplyOverride(root, assignment));
  }
  ASSIGN_OR_RETURN(loaded.config, ReadRun(root));
  return loaded;
}

Result<LoadedRun> LoadRun(const std::string& path, std::span<const std::string> overrides) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return ParseRun(text, path, overrides);
}

}  // namespace tidemark
