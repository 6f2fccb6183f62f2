// How files spell the enumerations of a RunConfig. The first word of a value is the one that is printed.
#pragma once

#include <string_view>
#include <utility>

#include "graph/run_config.h"

namespace tidemark {

inline constexpr std::pair<std::string_view, Family> kFamilyWords[] = {
    {"gpt2", Family::kGpt2},        {"llama", Family::kLlama}, {"mistral", Family::kMistral}, {"qwen2", Family::kQwen2},
    {"qwen3", Family::kQwen3},      {"gemma", Family::kGemma}, {"phi", Family::kPhi},         {"phi3", Family::kPhi3},
    {"gpt_neox", Family::kGptNeox}, {"opt", Family::kOpt},     {"bert", Family::kBert},       {"t5", Family::kT5},
};
inline constexpr std::pair<std::string_view, Implementation> kImplementationWords[] = {
    {"nanogpt", Implementation::kNanogpt}, {"transformers", Implementation::kTransformers}};
inline constexpr std::pair<std::string_view, Precision> kPrecisionWords[] = {{"fp32", Precision::kFp32},
                                                                             {"amp-fp16", Precision::kAmpFp16},
                                                                             {"amp-bf16", Precision::kAmpBf16},
                                                                             {"bf16", Precision::kBf16},
                                                                             {"fp16", Precision::kFp16}};
inline constexpr std::pair<std::string_view, AttentionChoice> kAttentionWords[] = {
    {"auto", AttentionChoice::kAuto},
    {"flash", AttentionChoice::kFlash},
    {"efficient", AttentionChoice::kEfficient},
    {"math", AttentionChoice::kMath},
    {"eager", AttentionChoice::kEager}};
inline constexpr std::pair<std::string_view, OptimizerKind> kOptimizerWords[] = {
    {"adamw", OptimizerKind::kAdamw},     {"adam", OptimizerKind::kAdam},
    {"sgd", OptimizerKind::kSgd},         {"rmsprop", OptimizerKind::kRmsprop},
    {"adagrad", OptimizerKind::kAdagrad}, {"adafactor", OptimizerKind::kAdafactor}};
inline constexpr std::pair<std::string_view, OptimizerImplementation> kOptimizerImplementationWords[] = {
    {"fused", OptimizerImplementation::kFused},
    {"foreach", OptimizerImplementation::kForeach},
    {"for-loop", OptimizerImplementation::kForLoop}};
inline constexpr std::pair<std::string_view, Loop> kLoopWords[] = {{"nanogpt", Loop::kNanogpt},
                                                                   {"plain", Loop::kPlain}};
inline constexpr std::pair<std::string_view, CompileMode> kCompileWords[] = {
    {"false", CompileMode::kOff}, {"true", CompileMode::kOn}, {"first-run", CompileMode::kFirstRun}};
inline constexpr std::pair<std::string_view, RecomputePolicy> kRecomputePolicyWords[] = {
    {"full", RecomputePolicy::kFull},
    {"every-n", RecomputePolicy::kEveryN},
    {"selective", RecomputePolicy::kSelective},
    {"min-cut", RecomputePolicy::kMinCut},
    {"budget", RecomputePolicy::kBudget}};
inline constexpr std::pair<std::string_view, OffloadWhat> kOffloadWords[] = {
    {"activations", OffloadWhat::kActivations}, {"optimizer-state", OffloadWhat::kOptimizerState}};

// The word of a value in one of the tables above.
template <typename Enum, size_t kCount>
constexpr std::string_view WordOf(const std::pair<std::string_view, Enum> (&words)[kCount], Enum value) {
  for (const auto& [word, candidate] : words) {
    if (candidate == value) return word;
  }
  return "";
}

}  // namespace tidemark
