// tidemark explain CONFIG: why each byte is alive at the peak. tidemark explain "CUDA out of memory. …" CONFIG: which
// tensor a failed request was for.
#include "tools/explain/explain.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/commands/command.h"
#include "tools/commands/output_options.h"
#include "tools/config/run_file.h"

namespace tidemark {
namespace {

struct ExplainOptions {
  std::vector<std::string> words;  // the message, if any, and CONFIG
  std::vector<std::string> overrides;
  bool json = false;
  bool verbose = false;
  bool no_color = false;
};

Result<Outcome> RunExplain(const ExplainOptions& options) {
  std::optional<FailureMessage> message;
  if (options.words.size() == 2) {
    ASSIGN_OR_RETURN(message, ParseFailure(options.words.front()));
  }
  ASSIGN_OR_RETURN(const LoadedRun loaded, LoadRun(options.words.back(), options.overrides));
  ASSIGN_OR_RETURN(const Explanation explanation, ExplainRun(loaded.config, message));
  Outcome outcome;
  outcome.output =
      options.json ? ExplainJson(explanation)
                   : ExplainText(explanation, {.colour = WantsColour(options.no_color), .verbose = options.verbose});
  outcome.notes = loaded.notes;
  return outcome;
}

}  // namespace

void AddExplain(CommandLine& line) {
  auto options = std::make_shared<ExplainOptions>();
  Command command = line.Add("explain", "why each byte is alive at the peak, or which tensor a failed request was for",
                             [options] { return RunExplain(*options); });
  command.Option("CONFIG", options->words,
                 "a run file, a Hugging Face config.json, a nanoGPT .py, or -; before it, in quotes, the text of an "
                 "out-of-memory error (\"CUDA out of memory. Tried to allocate …\")",
                 {.value = "", .required = true, .most = 2});
  command.Option("--set", options->overrides, "KEY=VALUE: another value, as in --set training.micro_batch=8",
                 {.value = "KEY=VALUE"});
  command.Flag("--json", options->json, "as JSON on standard output, and nothing else");
  command.Flag("-v,--verbose", options->verbose, "small tensors too");
  command.Flag("--no-color", options->no_color, "no colours (NO_COLOR is honoured too)");
}

}  // namespace tidemark
