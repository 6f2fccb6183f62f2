// tidemark sweep GRID.yaml -o out.csv: many configurations, a row each.
#include "tools/sweep/sweep.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "tools/commands/command.h"
#include "tools/commands/progress.h"
#include "tools/sweep/grid.h"

namespace tidemark {
namespace {

struct SweepCommandOptions {
  std::string grid;
  std::string output;
  std::vector<std::string> overrides;
  unsigned jobs = 0;
};

Result<Outcome> RunSweepCommand(const SweepCommandOptions& options) {
  ASSIGN_OR_RETURN(const Grid grid, LoadGrid(options.grid, options.overrides));
  SweepOptions sweep = {.output = options.output, .threads = options.jobs, .on_progress = Progress()};
  ASSIGN_OR_RETURN(const SweepResult result, RunSweep(grid, sweep));
  Outcome outcome;
  outcome.output = fmt::format("{} configurations: {} simulated, {} were there already; ", result.points,
                               result.simulated, result.found);
  outcome.output += result.complete ? options.output + " is complete\n"
                                    : options.output + " appears when the other processes are done\n";
  if (result.failed > 0) {
    outcome.notes.push_back(fmt::format("{} of them can't be simulated: the column `error` says why", result.failed));
  }
  return outcome;
}

}  // namespace

void AddSweep(CommandLine& line) {
  auto options = std::make_shared<SweepCommandOptions>();
  Command command = line.Add(
      "sweep", "many configurations into a CSV file, on all cores or under mpirun; goes on where it was interrupted",
      [options] { return RunSweepCommand(*options); });
  command.Option("GRID", options->grid,
                 "a YAML file: `base`, a configuration's path or content, and `grid`, lists of values by key: every "
                 "combination is simulated",
                 {.required = true});
  command.Option("-o,--output", options->output, "the table", {.value = "FILE.csv", .required = true});
  command.Option("-j,--jobs", options->jobs, "threads (default: one for each core)", {.value = "N"});
  command.Option("--set", options->overrides, "KEY=VALUE: another value for every configuration",
                 {.value = "KEY=VALUE"});
}

}  // namespace tidemark
