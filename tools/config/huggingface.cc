#include "tools/config/huggingface.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>

#include "tools/config/map_reader.h"
#include "tools/config/suggest.h"

namespace tidemark {
namespace {

// What the configuration class of a model type has where a file says nothing. 0: derived (kv_heads from heads, head_dim
// from hidden and heads, ffn 4 x hidden).
struct ClassDefaults {
  std::string_view model_type;
  int64_t hidden, layers, heads, kv_heads, head_dim, ffn, vocab, positions;
  bool tied;
  double dropout;
};
constexpr ClassDefaults kDefaults[] = {
    {"gpt2", 768, 12, 12, 0, 0, 0, 50257, 1024, true, 0.1},
    {"llama", 4096, 32, 32, 0, 0, 11008, 32000, 2048, false, 0},
    {"mistral", 4096, 32, 32, 8, 0, 14336, 32000, 131072, false, 0},
    {"qwen2", 4096, 32, 32, 32, 0, 22016, 151936, 32768, false, 0},
    {"qwen3", 4096, 32, 32, 32, 128, 22016, 151936, 32768, false, 0},
    {"gemma", 3072, 28, 16, 16, 256, 24576, 256000, 8192, true, 0},
    {"phi", 2048, 24, 32, 0, 0, 8192, 51200, 2048, false, 0},
    {"phi3", 3072, 32, 32, 0, 0, 8192, 32064, 4096, false, 0},
    {"gpt_neox", 6144, 44, 64, 0, 0, 24576, 50432, 2048, false, 0},
    {"opt", 768, 12, 12, 0, 0, 3072, 50272, 2048, true, 0.1},
    {"bert", 768, 12, 12, 0, 0, 3072, 30522, 512, true, 0.1},
    {"t5", 512, 6, 8, 0, 64, 2048, 32128, 512, true, 0.1},
};

// Keys that decide memory beyond the run file's own; handed on to model.config verbatim.
constexpr std::string_view kHandedOn[] = {
    "hidden_act",
    "hidden_activation",
    "activation_function",
    "partial_rotary_factor",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "use_parallel_residual",
    "qk_layernorm",
    "rotary_pct",
    "word_embed_proj_dim",
    "num_decoder_layers",
    "feed_forward_proj",
    "mlp_bias",
    "enable_bias",
    "do_layer_norm_before",
    "layerdrop",
    "attention_dropout",
    "attn_pdrop",
    "embd_pdrop",
    "_remove_final_layer_norm",
    "layer_norm_elementwise_affine",
    "use_bidirectional_attention",
    "attention_probs_dropout_prob",
};

// Classes that read attention_bias; files of others may have it all the same.
constexpr std::string_view kBiased[] = {"llama", "qwen3", "gemma"};

constexpr int64_t kSequenceAssumed = 2048;

class Importer {
 public:
  Importer(const DocumentNode& config, const ClassDefaults& defaults, std::string_view family,
           std::vector<std::string>& notes)
      : config_(config), defaults_(defaults), family_(family), notes_(notes), model_(MakeMap(config.place)) {}

  DocumentNode Run() {
    Word("family", std::string(family_));
    Word("implementation", "transformers");
    Number("hidden", {"hidden_size", "n_embd", "d_model"}, defaults_.hidden);
    Number("layers", {"num_hidden_layers", "n_layer", "num_layers"}, defaults_.layers);
    Number("heads", {"num_attention_heads", "n_head", "num_heads"}, defaults_.heads);
    Number("kv_heads", {"num_key_value_heads"}, defaults_.kv_heads);
    Number("head_dim", {"head_dim", "d_kv"}, defaults_.head_dim);
    Number("ffn", {"intermediate_size", "n_inner", "ffn_dim", "d_ff"}, defaults_.ffn);
    Number("vocab", {"vocab_size"}, defaults_.vocab);
    Number("context", {"max_position_embeddings", "n_positions", "n_ctx"}, defaults_.positions);
    Copy("tied_embeddings", {"tie_word_embeddings"}, defaults_.tied ? "true" : "false");
    Copy("dropout",
         {"resid_pdrop", "hidden_dropout_prob", "hidden_dropout", "dropout_rate", "dropout", "attention_dropout"},
         fmt::format("{}", defaults_.dropout));
    HandOn();
    DocumentNode training = Training();
    DocumentNode root = MakeMap(config_.place);
    AddField(root, "model", std::move(model_));
    AddField(root, "training", std::move(training));
    return root;
  }

 private:
  const DocumentNode* Find(std::initializer_list<std::string_view> keys) const {
    for (const std::string_view key : keys) {
      const DocumentNode* node = FindField(config_, key);
      if (node != nullptr && node->kind != DocumentNode::Kind::kNull) return node;
    }
    return nullptr;
  }

  void Word(std::string key, std::string text) {
    AddField(model_, std::move(key), MakeScalar(std::move(text), config_.place));
  }

  // The first of `keys` that the file has, or `fallback`; nothing where both are missing.
  void Copy(std::string key, std::initializer_list<std::string_view> keys, const std::string& fallback) {
    if (const DocumentNode* node = Find(keys)) {
      AddField(model_, std::move(key), *node);
    } else if (!fallback.empty()) {
      Word(std::move(key), fallback);
    }
  }

  void Number(const std::string& key, std::initializer_list<std::string_view> keys, int64_t fallback) {
    if (Find(keys) == nullptr && fallback != 0) {
      notes_.push_back(fmt::format("model.{}: {}, the default of {}'s configuration class", key, fallback, family_));
    }
    Copy(key, keys, fallback == 0 ? "" : fmt::format("{}", fallback));
  }

  void HandOn() {
    DocumentNode further = MakeMap(config_.place);
    for (const std::string_view key : kHandedOn) {
      const DocumentNode* node = FindField(config_, key);
      if (node == nullptr) continue;
      const bool is_null = node->kind == DocumentNode::Kind::kNull;
      if (!is_null || key == "sliding_window") AddField(further, std::string(key), *node);  // null: no window
    }
    const DocumentNode* bias = Find({"attention_bias"});
    if (bias != nullptr && std::ranges::count(kBiased, family_) != 0) AddField(further, "attention_bias", *bias);
    if (family_ == "opt" && Find({"attention_dropout"}) == nullptr) {  // the one class with two defaults
      AddField(further, "attention_dropout", MakeScalar("0", config_.place));
    }
    const DocumentNode* rope = Find({"rope_parameters"});
    const DocumentNode* factor = rope != nullptr ? FindField(*rope, "partial_rotary_factor") : nullptr;
    if (factor != nullptr && FindField(further, "partial_rotary_factor") == nullptr) {
      AddField(further, family_ == "gpt_neox" ? "rotary_pct" : "partial_rotary_factor", *factor);
    }
    NoteRope(rope);
    if (!further.fields.empty()) AddField(model_, "config", std::move(further));
  }

  // Frequencies that depend on the length are computed in every forward (modeling_rope_utils.py, dynamic_rope_update).
  void NoteRope(const DocumentNode* parameters) {
    if (parameters == nullptr) parameters = Find({"rope_scaling"});
    if (parameters == nullptr || parameters->kind != DocumentNode::Kind::kMap) return;
    const DocumentNode* type = FindField(*parameters, "rope_type");
    if (type == nullptr) type = FindField(*parameters, "type");
    if (type == nullptr || (type->text != "dynamic" && type->text != "longrope")) return;
    notes_.push_back(
        fmt::format("rope_type {}: what each forward computes for it (some small tensors) is left out", type->text));
  }

  DocumentNode Training() {
    DocumentNode training = MakeMap(config_.place);
    const auto add = [&](const char* key, std::string value) {
      notes_.push_back(fmt::format("training.{}: {}, assumed; --set training.{}=… says otherwise", key, value, key));
      AddField(training, key, MakeScalar(std::move(value), config_.place));
    };
    const DocumentNode* context = FindField(model_, "context");
    int64_t positions = defaults_.positions;
    if (context != nullptr) {
      std::from_chars(context->text.data(), context->text.data() + context->text.size(), positions);
    }
    const DocumentNode* dtype = Find({"torch_dtype", "dtype"});
    add("micro_batch", "1");
    add("sequence", fmt::format("{}", std::clamp<int64_t>(positions, 1, kSequenceAssumed)));
    add("precision", dtype == nullptr            ? "fp32"
                     : dtype->text == "bfloat16" ? "bf16"
                     : dtype->text == "float16"  ? "fp16"
                                                 : "fp32");
    return training;
  }

  const DocumentNode& config_;
  const ClassDefaults& defaults_;
  std::string_view family_;
  std::vector<std::string>& notes_;
  DocumentNode model_;
};

}  // namespace

Result<DocumentNode> ReadHuggingFace(const DocumentNode& config, std::vector<std::string>& notes) {
  const DocumentNode* text_config = FindField(config, "text_config");
  if (text_config != nullptr && text_config->kind == DocumentNode::Kind::kMap &&
      FindField(*text_config, "model_type") != nullptr) {
    notes.emplace_back("only text_config is read: other parts of the model are left out");
    return ReadHuggingFace(*text_config, notes);
  }
  const DocumentNode* type = FindField(config, "model_type");
  const std::string name = type != nullptr ? type->text : "";
  const auto known = std::ranges::find(kDefaults, name, &ClassDefaults::model_type);
  if (known != std::end(kDefaults)) return Importer(config, *known, known->model_type, notes).Run();
  const bool llama_like =
      std::ranges::all_of(std::to_array<std::string_view>({"hidden_size", "intermediate_size", "num_hidden_layers",
                                                           "num_attention_heads", "vocab_size"}),
                          [&](std::string_view key) { return FindField(config, key) != nullptr; });
  if (llama_like && FindField(config, "num_key_value_heads") != nullptr) {
    notes.push_back(fmt::format("model type \"{}\" isn't known: taken for a llama, whose keys it has", name));
    return Importer(config, kDefaults[1], "llama", notes).Run();
  }
  std::vector<std::string> types;
  for (const ClassDefaults& defaults : kDefaults) types.emplace_back(defaults.model_type);
  return InvalidInput(fmt::format("{}: unknown model_type \"{}\"; {}", type != nullptr ? type->place : config.place,
                                  name, KnownWords(name, types)));
}

}  // namespace tidemark
