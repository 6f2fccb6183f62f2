#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/pytorch/script.h"

namespace tidemark {
namespace {

using testing::HasSubstr;
using testing::Not;

RunConfig SmallRun(Family family, Implementation implementation) {
  RunConfig run;
  run.model = {.family = family,
               .implementation = implementation,
               .layers = 2,
               .hidden = 64,
               .heads = 4,
               .kv_heads = 2,
               .head_dim = 16,
               .ffn = 176,
               .vocab = 512,
               .context = 64};
  run.training.micro_batch = 4;
  run.training.sequence = {64};
  run.training.loop = implementation == Implementation::kNanogpt ? Loop::kNanogpt : Loop::kPlain;
  return run;
}

std::string Script(const RunConfig& run) {
  const Result<std::string> script = PyTorchScript(run, "a small run");
  EXPECT_TRUE(script.ok());
  return script.ok() ? *script : "";
}

TEST(PyTorchScript, HasOnlyWhatTheRunNeeds) {
  const std::string script = Script(SmallRun(Family::kGpt2, Implementation::kNanogpt));
  EXPECT_THAT(script, HasSubstr("LENGTH = 64\n"));
  EXPECT_THAT(script, HasSubstr("loss.backward()"));
  for (const char* absent :
       {"scaler", "evaluate", "checkpoint", "clip_grad_norm_", "compile", "next_length", "ALLOC_CONF"}) {
    EXPECT_THAT(script, Not(HasSubstr(absent))) << absent;
  }
}

TEST(PyTorchScript, HasWhatTheRunAsksFor) {
  RunConfig run = SmallRun(Family::kGpt2, Implementation::kNanogpt);
  run.training.precision = Precision::kAmpFp16;
  run.training.sequence = {64, 32};
  run.training.grad_clip = 0.5;
  run.training.evaluation = EvaluationConfig{.every = 10, .batches = 3};
  run.training.attention = AttentionChoice::kMath;
  run.training.optimizer = {
      .kind = OptimizerKind::kSgd, .implementation = OptimizerImplementation::kForLoop, .momentum = 0.9};
  run.recompute = RecomputeConfig{.reentrant = true};
  run.allocator.conf = "expandable_segments:True";
  const std::string script = Script(run);
  EXPECT_THAT(script, HasSubstr("os.environ[\"PYTORCH_CUDA_ALLOC_CONF\"] = \"expandable_segments:True\""));
  EXPECT_THAT(script, HasSubstr("LENGTHS = [64, 32]"));
  EXPECT_THAT(script, HasSubstr("checkpoint(block, x, use_reentrant=True)"));
  EXPECT_THAT(script, HasSubstr("torch.optim.SGD(groups, lr=1e-4, foreach=False, fused=False, momentum=0.9)"));
  EXPECT_THAT(script,
              HasSubstr("scaler.unscale_(optimizer)\n        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)"));
  EXPECT_THAT(script, HasSubstr("enable_math_sdp(True)"));
  EXPECT_THAT(script, HasSubstr("if step % 10 == 0:\n            evaluate()"));
}

TEST(PyTorchScript, FieldsOfAConfigurationClassWinOverTheRunFilesKeys) {
  RunConfig run = SmallRun(Family::kLlama, Implementation::kTransformers);
  run.model.config = {{"intermediate_size", int64_t{256}}, {"rope_theta", 5e5}, {"hidden_act", std::string("gelu")}};
  const std::string script = Script(run);
  EXPECT_THAT(script, HasSubstr("intermediate_size=256"));
  EXPECT_THAT(script, Not(HasSubstr("intermediate_size=176")));
  EXPECT_THAT(script, HasSubstr("rope_theta=500000.0"));
  EXPECT_THAT(script, HasSubstr("hidden_act=\"gelu\""));
  EXPECT_THAT(script,
              HasSubstr("AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=\"sdpa\")"));
}

TEST(PyTorchScript, AnAllocatorWithoutHistoryIsAnError) {
  RunConfig run = SmallRun(Family::kGpt2, Implementation::kNanogpt);
  run.allocator.backend = "cudaMallocAsync";
  const Result<std::string> script = PyTorchScript(run, "");
  ASSERT_FALSE(script.ok());
  EXPECT_THAT(script.error().message, HasSubstr("native allocator"));
}

}  // namespace
}  // namespace tidemark
