#include "graph/run_program.h"

#include <algorithm>

namespace tidemark {
namespace {

Status Carry(const RecomputePass& pass, RunConfig& run) {
  if (run.recompute) return InvalidInput("passes: recompute with policy full stands here twice");
  run.recompute = RecomputeConfig{.reentrant = pass.reentrant};
  return {};
}

Status Carry(const AccumulatePass& pass, RunConfig& run) {
  TrainingConfig& t = run.training;
  if (t.micro_batch % pass.parts != 0) {
    return InvalidInput("passes.accumulate.parts: a micro_batch of " + std::to_string(t.micro_batch) +
                        " can't be divided by " + std::to_string(pass.parts));
  }
  t.micro_batch /= pass.parts;
  t.gradient_accumulation *= pass.parts;
  return {};
}

}  // namespace

bool ChangesProgram(const PassConfig& pass) {
  const auto* recompute = std::get_if<RecomputePass>(&pass);
  return std::holds_alternative<AccumulatePass>(pass) ||
         (recompute != nullptr && recompute->policy == RecomputePolicy::kFull);
}

Result<RunConfig> ResolveProgram(RunConfig run) {
  const auto first_rewrite = std::ranges::find_if_not(run.passes, &ChangesProgram);
  if (std::any_of(first_rewrite, run.passes.end(), &ChangesProgram)) {
    return InvalidInput(
        "passes: accumulate and recompute with policy full change the program before it is traced; they stand before "
        "every other pass");
  }
  for (auto pass = run.passes.begin(); pass != first_rewrite; ++pass) {
    const auto* recompute = std::get_if<RecomputePass>(&*pass);
    const Status status = recompute != nullptr ? Carry(*recompute, run) : Carry(std::get<AccumulatePass>(*pass), run);
    if (!status.ok()) return status.error();
  }
  run.passes.erase(run.passes.begin(), first_rewrite);
  return run;
}

}  // namespace tidemark
