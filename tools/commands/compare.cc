// tidemark compare CONFIG --with K=V[,K=V…] --with …: the what-if table.
#include <memory>
#include <string>
#include <vector>

#include "tools/commands/command.h"
#include "tools/commands/output_options.h"
#include "tools/compare/compare_text.h"
#include "tools/compare/variants.h"
#include "tools/formats/files.h"

namespace tidemark {
namespace {

struct CompareOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::vector<std::string> variants;
  bool share_cache = false;
  bool json = false;
  bool verbose = false;
  bool no_color = false;
  std::string trace;
  std::string html;
};

// The exit code is the base's: whether what was given fits. Variants that don't are what one wants to know.
Result<Outcome> RunCompare(const CompareOptions& options) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(options.config));
  Outcome outcome;
  ASSIGN_OR_RETURN(const VariantTable table, CompareVariants(text, options.config, options.overrides, options.variants,
                                                             options.share_cache, outcome.notes));
  outcome.code = table.base.report.fits ? ExitCode::kGood : ExitCode::kDoesNotFit;
  outcome.output = options.json
                       ? CompareJson(table)
                       : CompareText(table, {.colour = WantsColour(options.no_color), .verbose = options.verbose});
  if (!options.trace.empty()) RETURN_IF_ERROR(WriteFile(options.trace, CompareTrace(table)));
  if (!options.html.empty()) RETURN_IF_ERROR(WriteFile(options.html, CompareHtml(table)));
  return outcome;
}

}  // namespace

void AddCompare(CommandLine& line) {
  auto options = std::make_shared<CompareOptions>();
  Command command = line.Add("compare", "what would change: a table of variants of a run",
                             [options] { return RunCompare(*options); });
  command.Option("CONFIG", options->config, "a run file, a Hugging Face config.json, a nanoGPT .py, or -",
                 {.required = true});
  command.Option("--with", options->variants,
                 "a variant: other values, as in --with training.micro_batch=8,training.gradient_accumulation=8 or "
                 "--with passes.recompute.policy=full or --with 'passes=[{chunk_loss: {chunks: 8}}, {fuse: {}}]' "
                 "(tidemark list passes); give it as often as you like",
                 {.value = "KEY=VALUE[,KEY=VALUE…]"});
  command.Option("--set", options->overrides, "KEY=VALUE: another value for the base and every variant",
                 {.value = "KEY=VALUE"});
  command.Flag("--share-cache", options->share_cache,
               "first runs (training.compile=first-run) one after another with one compile cache: a variant tunes "
               "only kernels that none before it has tuned");
  command.Flag("--json", options->json, "as JSON on standard output, and nothing else");
  command.Option("--trace", options->trace, "write a Chrome trace with every variant's curves", {.value = "FILE.json"});
  command.Option("--html", options->html, "write the table and the curves as a page for a browser",
                 {.value = "FILE.html"});
  command.Flag("-v,--verbose", options->verbose, "what is alive at each peak, by category");
  command.Flag("--no-color", options->no_color, "no colours (NO_COLOR is honoured too)");
}

}  // namespace tidemark
