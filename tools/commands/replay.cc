// tidemark replay FILE: a tape or a PyTorch snapshot through an allocator, or through several side by side.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "sim/formats/minimalloc.h"
#include "sim/tape_io.h"
#include "tools/build_report.h"
#include "tools/commands/command.h"
#include "tools/commands/output_options.h"
#include "tools/config/size.h"
#include "tools/formats/byte_source.h"
#include "tools/formats/files.h"
#include "tools/formats/report_json.h"
#include "tools/formats/snapshot_replay.h"

namespace tidemark {
namespace {

struct CommandOptions {
  std::string file;
  AllocatorOptions allocator;
  std::vector<std::string> confs;
  std::string memory;
  std::optional<double> fraction;
  bool lazy = false;
  bool falling = false;
  OutputOptions output;
};

// What is replayed, with what only a snapshot has.
struct Recording {
  std::optional<SnapshotReplay> snapshot;
  Tape own_tape;  // without a snapshot
  std::string conf;
  Bytes capacity;  // what the file says that the memory holds; 0: nothing

  const Tape& tape() const { return snapshot ? snapshot->tape : own_tape; }
};

Result<Recording> ReadRecording(const std::string& path) {
  ASSIGN_OR_RETURN(ByteSource source, ByteSource::Open(path));
  const std::string_view beginning = source.Peek(ByteSource::kMaxView);
  RETURN_IF_ERROR(source.status());
  Recording recording;
  if (LooksLikePickle(beginning) || LooksLikeJson(beginning)) {
    ASSIGN_OR_RETURN(const Snapshot snapshot, ReadSnapshot(source, path));
    recording.snapshot = ReplayOf(snapshot);
    recording.conf = snapshot.conf;
    return recording;
  }
  if (LooksLikeMinimalloc(beginning)) {
    ASSIGN_OR_RETURN(const MinimallocInstance instance, ReadMinimalloc(path));
    recording.own_tape = TapeOfMinimalloc(instance);
    recording.capacity = Bytes(instance.capacity);
    return recording;
  }
  if (path == "-") {  // what was peeked at can't be read again
    std::string content;
    while (const auto byte = source.Take(1))
      content.append(*byte).append(*source.Take(source.Peek(ByteSource::kMaxView).size()));
    RETURN_IF_ERROR(source.status());
    ASSIGN_OR_RETURN(recording.own_tape, ParseTape(path, content));
    return recording;
  }
  ASSIGN_OR_RETURN(recording.own_tape, ReadTape(path));
  return recording;
}

Result<Report> Replayed(const Recording& recording, const CommandOptions& options, const std::string& conf,
                        const OutputOptions& output) {
  ASSIGN_OR_RETURN(const std::unique_ptr<OutputFiles> files, OutputFiles::Create(output, recording.tape()));
  const std::unique_ptr<Describer> describer = DescribeTape(recording.tape());
  ReportInput input = {.tape = recording.tape(),
                       .replay = {.allocator = options.allocator, .observers = files->observers()},
                       .context = {},
                       .describer = *describer,
                       .title = options.file,
                       .device_name = "",
                       .limited = !options.memory.empty()};
  input.replay.allocator.conf = conf;
  if (options.memory.empty() && recording.capacity > Bytes()) {
    input.replay.allocator.device_memory = recording.capacity;
    input.limited = true;
  }
  std::optional<AddressCheck> check;
  if (recording.snapshot) {
    input.replay.allocator.initial = &recording.snapshot->initial;
    check.emplace(*recording.snapshot);
    input.replay.observers.push_back(&*check);
  }
  ASSIGN_OR_RETURN(Report report, BuildReport(input));
  report.allocator.initial = nullptr;
  if (check) {
    report.addresses = fmt::format("{} of {} addresses match", check->equal(), check->compared());
    if (!check->first_difference().empty()) *report.addresses += "; first: " + check->first_difference();
  }
  RETURN_IF_ERROR(files->Finish(report, input.replay.allocator, *describer, {}));
  return report;
}

// A row per conf string: what it changes.
std::string ComparisonText(const std::vector<Report>& reports) {
  size_t width = 9;
  for (const Report& report : reports) width = std::max(width, report.allocator.conf.size() + 2);
  std::string text = fmt::format("{:<{}}{:>12}{:>12}{:>12}{:>10}{:>10}\n", "conf, MiB", width, "allocated", "reserved",
                                 "cached", "segments", "failures");
  const auto segments = [](const Report& report) {
    const auto found = std::ranges::find(report.statistics, "segment.all.peak", &Statistic::key);
    return found == report.statistics.end() ? 0 : found->value;
  };
  for (const Report& report : reports) {
    text += fmt::format("{:<{}}{:>12.1f}{:>12.1f}{:>12.1f}{:>10}{:>10}\n",
                        report.allocator.conf.empty() ? "\"\"" : report.allocator.conf, width,
                        report.allocated_peak / kMiB, report.reserved_peak / kMiB,
                        (report.reserved_peak - report.active_peak) / kMiB, segments(report), report.failures);
  }
  return text;
}

Result<Outcome> RunSeveral(const Recording& recording, const CommandOptions& options) {
  if (!options.output.placements.empty() || !options.output.trace.empty() || !options.output.snapshot.empty() ||
      !options.output.html.empty()) {
    return InvalidInput("replay: --placements, --trace, --snapshot and --html take one --conf");
  }
  Outcome outcome;
  std::vector<Report> reports;
  for (const std::string& conf : options.confs) {
    ASSIGN_OR_RETURN(Report report, Replayed(recording, options, conf, OutputOptions()));
    if (!report.fits) outcome.code = ExitCode::kDoesNotFit;
    reports.push_back(std::move(report));
  }
  if (!options.output.json) {
    outcome.output = ComparisonText(reports);
    return outcome;
  }
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Report& report : reports) list.push_back(nlohmann::ordered_json::parse(ReportJson(report)));
  outcome.output = list.dump(1) + "\n";
  return outcome;
}

Result<Outcome> RunReplayCommand(CommandOptions options) {
  if (!options.memory.empty()) {
    Result<Bytes> memory = ParseSize(options.memory, kUnitRequired);
    if (!memory.ok()) return InvalidInput("--memory: " + memory.error().message);
    options.allocator.device_memory = *memory;
  }
  options.allocator.fraction = options.fraction;
  options.allocator.events = options.lazy ? EventTiming::kLazy : EventTiming::kAtOnce;
  options.allocator.addresses = options.falling ? AddressOrder::kFalling : AddressOrder::kRising;
  ASSIGN_OR_RETURN(const Recording recording, ReadRecording(options.file));
  if (options.confs.size() > 1) return RunSeveral(recording, options);
  const std::string conf = options.confs.empty() ? recording.conf : options.confs.front();
  ASSIGN_OR_RETURN(const Report report, Replayed(recording, options, conf, options.output));
  Outcome outcome = ReportOutcome(report, options.output);
  if (recording.snapshot) outcome.notes = recording.snapshot->notes;
  return outcome;
}

}  // namespace

void AddReplay(CLI::App& app, CommandRun* run) {
  auto options = std::make_shared<CommandOptions>();
  CLI::App* command = app.add_subcommand("replay", "a tape or a PyTorch snapshot through an allocator");
  command->add_option("FILE", options->file, "a tape, a PyTorch memory snapshot (pickle or JSON), or -")->required();
  command->add_option("--framework", options->allocator.framework, "whose allocator: pytorch-2.14, …");
  command->add_option("--backend", options->allocator.backend, "native, …: see list allocators");
  command->add_option("--conf", options->confs, "a PYTORCH_CUDA_ALLOC_CONF string; several are compared side by side")
      ->allow_extra_args(false);
  command->add_option("--memory", options->memory, "of the device, as in 12282MiB (default: 1 PiB)");
  command->add_option("--fraction", options->fraction, "as torch.cuda.set_per_process_memory_fraction takes it");
  command
      ->add_option_function<std::string>(
          "--events", [options](const std::string& when) { options->lazy = when == "lazy"; },
          "when recorded events complete: at-once or lazy")
      ->check(CLI::IsMember({"at-once", "lazy"}));
  command
      ->add_option_function<std::string>(
          "--addresses", [options](const std::string& way) { options->falling = way == "falling"; },
          "which way the addresses of new segments go: rising or falling")
      ->check(CLI::IsMember({"rising", "falling"}));
  AddOutputOptions(*command, options->output);
  command->callback([options, run] { *run = [options] { return RunReplayCommand(*options); }; });
}

}  // namespace tidemark
