#include "tools/commands/output_options.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <string_view>

#include "sim/placements.h"
#include "sim/tape_io.h"
#include "tools/formats/report_json.h"
#include "tools/formats/report_text.h"

namespace tidemark {

// https://no-color.org: any value but an empty one.
bool WantsColour(bool refused_by_option) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  const bool refused = refused_by_option || (no_color != nullptr && *no_color != '\0');
  const bool dumb = terminal == nullptr || std::string_view(terminal) == "dumb";
  return !refused && !dumb && ::isatty(STDOUT_FILENO) == 1;
}

void AddOutputOptions(CLI::App& command, OutputOptions& options) {
  command.add_flag("--json", options.json, "the report as JSON on standard output, and nothing else");
  command.add_option("--trace", options.trace, "write a Chrome trace (ui.perfetto.dev opens it)")
      ->type_name("FILE.json");
  command.add_option("--tape", options.tape, "write the tape")->type_name("FILE.tape");
  command.add_option("--placements", options.placements, "write where each block was put")->type_name("FILE.csv");
  command.add_option("--snapshot", options.snapshot, "write a snapshot that PyTorch's memory_viz opens")
      ->type_name("FILE.json");
  command.add_flag("-v,--verbose", options.verbose, "every phase, more tensors, the allocator's statistics");
  command.add_flag("--no-color", options.no_color, "no colours (NO_COLOR is honoured too)");
}

struct OutputFiles::Observers {
  std::unique_ptr<PlacementsWriter> placements;
};

OutputFiles::OutputFiles(const OutputOptions& options, const Tape& tape)
    : options_(options), tape_(tape), observers_(std::make_unique<Observers>()) {}
OutputFiles::~OutputFiles() = default;

Result<std::unique_ptr<OutputFiles>> OutputFiles::Create(const OutputOptions& options, const Tape& tape) {
  std::unique_ptr<OutputFiles> files(new OutputFiles(options, tape));
  if (!options.placements.empty()) {
    ASSIGN_OR_RETURN(files->observers_->placements, PlacementsWriter::Create(options.placements));
  }
  return files;
}

std::vector<ReplayObserver*> OutputFiles::observers() {
  std::vector<ReplayObserver*> list;
  if (observers_->placements != nullptr) list.push_back(observers_->placements.get());
  return list;
}

Status OutputFiles::Finish(const Report& /*report*/) {
  if (observers_->placements != nullptr) RETURN_IF_ERROR(observers_->placements->Finish());
  if (!options_.tape.empty()) {
    const bool gzip = options_.tape.ends_with(".gz");
    RETURN_IF_ERROR(WriteTape(tape_, options_.tape, gzip ? Compression::kGzip : Compression::kNone));
  }
  return {};
}

Outcome ReportOutcome(const Report& report, const OutputOptions& options) {
  Outcome outcome;
  outcome.code = report.fits ? ExitCode::kGood : ExitCode::kDoesNotFit;
  outcome.output = options.json
                       ? ReportJson(report)
                       : ReportText(report, {.colour = WantsColour(options.no_color), .verbose = options.verbose});
  return outcome;
}

}  // namespace tidemark
