// What-if: one configuration and variants of it, each simulated, and what changed.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/base/result.h"
#include "graph/run_config.h"
#include "passes/compile/tuning.h"
#include "passes/pipeline.h"
#include "tools/report.h"

namespace tidemark {

struct Variant {
  std::string name;  // the settings, as they were given; "as given" for the base
  RunConfig run;
  // Where it doesn't fit, its peaks are those that it would reach on a device that is large enough.
  Report report;
  std::vector<PassRun> passes;
  std::string explanation;  // why it is better or worse than the base; empty for the base
  // Why a pass can't rewrite this run, or what of it can't be simulated; then there is no report. Empty: there is.
  std::string impossible;
};

// Sequence positions that a step trains on, on average over the run's lengths.
double TokensOfStep(const RunConfig& run);

struct VariantTable {
  Variant base;
  std::vector<Variant> variants;
};

// `text` is a configuration that `name` stands for in messages; `overrides` belong to the base and to each variant, and
// each of `settings` ("training.micro_batch=8,training.steps=2") makes a variant. Notes of the reader are appended to
// `notes`. `share_cache`: first runs under torch.compile have one compile cache, filled by the base, then by each
// variant in turn; otherwise each begins with an empty one. Errors: a setting that means nothing, a base that can't be
// simulated. A variant that can't be is a row that says why.
Result<VariantTable> CompareVariants(const std::string& text, const std::string& name,
                                     std::span<const std::string> overrides, std::span<const std::string> settings,
                                     bool share_cache, std::vector<std::string>& notes);

// "a=1,b=[2,3]" as a=1 and b=[2,3]: a comma within brackets or quotes separates nothing.
std::vector<std::string> SplitSettings(const std::string& settings);

// The run simulated: its report, whatever it takes. Where it doesn't fit, see Variant::report. `tuned`: see
// BuildOptions.
Result<Variant> SimulateVariant(std::string name, const RunConfig& run, compile::TuningCache* tuned = nullptr);

}  // namespace tidemark
