// tidemark fit CONFIG --budget 12GiB: the cheapest change that fits.
#include "tools/compare/fit.h"

#include <CLI/CLI.hpp>
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

void AddFit(CLI::App& app, CommandRun* run) {
  auto options = std::make_shared<FitCommandOptions>();
  CLI::App* command = app.add_subcommand("fit", "the cheapest change with which a run fits a budget");
  command->add_option("CONFIG", options->config, "a run file, a Hugging Face config.json, a nanoGPT .py, or -")
      ->required();
  command->add_option("--budget", options->budget, "for the whole process, as in 12GiB (default: the device's memory)")
      ->type_name("SIZE");
  command
      ->add_option("--minimize", options->minimize, "time (the default), memory, or changes: which fitting one is best")
      ->check(CLI::IsMember({"time", "memory", "changes"}));
  command->add_option("--set", options->overrides, "KEY=VALUE: another value, as in --set training.micro_batch=8")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_flag("--json", options->json, "as JSON on standard output, and nothing else");
  command->add_flag("-v,--verbose", options->verbose, "every combination that was tried");
  command->add_flag("--no-color", options->no_color, "no colours (NO_COLOR is honoured too)");
  command->callback([options, run] { *run = [options] { return RunFit(*options); }; });
}

}  // namespace tidemark
