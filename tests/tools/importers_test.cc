#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/model.h"
#include "tools/config/python_value.h"
#include "tools/config/run_file.h"

namespace tidemark {
namespace {

using testing::Contains;
using testing::HasSubstr;

Result<LoadedRun> Parse(std::string_view text, const std::string& name, std::vector<std::string> overrides = {}) {
  return ParseRun(text, name, overrides);
}

// nanoGPT's config/train_shakespeare_char.py in its own words is longer; these are the kinds of line that it has.
constexpr std::string_view kShakespeare = R"(# train a miniature character-level shakespeare model
import time
"""a docstring
over two lines"""
out_dir = 'out-shakespeare-char'
wandb_run_name = 'ft-' + str(time.time())
dataset = 'shakespeare_char'
gradient_accumulation_steps = 1
batch_size = 64
block_size = 256 # context of up to 256 previous characters
n_layer = 6
n_head = 6
n_embd = 64 * n_head
dropout = 0.2
learning_rate = 1e-3
dtype = 'float16'
compile = False
eval_iters = 20
)";

TEST(Nanogpt, ReadsAssignmentsOverTheDefaultsOfTrainPy) {
  const Result<LoadedRun> run = Parse(kShakespeare, "train_shakespeare_char.py");
  ASSERT_TRUE(run.ok()) << run.error().message;
  EXPECT_EQ(run->config.model.hidden, 384);
  EXPECT_EQ(run->config.model.layers, 6);
  EXPECT_EQ(run->config.model.vocab, 65);
  EXPECT_EQ(run->config.model.context, 256);
  EXPECT_EQ(run->config.model.dropout, 0.2);
  EXPECT_EQ(run->config.training.micro_batch, 64);
  EXPECT_EQ(run->config.training.precision, Precision::kAmpFp16);
  EXPECT_EQ(run->config.training.compile, CompileMode::kOff);
  EXPECT_EQ(run->config.training.optimizer.implementation, OptimizerImplementation::kFused);
  EXPECT_EQ(run->config.training.grad_clip, 1.0) << "train.py's own";
  EXPECT_EQ(run->config.training.evaluation, (EvaluationConfig{.every = 2000, .batches = 40}));
}

TEST(Nanogpt, AnEmptyFileIsTrainPyItself) {
  const Result<LoadedRun> run = Parse("", "train.py", {"training.micro_batch=2"});
  ASSERT_TRUE(run.ok()) << run.error().message;
  EXPECT_EQ(run->config.model.hidden, 768);
  EXPECT_EQ(run->config.training.micro_batch, 2);
  EXPECT_EQ(run->config.training.gradient_accumulation, 40);
  EXPECT_EQ(run->config.training.compile, CompileMode::kOn);
}

TEST(Nanogpt, PretrainedModelsHaveTheirOwnSizes) {
  const Result<LoadedRun> run = Parse("init_from = 'gpt2-xl'\n", "finetune.py");
  ASSERT_TRUE(run.ok()) << run.error().message;
  EXPECT_EQ(run->config.model.hidden, 1600);
  EXPECT_EQ(run->config.model.vocab, 50257);
  EXPECT_TRUE(run->config.model.bias);
}

TEST(Nanogpt, NothingIsExecuted) {
  const auto error = [](std::string_view text) {
    const Result<LoadedRun> run = Parse(text, "a.py");
    return run.ok() ? std::string("no error") : run.error().message;
  };
  EXPECT_THAT(error("batch_size = 4\nimport_all()\n"), HasSubstr("a.py:2: only assignments"));
  EXPECT_THAT(error("batch_size = int(4)\n"), HasSubstr("a.py:1: batch_size: \"int(4)\" is not a literal"));
  EXPECT_THAT(error("for i in range(3):\n"), HasSubstr("a.py:1: only assignments"));
  EXPECT_THAT(error("n_embd = 384 if True else 2\n"), HasSubstr("is not a literal"));
  EXPECT_THAT(error("n_embd = 1 / 0\n"), HasSubstr("isn't a finite number"));
  EXPECT_THAT(error("n_embd = 2.5\n"), HasSubstr("a.py:1: model.hidden is \"2.5\"; it has to be a whole number"));
  EXPECT_THAT(error("dtype = 'float64'\n"), HasSubstr("unknown dtype \"float64\""));
  EXPECT_THAT(error("n_embd = " + std::string(200, '(') + "1" + std::string(200, ')')), HasSubstr("nested too deeply"));
}

TEST(PythonValue, HasPythonsPrecedence) {
  const PythonNames names = {{"x", PythonValue(3.0)}};
  const auto value = [&](std::string_view text) {
    const Result<PythonValue> result = EvaluatePython(text, names);
    return result.ok() ? result->Text() : "error";
  };
  EXPECT_EQ(value("5 * 8"), "40");
  EXPECT_EQ(value("2 + 3 * 4 - 1"), "13");
  EXPECT_EQ(value("(2 + 3) * 4"), "20");
  EXPECT_EQ(value("7 // 2"), "3");
  EXPECT_EQ(value("-7 % 3"), "2");
  EXPECT_EQ(value("-2 ** 2"), "-4");
  EXPECT_EQ(value("2 ** 3 ** 2"), "512");
  EXPECT_EQ(value("6e-4"), "0.0006");
  EXPECT_EQ(value("50_304"), "50304");
  EXPECT_EQ(value("x * 2 # six"), "6");
  EXPECT_EQ(value("None"), "null");
  EXPECT_EQ(value("'a'"), "a");
  EXPECT_EQ(value("y"), "error");
  EXPECT_EQ(value("1 +"), "error");
  EXPECT_EQ(value("'a' * 3"), "error");
  EXPECT_EQ(value("x.y"), "error");
}

TEST(HuggingFace, ReadsTheKeysOfAFamily) {
  const Result<LoadedRun> run = Parse(R"({"model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
    "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000,
    "max_position_embeddings": 2048, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "hidden_act": "silu"})",
                                      "config.json");
  ASSERT_TRUE(run.ok()) << run.error().message;
  const ModelConfig& model = run->config.model;
  EXPECT_EQ(model.family, Family::kLlama);
  EXPECT_EQ(model.kv_heads, 4);
  EXPECT_EQ(model.head_dim, 64);
  EXPECT_EQ(model.ffn, 5632);
  EXPECT_FALSE(model.tied_embeddings);
  EXPECT_EQ(run->config.training.precision, Precision::kBf16);
  EXPECT_THAT(model.config, testing::ElementsAre(ConfigField{"hidden_act", "silu"}));
  EXPECT_THAT(run->notes, Contains(HasSubstr("training.micro_batch: 1, assumed")));
}

TEST(HuggingFace, LeftOutKeysHaveTheClassDefaults) {
  const Result<LoadedRun> run = Parse(R"({"model_type": "gpt2", "n_layer": 6, "n_inner": null})", "config.json");
  ASSERT_TRUE(run.ok()) << run.error().message;
  EXPECT_EQ(run->config.model.implementation, Implementation::kTransformers);
  EXPECT_EQ(run->config.model.layers, 6);
  EXPECT_EQ(run->config.model.hidden, 768);
  EXPECT_EQ(run->config.model.ffn, 3072);
  EXPECT_EQ(run->config.model.dropout, 0.1);
  EXPECT_THAT(run->notes, Contains(HasSubstr("model.hidden: 768, the default of gpt2's configuration class")));
}

// Counted by transformers 5.24 itself.
TEST(HuggingFace, ModelsHaveTheirPublishedParameters) {
  const auto parameters = [](std::string_view config) -> int64_t {
    const Result<LoadedRun> run = Parse(config, "config.json");
    EXPECT_TRUE(run.ok()) << run.error().message;
    const Result<int64_t> count = CountParameters(run->config);
    EXPECT_TRUE(count.ok()) << count.error().message;
    return *count;
  };
  EXPECT_EQ(parameters(R"({"model_type": "gpt2"})"), 124439808);
  EXPECT_EQ(parameters(R"({"model_type": "llama"})"), 6738415616);
  EXPECT_EQ(parameters(R"({"model_type": "mistral"})"), 7241732096);
  EXPECT_EQ(parameters(R"({"model_type": "qwen2"})"), 12049846272);
  EXPECT_EQ(parameters(R"({"model_type": "qwen3"})"), 12049461248);
  EXPECT_EQ(parameters(R"({"model_type": "gemma"})"), 8537680896);
  EXPECT_EQ(parameters(R"({"model_type": "phi"})"), 1418270720);
  EXPECT_EQ(parameters(R"({"model_type": "phi3"})"), 3821079552);
  EXPECT_EQ(parameters(R"({"model_type": "gpt_neox"})"), 20554567680);
  EXPECT_EQ(parameters(R"({"model_type": "opt"})"), 125239296);
  EXPECT_EQ(parameters(R"({"model_type": "bert"})"), 109514298);
  EXPECT_EQ(parameters(R"({"model_type": "t5"})"), 60506624);
  // OPT-350M, Gemma 2B, Phi-4-mini.
  EXPECT_EQ(parameters(R"({"model_type": "opt", "hidden_size": 1024, "num_hidden_layers": 24, "ffn_dim": 4096,
    "num_attention_heads": 16, "word_embed_proj_dim": 512, "do_layer_norm_before": false, "layerdrop": 0.0})"),
            331196416);
  EXPECT_EQ(parameters(R"({"model_type": "gemma", "hidden_size": 2048, "num_hidden_layers": 18, "hidden_act": "gelu",
    "num_attention_heads": 8, "num_key_value_heads": 1, "intermediate_size": 16384, "hidden_activation": null})"),
            2506172416);
  EXPECT_EQ(parameters(R"({"model_type": "phi3", "num_attention_heads": 24, "num_key_value_heads": 8,
    "vocab_size": 200064, "tie_word_embeddings": true, "partial_rotary_factor": 0.75, "sliding_window": 262144})"),
            3836021760);
}

TEST(HuggingFace, AttentionBiasIsNotOneOfTheMlp) {
  const Result<LoadedRun> run = Parse(R"({"model_type": "llama", "attention_bias": true})", "config.json");
  ASSERT_TRUE(run.ok()) << run.error().message;
  EXPECT_FALSE(run->config.model.bias);
  EXPECT_THAT(run->config.model.config, testing::ElementsAre(ConfigField{"attention_bias", true}));
}

TEST(HuggingFace, FrequenciesThatDependOnTheLengthAreNamed) {
  const auto notes = [](std::string_view type) {
    return Parse(R"({"model_type": "llama", "rope_scaling": {"rope_type": ")" + std::string(type) + R"("}})",
                 "config.json")
        ->notes;
  };
  EXPECT_THAT(notes("longrope"), Contains(HasSubstr("rope_type longrope")));
  EXPECT_THAT(notes("llama3"), testing::Not(Contains(HasSubstr("rope_type")))) << "computed once";
}

TEST(HuggingFace, UnknownTypesNeedTheKeysOfALlama) {
  const Result<LoadedRun> llama = Parse(R"({"model_type": "yi", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512})",
                                        "config.json");
  ASSERT_TRUE(llama.ok()) << llama.error().message;
  EXPECT_EQ(llama->config.model.family, Family::kLlama);
  const Result<LoadedRun> other = Parse("{\"model_type\": \"mixtra\"}", "config.json");
  ASSERT_FALSE(other.ok());
  EXPECT_THAT(other.error().message, HasSubstr("config.json:1: unknown model_type \"mixtra\"; known: gpt2, llama"));
  const Result<LoadedRun> broken = Parse(R"({"model_type": "gpt2", "n_layer": "many"})", "config.json");
  ASSERT_FALSE(broken.ok());
  EXPECT_THAT(broken.error().message, HasSubstr("config.json:1: model.layers is \"many\""));
}

}  // namespace
}  // namespace tidemark
