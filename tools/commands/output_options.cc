#include "tools/commands/output_options.h"

#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string_view>

#include "sim/placements.h"
#include "sim/tape_io.h"
#include "tools/formats/chrome_trace.h"
#include "tools/formats/files.h"
#include "tools/formats/report_html.h"
#include "tools/formats/report_json.h"
#include "tools/formats/report_text.h"
#include "tools/formats/snapshot_writer.h"

namespace tidemark {

// https://no-color.org: any value but an empty one.
bool WantsColour(bool refused_by_option) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  const bool refused = refused_by_option || (no_color != nullptr && *no_color != '\0');
  const bool dumb = terminal == nullptr || std::string_view(terminal) == "dumb";
  return !refused && !dumb && ::isatty(STDOUT_FILENO) == 1;
}

void AddOutputOptions(Command& command, OutputOptions& options) {
  command.Flag("--json", options.json, "the report as JSON on standard output, and nothing else");
  command.Option("--trace", options.trace, "write a Chrome trace (ui.perfetto.dev opens it)", {.value = "FILE.json"});
  command.Option("--html", options.html, "write the report as a page for a browser, with the curve by category",
                 {.value = "FILE.html"});
  command.Option("--tape", options.tape, "write the tape", {.value = "FILE.tape"});
  command.Option("--placements", options.placements, "write where each block was put", {.value = "FILE.csv"});
  command.Option("--snapshot", options.snapshot, "write a snapshot that PyTorch's memory_viz opens: JSON, or a pickle",
                 {.value = "FILE"});
  command.Flag("-v,--verbose", options.verbose, "every phase, more tensors, the allocator's statistics");
  command.Flag("--no-color", options.no_color, "no colours (NO_COLOR is honoured too)");
}

struct OutputFiles::Observers {
  std::unique_ptr<PlacementsWriter> placements;
  std::optional<TraceObserver> trace;
  std::optional<SnapshotObserver> snapshot;
  std::optional<HtmlObserver> html;
};

OutputFiles::OutputFiles(const OutputOptions& options, const Tape& tape)
    : options_(options), tape_(tape), observers_(std::make_unique<Observers>()) {}
OutputFiles::~OutputFiles() = default;

Result<std::unique_ptr<OutputFiles>> OutputFiles::Create(const OutputOptions& options, const Tape& tape) {
  std::unique_ptr<OutputFiles> files(new OutputFiles(options, tape));
  Observers& observers = *files->observers_;
  if (!options.placements.empty()) {
    ASSIGN_OR_RETURN(observers.placements, PlacementsWriter::Create(options.placements));
  }
  if (!options.trace.empty()) observers.trace.emplace();
  if (!options.snapshot.empty()) observers.snapshot.emplace();
  if (!options.html.empty()) observers.html.emplace();
  return files;
}

std::vector<ReplayObserver*> OutputFiles::observers() {
  std::vector<ReplayObserver*> list;
  if (observers_->placements != nullptr) list.push_back(observers_->placements.get());
  if (observers_->trace) list.push_back(&*observers_->trace);
  if (observers_->snapshot) list.push_back(&*observers_->snapshot);
  if (observers_->html) list.push_back(&*observers_->html);
  return list;
}

Status OutputFiles::Finish(const Report& report, const AllocatorOptions& allocator, const Describer& describer,
                           std::span<const int64_t> begin_ns) {
  if (observers_->placements != nullptr) RETURN_IF_ERROR(observers_->placements->Finish());
  if (!options_.tape.empty()) {
    const bool gzip = options_.tape.ends_with(".gz");
    RETURN_IF_ERROR(WriteTape(tape_, options_.tape, gzip ? Compression::kGzip : Compression::kNone));
  }
  if (observers_->trace) {
    const ChromeTraceInput input = {tape_, *observers_->trace, report, describer, begin_ns};
    RETURN_IF_ERROR(WriteFile(options_.trace, ChromeTrace(input)));
  }
  if (observers_->snapshot) {
    const bool pickle = options_.snapshot.ends_with(".pickle") || options_.snapshot.ends_with(".pkl");
    ASSIGN_OR_RETURN(const std::string snapshot, SnapshotOf(tape_, allocator, *observers_->snapshot, describer,
                                                            pickle ? SnapshotForm::kPickle : SnapshotForm::kJson));
    RETURN_IF_ERROR(WriteFile(options_.snapshot, snapshot));
  }
  if (observers_->html) RETURN_IF_ERROR(WriteFile(options_.html, ReportHtml({*observers_->html, report, describer})));
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
