// tidemark compare CONFIG --with K=V[,K=V…] --with …: the what-if table.
#include <CLI/CLI.hpp>
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

void AddCompare(CLI::App& app, CommandRun* run) {
  auto options = std::make_shared<CompareOptions>();
  CLI::App* command = app.add_subcommand("compare", "what would change: a table of variants of a run");
  command->add_option("CONFIG", options->config, "a run file, a Hugging Face config.json, a nanoGPT .py, or -")
      ->required();
  command
      ->add_option("--with", options->variants,
                   "a variant: other values, as in --with training.micro_batch=8,training.gradient_accumulation=8 or "
                   "--with passes.recompute.policy=full or --with 'passes=[{chunk_loss: {chunks: 8}}, {fuse: {}}]' "
                   "(tidemark list passes); give it as often as you like")
      ->type_name("KEY=VALUE[,KEY=VALUE…]")
      ->allow_extra_args(false);
  command->add_option("--set", options->overrides, "KEY=VALUE: another value for the base and every variant")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_flag("--share-cache", options->share_cache,
                    "first runs (training.compile=first-run) one after another with one compile cache: a variant tunes "
                    "only kernels that none before it has tuned");
  command->add_flag("--json", options->json, "as JSON on standard output, and nothing else");
  command->add_option("--trace", options->trace, "write a Chrome trace with every variant's curves")
      ->type_name("FILE.json");
  command->add_option("--html", options->html, "write the table and the curves as a page for a browser")
      ->type_name("FILE.html");
  command->add_flag("-v,--verbose", options->verbose, "what is alive at each peak, by category");
  command->add_flag("--no-color", options->no_color, "no colours (NO_COLOR is honoured too)");
  command->callback([options, run] { *run = [options] { return RunCompare(*options); }; });
}

}  // namespace tidemark
