// tidemark simulate CONFIG: traces the run, lowers it to a tape, replays that, reports.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <utility>

#include "tools/build_report.h"
#include "tools/build_run.h"
#include "tools/commands/command.h"
#include "tools/commands/output_options.h"
#include "tools/config/run_file.h"

namespace tidemark {
namespace {

struct SimulateOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::vector<std::string> print_after;  // names of passes
  OutputOptions output;
};

// The peaks of the run without its evaluation: what that leaves behind in the packing of later steps.
Result<WithoutEvaluation> SimulateWithoutEvaluation(RunConfig run) {
  run.training.evaluation.reset();
  ASSIGN_OR_RETURN(const BuiltRun built, BuildRun(run, {}));
  ASSIGN_OR_RETURN(const Replay replay,
                   RunReplay(built.lowered.tape, {.allocator = AllocatorOf(run), .observers = {}}));
  return WithoutEvaluation{replay.allocated.bytes, replay.reserved.bytes};
}

// What --print-after asked for, instead of a report. Error: nothing of it has run.
Result<Outcome> DumpOf(const BuiltRun& built, const std::vector<std::string>& names) {
  Outcome outcome;
  outcome.output = built.stages;
  for (const PassRun& pass : built.passes) outcome.output += pass.text;
  if (!outcome.output.empty()) return outcome;
  return InvalidInput(
      fmt::format("--print-after {}: no such pass rewrites this run's graph (accumulate and recompute with policy full "
                  "change the program before it is traced; stages of the compiler run where training.compile is true)",
                  fmt::join(names, ", ")));
}

Result<Outcome> RunSimulate(const SimulateOptions& options) {
  ASSIGN_OR_RETURN(const LoadedRun loaded, LoadRun(options.config, options.overrides));
  const RunConfig& run = loaded.config;
  ASSIGN_OR_RETURN(const BuiltRun built,
                   BuildRun(run, {.print_after = options.print_after, .summarize_compiled = true}));
  if (!options.print_after.empty()) return DumpOf(built, options.print_after);
  const Graph& graph = built.graph;
  const Lowered& lowered = built.lowered;
  ASSIGN_OR_RETURN(const std::unique_ptr<OutputFiles> files, OutputFiles::Create(options.output, lowered.tape));
  const std::unique_ptr<Describer> describer = DescribeGraph(graph, lowered);
  const ReportInput input = {
      .tape = lowered.tape,
      .replay = {.allocator = AllocatorOf(run), .stop_at_out_of_memory = true, .observers = files->observers()},
      .context = run.device.overhead,
      .describer = *describer,
      .title = TitleOf(run),
      .device_name = run.device.name,
      .both_address_orders = true};
  ASSIGN_OR_RETURN(Report report, BuildReport(input));
  report.run = run;
  report.compiled = built.compiled;
  report.counts.ops = static_cast<int64_t>(graph.ops.size());
  report.counts.parameters = graph.parameters;
  report.assumptions = loaded.notes;
  report.assumptions.insert(report.assumptions.end(), graph.assumptions.begin(), graph.assumptions.end());
  report.time = TimeReportOf(graph, run.device);
  if (run.training.evaluation && report.fits) {
    ASSIGN_OR_RETURN(report.without_evaluation, SimulateWithoutEvaluation(run));
  }
  const std::vector<int64_t> times = files->wants_times() ? EventTimes(built, run.device) : std::vector<int64_t>();
  RETURN_IF_ERROR(files->Finish(report, input.replay.allocator, *describer, times));
  Outcome outcome = ReportOutcome(report, options.output);
  outcome.notes = report.assumptions;
  for (const PassRun& pass : built.passes) {
    outcome.notes.push_back(DescribePass(pass));
    for (const std::string& note : pass.notes) outcome.notes.push_back(fmt::format("{}: {}", pass.name, note));
  }
  return outcome;
}

}  // namespace

void AddSimulate(CommandLine& line) {
  auto options = std::make_shared<SimulateOptions>();
  Command command =
      line.Add("simulate", "how much memory a run takes, when and why", [options] { return RunSimulate(*options); });
  command.Option("CONFIG", options->config, "a run file, a Hugging Face config.json, a nanoGPT .py, or -",
                 {.required = true});
  command.Option("--set", options->overrides, "KEY=VALUE: another value, as in --set training.micro_batch=8",
                 {.value = "KEY=VALUE"});
  command.Option(
      "--print-after", options->print_after,
      "print the graph as text behind this pass or stage of the compiler, and nothing else (list passes names "
      "them)",
      {.value = "PASS"});
  AddOutputOptions(command, options->output);
}

}  // namespace tidemark
