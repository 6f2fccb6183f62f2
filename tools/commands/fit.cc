// tidemark fit CONFIG --budget 12GiB: the cheapest change that fits.
#include "tools/compare/fit.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tools/commands/command.h"
#include "tools/commands/output_options.h"
#include "tools/commands/progress.h"
#include "tools/config/run_file.h"
#include "tools/config/size.h"

namespace tidemark {
namespace {

struct FitCommandOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string budget;
  std::string minimize = "time";
  bool json = false;
  bool verbose = false;
  bool no_color = false;
};

Result<Outcome> RunFit(const FitCommandOptions& options) {
  ASSIGN_OR_RETURN(const LoadedRun loaded, LoadRun(options.config, options.overrides));
  FitOptions fit_options = {.budget = loaded.config.device.memory};
  if (!options.budget.empty()) {
    const Result<Bytes> budget = ParseSize(options.budget, kUnitRequired);
    if (!budget.ok()) return InvalidInput("--budget: " + budget.error().message);
    fit_options.budget = *budget;
  }
  fit_options.minimize = options.minimize == "memory"    ? Minimize::kMemory
                         : options.minimize == "changes" ? Minimize::kChanges
                                                         : Minimize::kTime;
  fit_options.on_progress = Progress();
  ASSIGN_OR_RETURN(const Fit fit, FitRun(loaded.config, fit_options));
  Outcome outcome;
  outcome.code = fit.choice ? ExitCode::kGood : ExitCode::kDoesNotFit;
  outcome.output =
      options.json ? FitJson(fit) : FitText(fit, {.colour = WantsColour(options.no_color), .verbose = options.verbose});
  outcome.notes = loaded.notes;
  return outcome;
}

}  // namespace

void AddFit(CommandLine& line) {
  auto options = std::make_shared<FitCommandOptions>();
  Command command =
      line.Add("fit", "the cheapest change with which a run fits a budget", [options] { return RunFit(*options); });
  command.Option("CONFIG", options->config, "a run file, a Hugging Face config.json, a nanoGPT .py, or -",
                 {.required = true});
  command.Option("--budget", options->budget, "for the whole process, as in 12GiB (default: the device's memory)",
                 {.value = "SIZE"});
  command.Option("--minimize", options->minimize, "time (the default), memory, or changes: which fitting one is best",
                 {.allowed = {"time", "memory", "changes"}});
  command.Option("--set", options->overrides, "KEY=VALUE: another value, as in --set training.micro_batch=8",
                 {.value = "KEY=VALUE"});
  command.Flag("--json", options->json, "as JSON on standard output, and nothing else");
  command.Flag("-v,--verbose", options->verbose, "every combination that was tried");
  command.Flag("--no-color", options->no_color, "no colours (NO_COLOR is honoured too)");
}

}  // namespace tidemark
