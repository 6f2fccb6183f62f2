// tidemark simulate CONFIG: traces the run, lowers it to a tape, replays that, reports.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <utility>

#include "graph/training/loop.h"
#include "sim/lower.h"
#include "tools/build_report.h"
#include "tools/commands/command.h"
#include "tools/commands/output_options.h"
#include "tools/config/run_file.h"
#include "tools/config/words.h"

namespace tidemark {
namespace {

struct SimulateOptions {
  std::string config;
  std::vector<std::string> overrides;
  OutputOptions output;
};

std::string TitleOf(const RunConfig& run) {
  const ModelConfig& m = run.model;
  const TrainingConfig& t = run.training;
  const std::string length = t.sequence.size() == 1 ? fmt::format("{}", t.sequence[0]) : "varying";
  return fmt::format("{} ({}), {} layers, hidden {}, batch {} x {}, accumulation {}, {}, {} {}",
                     WordOf(kFamilyWords, m.family), WordOf(kImplementationWords, m.implementation), m.layers, m.hidden,
                     t.micro_batch, length, t.gradient_accumulation, WordOf(kPrecisionWords, t.precision),
                     WordOf(kOptimizerWords, t.optimizer.kind),
                     WordOf(kOptimizerImplementationWords, t.optimizer.implementation));
}

AllocatorOptions AllocatorOf(const RunConfig& run) {
  AllocatorOptions options;
  options.backend = run.allocator.backend;
  options.framework = run.framework;
  options.conf = run.allocator.conf;
  options.device_memory = run.device.memory;
  options.process_overhead = run.device.overhead.value;
  return options;
}

// The peaks of the run without its evaluation: what that leaves behind in the packing of later steps.
Result<WithoutEvaluation> SimulateWithoutEvaluation(RunConfig run) {
  run.training.evaluation.reset();
  ASSIGN_OR_RETURN(const Graph graph, TraceRun(run));
  const Lowered lowered = Lower(graph, run.device);
  ASSIGN_OR_RETURN(const Replay replay, RunReplay(lowered.tape, {.allocator = AllocatorOf(run), .observers = {}}));
  return WithoutEvaluation{replay.allocated.bytes, replay.reserved.bytes};
}

Result<Outcome> RunSimulate(const SimulateOptions& options) {
  ASSIGN_OR_RETURN(const LoadedRun loaded, LoadRun(options.config, options.overrides));
  const RunConfig& run = loaded.config;
  ASSIGN_OR_RETURN(const Graph graph, TraceRun(run));
  const Lowered lowered = Lower(graph, run.device);
  ASSIGN_OR_RETURN(const std::unique_ptr<OutputFiles> files, OutputFiles::Create(options.output, lowered.tape));
  const ReportInput input = {
      .tape = lowered.tape,
      .replay = {.allocator = AllocatorOf(run), .stop_at_out_of_memory = true, .observers = files->observers()},
      .context = run.device.overhead,
      .describe = DescribeFromTape(lowered.tape),
      .title = TitleOf(run),
      .device_name = run.device.name};
  ASSIGN_OR_RETURN(Report report, BuildReport(input));
  report.run = run;
  report.counts.ops = static_cast<int64_t>(graph.ops.size());
  report.counts.parameters = graph.parameters;
  if (run.training.evaluation && report.fits) {
    ASSIGN_OR_RETURN(report.without_evaluation, SimulateWithoutEvaluation(run));
  }
  RETURN_IF_ERROR(files->Finish(report, input.replay.allocator, input.describe));
  Outcome outcome = ReportOutcome(report, options.output);
  outcome.notes = loaded.notes;
  return outcome;
}

}  // namespace

void AddSimulate(CLI::App& app, CommandRun* run) {
  auto options = std::make_shared<SimulateOptions>();
  CLI::App* command = app.add_subcommand("simulate", "how much memory a run takes, when and why");
  command->add_option("CONFIG", options->config, "a run file, a Hugging Face config.json, a nanoGPT .py, or -")
      ->required();
  command->add_option("--set", options->overrides, "KEY=VALUE: another value, as in --set training.micro_batch=8")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  AddOutputOptions(*command, options->output);
  command->callback([options, run] { *run = [options] { return RunSimulate(*options); }; });
}

}  // namespace tidemark
