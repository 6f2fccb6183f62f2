#include "tools/config/run_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tools/config/check_run.h"
#include "tools/config/devices.h"

namespace tidemark {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::string_view kSmall = R"(model:
  family: gpt2
  layers: 2
  hidden: 64
  heads: 2
  vocab: 512
  context: 64
training:
  micro_batch: 4
)";

Result<RunConfig> Parse(std::string_view text, std::vector<std::string> overrides = {}) {
  ASSIGN_OR_RETURN(const LoadedRun loaded, ParseRun(text, "a.yaml", overrides));
  return loaded.config;
}

RunConfig Good(std::string_view text, std::vector<std::string> overrides = {}) {
  const Result<RunConfig> run = Parse(text, std::move(overrides));
  EXPECT_TRUE(run.ok()) << run.error().message;
  return run.ok() ? *run : RunConfig();
}

std::string Assign(const std::string& key, const std::string& value) { return key + "=" + value; }

std::string ErrorOf(std::string_view text, std::vector<std::string> overrides = {}) {
  const Result<RunConfig> run = Parse(text, std::move(overrides));
  return run.ok() ? "no error" : run.error().message;
}

TEST(RunFile, FillsInEveryDefault) {
  const RunConfig run = Good(kSmall);
  EXPECT_EQ(run.framework, "pytorch-2.14");
  EXPECT_EQ(run.model.implementation, Implementation::kNanogpt);
  EXPECT_EQ(run.model.kv_heads, 2);
  EXPECT_EQ(run.model.head_dim, 32);
  EXPECT_EQ(run.model.ffn, 256);
  EXPECT_FALSE(run.model.bias);
  EXPECT_TRUE(run.model.tied_embeddings);
  EXPECT_EQ(run.model.dropout, 0);
  EXPECT_THAT(run.training.sequence, ElementsAre(64));
  EXPECT_EQ(run.training.gradient_accumulation, 1);
  EXPECT_EQ(run.training.precision, Precision::kFp32);
  EXPECT_EQ(run.training.attention, AttentionChoice::kAuto);
  EXPECT_EQ(run.training.optimizer, OptimizerConfig());
  EXPECT_EQ(run.training.grad_clip, 0);
  EXPECT_EQ(run.training.compile, CompileMode::kOff);
  EXPECT_EQ(run.training.steps, 3);
  EXPECT_FALSE(run.training.evaluation.has_value());
  EXPECT_EQ(run.training.loop, Loop::kNanogpt);
  EXPECT_EQ(run.device.memory, kMiB * 12282);
  EXPECT_EQ(run.allocator, AllocatorConfig());
  EXPECT_TRUE(run.passes.empty());
}

TEST(RunFile, OtherFamiliesAreTransformersInThePlainLoop) {
  const RunConfig run = Good(kSmall, {"model.family=llama"});
  EXPECT_EQ(run.model.implementation, Implementation::kTransformers);
  EXPECT_EQ(run.training.loop, Loop::kPlain);
}

TEST(RunFile, ReadsWhatLaterWorkBrings) {
  const RunConfig run = Good(kSmall, {"training.compile=first-run", "allocator.backend=cudaMallocAsync",
                                      "passes=[{recompute: {policy: full, reentrant: true}}]",
                                      "training.optimizer={name: sgd, momentum: 0.9, implementation: for-loop}",
                                      "training.evaluation={every: 2, batches: 4}"});
  EXPECT_EQ(run.training.compile, CompileMode::kFirstRun);
  EXPECT_EQ(run.allocator.backend, "cudaMallocAsync");
  EXPECT_EQ(run.passes, std::vector<PassConfig>{RecomputePass{.reentrant = true}});
  EXPECT_EQ(run.training.optimizer.kind, OptimizerKind::kSgd);
  EXPECT_EQ(run.training.optimizer.momentum, 0.9);
  EXPECT_EQ(run.training.evaluation, (EvaluationConfig{.every = 2, .batches = 4}));
}

TEST(RunFile, OverridesWinAndReachInto) {
  const RunConfig run = Good(kSmall, {"training.micro_batch=8", "training.sequence=[32, 16]", "device.memory=8GiB"});
  EXPECT_EQ(run.training.micro_batch, 8);
  EXPECT_THAT(run.training.sequence, ElementsAre(32, 16));
  EXPECT_EQ(run.device.memory, kGiB * 8);
  EXPECT_EQ(run.device.name, "NVIDIA GeForce RTX 4070") << "what an override leaves out is the device's";
}

TEST(RunFile, DrawsFromADistributionAlwaysTheSame) {
  const std::vector<std::string> draw = {"training.sequence={distribution: uniform, min: 8, max: 64}",
                                         "training.steps=50"};
  const RunConfig run = Good(kSmall, draw);
  EXPECT_EQ(run.training.sequence.size(), 51U) << "50 steps and the batch that is fetched ahead";
  EXPECT_EQ(run, Good(kSmall, draw));
  EXPECT_THAT(run.training.sequence, testing::Each(testing::AllOf(testing::Ge(8), testing::Le(64))));
  EXPECT_NE(run.training.sequence[0], run.training.sequence[1]);
}

TEST(RunFile, InlineDevicesCountInMiB) {
  const RunConfig run =
      Good(std::string(kSmall) +
           "device: {name: small, memory: 7190, compute_capability: 8.9, multiprocessors: 46, overhead: 0}\n");
  EXPECT_EQ(run.device.name, "small");
  EXPECT_EQ(run.device.memory, kMiB * 7190);
  EXPECT_EQ(run.device.compute_capability, 89);
  EXPECT_EQ(run.device.threads_per_multiprocessor, 1536);
  EXPECT_EQ(run.device.overhead, Estimate());
}

TEST(RunFile, UnknownKeysNameTheNearest) {
  EXPECT_EQ(ErrorOf("model: {}\ntraining: {}\nmodle: 1\n").substr(0, 30), "a.yaml:3: unknown key \"modle\";");
  const std::string error = ErrorOf(std::string(kSmall) + "  micro_bach: 3\n");
  EXPECT_THAT(error, StartsWith("a.yaml:10: unknown key \"micro_bach\" in training; known: micro_batch, "));
  EXPECT_THAT(error, HasSubstr("; nearest: micro_batch"));
  EXPECT_THAT(ErrorOf(kSmall, {"training.stepps=2"}), StartsWith("--set training.stepps=2: unknown key \"stepps\""));
}

TEST(RunFile, UnknownWordsNameTheNearest) {
  EXPECT_EQ(ErrorOf(kSmall, {"training.precision=amp-pf16"}),
            "--set training.precision=amp-pf16: unknown training.precision \"amp-pf16\"; known: fp32, amp-fp16, "
            "amp-bf16, bf16, fp16; nearest: amp-fp16");
  EXPECT_THAT(ErrorOf(kSmall, {"device=rtx407"}), HasSubstr("unknown device \"rtx407\""));
  EXPECT_THAT(ErrorOf(kSmall, {"device=rtx407"}), HasSubstr("nearest: rtx4070"));
  EXPECT_THAT(ErrorOf(kSmall, {"model.family=lama"}), HasSubstr("nearest: llama"));
  EXPECT_THAT(ErrorOf(kSmall, {"passes=[{recompote: {}}]"}), HasSubstr("nearest: recompute"));
  EXPECT_THAT(ErrorOf(kSmall, {"passes=[{recompute: {policy: ful}}]"}), HasSubstr("nearest: full"));
}

TEST(RunFile, WrongTypesSayWhatTheyHaveToBe) {
  EXPECT_EQ(ErrorOf(kSmall, {"training.micro_batch=many"}),
            "--set training.micro_batch=many: training.micro_batch is \"many\"; it has to be a whole number from 1 to "
            "1099511627776");
  for (const char* value : {"2.5", "[1]", "{a: 1}", "\"4\"", "true", "", "0x10", "1e3"}) {
    EXPECT_THAT(ErrorOf(kSmall, {std::string("model.layers=") + value}), HasSubstr("has to be a whole number"))
        << value;
  }
  for (const char* value : {"1", "yes", "[true]", "\"true\""}) {
    EXPECT_THAT(ErrorOf(kSmall, {std::string("model.bias=") + value}), HasSubstr("true or false")) << value;
  }
  EXPECT_THAT(ErrorOf(kSmall, {"model.dropout=1"}), HasSubstr("a number from 0 to 1 (not included)"));
  EXPECT_THAT(ErrorOf(kSmall, {"model.dropout=nan"}), HasSubstr("it has to be a number"));
  EXPECT_THAT(ErrorOf(kSmall, {"model=3"}), HasSubstr("model is \"3\"; it has to be a map"));
  EXPECT_THAT(ErrorOf(kSmall, {"passes=recompute"}), HasSubstr("passes has to be a list"));
  EXPECT_THAT(ErrorOf("- a\n- b\n"), HasSubstr("the file is a list; it has to be a map"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("model is missing"));
}

TEST(RunFile, AbsurdSizesAreRefused) {
  for (const char* key :
       {"model.layers", "model.hidden", "model.heads", "model.vocab", "model.context", "training.steps",
        "training.micro_batch", "training.gradient_accumulation", "training.sequence"}) {
    for (const char* value : {"0", "-1", "99999999999999999999"}) {
      EXPECT_THAT(ErrorOf(kSmall, {Assign(key, value)}), HasSubstr("has to be a whole number")) << key << value;
    }
    EXPECT_NE(ErrorOf(kSmall, {Assign(key, "1000000000000000000")}), "no error") << key;
  }
}

TEST(RunFile, ProductsThatOverflowAreRefused) {
  // Each value alone is fine: 10^9 layers, and a batch of 10^9 sequences of 10^9 tokens.
  EXPECT_THAT(ErrorOf(kSmall, {"model.layers=1000000000"}),
              HasSubstr("layers x batches of the whole run is more than"));
  EXPECT_THAT(ErrorOf(kSmall, {"training.micro_batch=1000000000", "model.context=1000000000"}),
              HasSubstr("more than 1 EiB"));
  EXPECT_THAT(ErrorOf(kSmall, {"model.hidden=1000000000", "model.layers=1000"}), HasSubstr("more than 1 EiB"));
  EXPECT_THAT(ErrorOf(kSmall, {"training.steps=1000000000000000000"}), HasSubstr("more than 2000000"));
}

TEST(RunFile, DimensionsHaveToFitEachOther) {
  EXPECT_THAT(ErrorOf(kSmall, {"model.heads=3"}), HasSubstr("model.hidden 64 is not a multiple of model.heads 3"));
  EXPECT_THAT(ErrorOf(kSmall, {"training.sequence=65"}), HasSubstr("a sequence of 65 is longer than model.context 64"));
  EXPECT_THAT(ErrorOf(kSmall, {"training.sequence=[1, 2, 65]"}), HasSubstr("longer than model.context"));
  EXPECT_THAT(ErrorOf(kSmall, {"model.family=llama", "model.implementation=nanogpt"}), HasSubstr("family gpt2 only"));
  EXPECT_THAT(ErrorOf(kSmall, {"model.family=llama", "model.heads=4", "model.kv_heads=3"}),
              HasSubstr("not a multiple"));
  EXPECT_THAT(ErrorOf(kSmall, {"training.sequence=[]"}), HasSubstr("empty list"));
}

TEST(RunFile, BrokenYamlHasALine) {
  EXPECT_THAT(ErrorOf("model: {\ntraining: ]\n"), StartsWith("a.yaml:2: not YAML: "));
  EXPECT_THAT(ErrorOf("model: 1\nmodel: 2\n"), HasSubstr("a.yaml:2: key \"model\" stands here twice"));
  EXPECT_THAT(ErrorOf(std::string(100000, '[')), HasSubstr("not YAML"));
  EXPECT_THAT(ErrorOf("a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
                      "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
                      "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"),
              HasSubstr("more than 100000 values"));
}

TEST(RunFile, OverridesThatCannotBeCarriedOut) {
  EXPECT_THAT(ErrorOf(kSmall, {"training.steps"}), HasSubstr("expected KEY=VALUE"));
  EXPECT_THAT(ErrorOf(kSmall, {"=3"}), HasSubstr("expected KEY=VALUE"));
  EXPECT_THAT(ErrorOf(kSmall, {"model.layers.x=3"}), HasSubstr("there is no place for \"x\""));
  EXPECT_THAT(ErrorOf(kSmall, {"training.sequence={distribution: uniform, min: 9, max: 8}"}),
              HasSubstr("is above max"));
}

TEST(RunFile, EveryShippedRunIsGood) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TIDEMARK_SOURCE_DIR "/configs/runs")) {
    const Result<LoadedRun> run = LoadRun(entry.path(), {});
    EXPECT_TRUE(run.ok()) << run.error().message;
    ++files;
  }
  EXPECT_GE(files, 4);
}

TEST(ParameterBound, IsAboveTheRealNumber) {
  RunConfig run = Good(kSmall);
  EXPECT_GE(ParameterBound(run.model), 135488);  // what PyTorch counts
}

TEST(Devices, EveryFileReads) {
  const std::vector<std::string> names = DeviceNames();
  EXPECT_GE(names.size(), 17U);
  for (const std::string& name : names) {
    const Result<DeviceSpec> device = FindDevice(name, "here");
    ASSERT_TRUE(device.ok()) << device.error().message;
    EXPECT_GT(device->memory, kGiB * 7) << name;
    EXPECT_GT(device->memory_bandwidth, 1e11) << name;
    EXPECT_GE(device->peak_flops_half, device->peak_flops_fp32) << name;
    const Estimate rule = EstimateOverhead(device->multiprocessors, device->threads_per_multiprocessor);
    EXPECT_GT(device->overhead.value, rule.value - kMiB * 63) << name;
    EXPECT_LT(device->overhead.value, rule.value + kMiB * 125)
        << name;  // the H100's is of CUDA 13, the rule's are older
  }
}

TEST(Devices, BadInlineDevices) {
  EXPECT_THAT(ErrorOf(kSmall, {"device={name: x, memory: 8GiB}"}), HasSubstr("device.compute_capability is missing"));
  EXPECT_THAT(ErrorOf(kSmall, {"device={name: rtx4070, memory: 8Gib}"}), HasSubstr("unknown unit \"Gib\""));
  EXPECT_THAT(ErrorOf(kSmall, {"device={name: rtx4070, memory: -1}"}), HasSubstr("negative"));
  EXPECT_THAT(ErrorOf(kSmall, {"device={name: rtx4070, memory: 0}"}), HasSubstr("at least 1MiB"));
  EXPECT_THAT(ErrorOf(kSmall, {"device={name: rtx4070, compute_capability: abc}"}), HasSubstr("compute capability"));
  EXPECT_THAT(ErrorOf(kSmall, {"device={name: rtx4070, memroy: 8GiB}"}), HasSubstr("nearest: memory"));
}

}  // namespace
}  // namespace tidemark
