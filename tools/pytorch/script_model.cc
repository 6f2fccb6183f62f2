// The models of a generated PyTorch program.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <variant>
#include <vector>

#include "tools/config/words.h"
#include "tools/pytorch/script.h"

namespace tidemark {
namespace {

const char* PythonBool(bool value) { return value ? "True" : "False"; }

// "0.0", not "0": configuration classes check types.
std::string PythonFloat(double value) {
  const std::string text = fmt::format("{}", value);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

// --- GPT-2 as nanoGPT writes it

constexpr const char* kNorm = R"python(
class Norm(nn.Module):
    """LayerNorm whose bias is optional."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))
        self.bias = nn.Parameter(torch.zeros(HIDDEN)) if BIAS else None

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn = nn.Linear(HIDDEN, 3 * HIDDEN, bias=BIAS)
        self.c_proj = nn.Linear(HIDDEN, HIDDEN, bias=BIAS)
        self.drop = nn.Dropout(DROPOUT)
)python";

constexpr const char* kMask = R"python(        self.drop_scores = nn.Dropout(DROPOUT)
        self.register_buffer("mask", torch.tril(torch.ones(CONTEXT, CONTEXT)).view(1, 1, CONTEXT, CONTEXT))
)python";

constexpr const char* kHeads = R"python(
    def forward(self, x):
        batch, length, width = x.shape
        shape = (batch, length, HEADS, width // HEADS)
        q, k, v = self.c_attn(x).split(width, dim=2)
        k = k.view(shape).transpose(1, 2)
        q = q.view(shape).transpose(1, 2)
        v = v.view(shape).transpose(1, 2)
)python";

constexpr const char* kEagerAttention =
    R"python(        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.shape[-1]))
        scores = scores.masked_fill(self.mask[:, :, :length, :length] == 0, float("-inf"))
        scores = F.softmax(scores, dim=-1)
        scores = self.drop_scores(scores)
        y = scores @ v
)python";

constexpr const char* kFusedAttention =
    "        y = F.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT if self.training else 0, is_causal=True)\n";

constexpr const char* kMlpAndBlock = R"python(        y = y.transpose(1, 2).contiguous().view(batch, length, width)
        y = self.drop(self.c_proj(y))
        return y


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_fc = nn.Linear(HIDDEN, FFN, bias=BIAS)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(FFN, HIDDEN, bias=BIAS)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x):
        x = self.c_fc(x)
        x = self.gelu(x)
        x = self.c_proj(x)
        x = self.drop(x)
        return x


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = Norm()
        self.attn = Attention()
        self.ln_2 = Norm()
        self.mlp = Mlp()

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        x = x + self.mlp(self.ln_2(x))
        return x


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(VOCAB, HIDDEN)
        self.wpe = nn.Embedding(CONTEXT, HIDDEN)
        self.drop = nn.Dropout(DROPOUT)
        self.h = nn.ModuleList(Block() for _ in range(LAYERS))
        self.ln_f = Norm()
        self.lm_head = nn.Linear(HIDDEN, VOCAB, bias=False)
)python";

constexpr const char* kForward = R"python(
    def forward(self, tokens, targets):
        positions = torch.arange(0, tokens.shape[1], dtype=torch.long, device=tokens.device)
        token_rows = self.wte(tokens)
        position_rows = self.wpe(positions)
        x = self.drop(token_rows + position_rows)
        for block in self.h:
)python";

constexpr const char* kHead = R"python(        x = self.ln_f(x)
        logits = self.lm_head(x)
        loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
        return logits, loss
)python";

std::string BlockCall(const RunConfig& run) {
  if (!run.recompute) return "            x = block(x)\n";
  return fmt::format(
      "            if self.training:\n"
      "                x = checkpoint(block, x, use_reentrant={})\n"
      "            else:\n"
      "                x = block(x)\n",
      PythonBool(run.recompute->reentrant));
}

// --- transformers

using Arguments = std::vector<std::pair<std::string, std::string>>;  // names and Python values

void Set(Arguments& arguments, const std::string& name, std::string value) {
  const auto found = std::ranges::find(arguments, name, &Arguments::value_type::first);
  if (found == arguments.end()) {
    arguments.emplace_back(name, std::move(value));
  } else {
    found->second = std::move(value);
  }
}

std::string PythonValue(const ConfigValue& value) {
  struct Writer {
    std::string operator()(std::monostate) const { return "None"; }
    std::string operator()(bool truth) const { return PythonBool(truth); }
    std::string operator()(int64_t number) const { return fmt::format("{}", number); }
    std::string operator()(double number) const { return PythonFloat(number); }
    std::string operator()(const std::string& text) const { return nlohmann::json(text).dump(); }
  };
  return std::visit(Writer(), value);
}

// What the arguments are called in a family's configuration class. Most families share a first set of names.
struct FamilyNames {
  Family family;
  bool key_value_heads;               // has num_key_value_heads
  std::vector<const char*> dropouts;  // arguments that a run file's dropout stands for
  std::vector<const char*> biases;    // … its bias
  std::vector<std::pair<const char*, const char*>> fixed;
};

const FamilyNames& NamesOf(Family family) {
  static const std::vector<FamilyNames> kNames = {
      {Family::kLlama, true, {"attention_dropout"}, {"attention_bias", "mlp_bias"}, {}},
      {Family::kMistral, true, {"attention_dropout"}, {}, {}},
      {Family::kQwen2, true, {"attention_dropout"}, {}, {}},
      {Family::kQwen3, true, {"attention_dropout"}, {"attention_bias"}, {}},
      {Family::kGemma, true, {"attention_dropout"}, {}, {}},
      {Family::kPhi, true, {"attention_dropout", "resid_pdrop", "embd_pdrop"}, {}, {}},
      {Family::kPhi3, true, {"attention_dropout", "resid_pdrop", "embd_pdrop"}, {}, {{"pad_token_id", "0"}}},
      {Family::kGptNeox, false, {"hidden_dropout", "attention_dropout"}, {}, {}},
      {Family::kBert, false, {"hidden_dropout_prob", "attention_probs_dropout_prob"}, {}, {}},
  };
  const auto found = std::ranges::find(kNames, family, &FamilyNames::family);
  return found == kNames.end() ? kNames.front() : *found;
}

Arguments CommonArguments(const ModelConfig& m) {
  const FamilyNames& names = NamesOf(m.family);
  Arguments arguments;
  const auto set = [&](const char* name, int64_t value) { Set(arguments, name, fmt::format("{}", value)); };
  set("hidden_size", m.hidden);
  set("num_hidden_layers", m.layers);
  set("num_attention_heads", m.heads);
  if (names.key_value_heads) set("num_key_value_heads", m.kv_heads);
  // Classes differ in their own default; where it is hidden / heads, nothing need be said.
  const bool own_default = m.family == Family::kQwen3 || m.family == Family::kGemma;
  if (own_default || m.head_dim * m.heads != m.hidden) set("head_dim", m.head_dim);
  set("intermediate_size", m.ffn);
  set("vocab_size", m.vocab);
  set("max_position_embeddings", m.context);
  for (const char* name : names.dropouts) Set(arguments, name, PythonFloat(m.dropout));
  for (const char* name : names.biases) Set(arguments, name, PythonBool(m.bias));
  for (const auto& [name, value] : names.fixed) Set(arguments, name, value);
  return arguments;
}

Arguments Gpt2Arguments(const ModelConfig& m) {
  const std::string rate = PythonFloat(m.dropout);
  return {{"n_embd", fmt::format("{}", m.hidden)},
          {"n_layer", fmt::format("{}", m.layers)},
          {"n_head", fmt::format("{}", m.heads)},
          {"n_inner", fmt::format("{}", m.ffn)},
          {"n_positions", fmt::format("{}", m.context)},
          {"vocab_size", fmt::format("{}", m.vocab)},
          {"resid_pdrop", rate},
          {"embd_pdrop", rate},
          {"attn_pdrop", rate}};
}

Arguments OptArguments(const ModelConfig& m) {
  const std::string rate = PythonFloat(m.dropout);
  return {{"hidden_size", fmt::format("{}", m.hidden)},
          {"num_hidden_layers", fmt::format("{}", m.layers)},
          {"num_attention_heads", fmt::format("{}", m.heads)},
          {"ffn_dim", fmt::format("{}", m.ffn)},
          {"vocab_size", fmt::format("{}", m.vocab)},
          {"max_position_embeddings", fmt::format("{}", m.context)},
          {"word_embed_proj_dim", fmt::format("{}", m.hidden)},
          {"dropout", rate},
          {"attention_dropout", rate}};
}

Arguments T5Arguments(const ModelConfig& m) {
  return {{"d_model", fmt::format("{}", m.hidden)},  {"num_layers", fmt::format("{}", m.layers)},
          {"num_heads", fmt::format("{}", m.heads)}, {"d_ff", fmt::format("{}", m.ffn)},
          {"d_kv", fmt::format("{}", m.head_dim)},   {"vocab_size", fmt::format("{}", m.vocab)},
          {"dropout_rate", PythonFloat(m.dropout)},  {"decoder_start_token_id", "0"}};
}

Arguments ConfigArguments(const ModelConfig& m) {
  Arguments arguments = m.family == Family::kGpt2  ? Gpt2Arguments(m)
                        : m.family == Family::kOpt ? OptArguments(m)
                        : m.family == Family::kT5  ? T5Arguments(m)
                                                   : CommonArguments(m);
  Set(arguments, "use_cache", PythonBool(m.use_cache));
  Set(arguments, "tie_word_embeddings", PythonBool(m.tied_embeddings));
  for (const ConfigField& field : m.config) Set(arguments, field.key, PythonValue(field.value));
  return arguments;
}

const char* AutoClass(Family family) {
  if (family == Family::kBert) return "AutoModelForMaskedLM";
  return family == Family::kT5 ? "AutoModelForSeq2SeqLM" : "AutoModelForCausalLM";
}

}  // namespace

std::string WeightFormat(Precision precision) {
  switch (precision) {
    case Precision::kBf16:
      return "torch.bfloat16";
    case Precision::kFp16:
      return "torch.float16";
    default:
      return "torch.float32";
  }
}

ModelScript NanogptScript(const RunConfig& run) {
  const ModelConfig& m = run.model;
  const bool eager = run.training.attention == AttentionChoice::kEager;
  ModelScript script;
  if (eager) script.definition += "import math\n\n";
  script.definition += "import torch.nn.functional as F\nfrom torch import nn\n";
  if (run.recompute) script.definition += "from torch.utils.checkpoint import checkpoint\n";
  script.definition +=
      fmt::format("\nLAYERS, HIDDEN, HEADS, FFN, CONTEXT = {}, {}, {}, {}, {}\nBIAS, DROPOUT = {}, {}\n\n", m.layers,
                  m.hidden, m.heads, m.ffn, m.context, PythonBool(m.bias), PythonFloat(m.dropout));
  script.definition += kNorm;
  if (eager) script.definition += kMask;
  script.definition += kHeads;
  script.definition += eager ? kEagerAttention : kFusedAttention;
  script.definition += kMlpAndBlock;
  if (m.tied_embeddings) script.definition += "        self.wte.weight = self.lm_head.weight\n";
  script.definition += kForward + BlockCall(run) + kHead + "\n";
  script.construction = "model = Gpt()";
  const std::string format = WeightFormat(run.training.precision);
  if (format != "torch.float32") script.construction += fmt::format(".to({})", format);
  script.construction += "\n";
  return script;
}

ModelScript TransformersScript(const RunConfig& run) {
  ModelScript script;
  script.definition = "import transformers\n";
  script.construction =
      fmt::format("config = transformers.AutoConfig.for_model(\n    \"{}\"", WordOf(kFamilyWords, run.model.family));
  for (const auto& [name, value] : ConfigArguments(run.model))
    script.construction += fmt::format(",\n    {}={}", name, value);
  script.construction +=
      fmt::format(")\nmodel = transformers.{}.from_config(config, dtype={}, attn_implementation=\"{}\")\n",
                  AutoClass(run.model.family), WeightFormat(run.training.precision),
                  run.training.attention == AttentionChoice::kEager ? "eager" : "sdpa");
  if (run.recompute) {
    script.construction +=
        fmt::format("model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={{\"use_reentrant\": {}}})\n",
                    PythonBool(run.recompute->reentrant));
  }
  return script;
}

}  // namespace tidemark
