// tidemark validate CONFIG --backend NAME: runs what was simulated, for real, and compares.
#include "tools/validate.h"

#include <fmt/format.h>

#include <memory>

#include "tools/commands/command.h"
#include "tools/config/run_file.h"

namespace tidemark {
namespace {

// Every backend there is; one more line for one more.
constexpr ValidateBackend kBackends[] = {
    {"host", "the same graph with real kernels in memory laid out as predicted, on this processor", &ValidateOnHost},
    {"cuda", "the same graph with real kernels in memory laid out as predicted, on the first CUDA device",
     &ValidateOnCuda},
    {"pytorch", "the same model in an installed PyTorch, event by event", &ValidateWithPyTorch},
};

Result<Outcome> RunValidate(const ValidateOptions& options) {
  ASSIGN_OR_RETURN(const LoadedRun run, LoadRun(options.config, options.overrides));
  for (const ValidateBackend& backend : kBackends) {
    if (backend.name == options.backend) return backend.run(run, options);
  }
  return InvalidInput(fmt::format("--backend: unknown backend \"{}\"", options.backend));
}

}  // namespace

void AddValidate(CommandLine& line) {
  auto options = std::make_shared<ValidateOptions>();
  Command command = line.Add("validate", "runs the same thing for real: predicted against measured",
                             [options] { return RunValidate(*options); });
  command.Option("CONFIG", options->config, "a run file, a Hugging Face config.json, a nanoGPT .py, or -",
                 {.required = true});
  std::vector<std::string> names;
  std::string help;
  for (const ValidateBackend& backend : kBackends) {
    names.emplace_back(backend.name);
    help += fmt::format("{}{}: {}", help.empty() ? "" : "; ", backend.name, backend.description);
  }
  command.Option("--backend", options->backend, help, {.allowed = names, .required = true});
  command.Option("--set", options->overrides, "KEY=VALUE: another value, as in --set training.micro_batch=8",
                 {.value = "KEY=VALUE"});
  command.Flag("--json", options->json, "what was found as JSON");
  command.Option("--python", options->python, "pytorch: the interpreter whose PyTorch is used", {.value = "EXE"});
  command.Option("--script", options->script, "pytorch: where to write the program that is run", {.value = "FILE.py"});
  command.Option("--recording", options->recording,
                 "pytorch: compares with what that program wrote elsewhere (FILE.pickle, FILE.json)",
                 {.value = "FILE.pickle"});
}

}  // namespace tidemark
