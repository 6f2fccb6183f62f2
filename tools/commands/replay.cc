// tidemark replay FILE: a tape or a PyTorch snapshot through an allocator, or through several side by side.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "tools/build_report.h"
#include "tools/commands/command.h"
#include "tools/commands/output_options.h"
#include "tools/compare/replay_table.h"
#include "tools/config/size.h"
#include "tools/formats/snapshot_replay.h"
#include "tools/recording.h"

namespace tidemark {
namespace {

struct CommandOptions {
  std::vector<std::string> files;
  AllocatorOptions allocator;
  std::vector<std::string> confs;
  std::string memory;
  std::optional<double> fraction;
  std::string events;     // empty: at-once
  std::string addresses;  // empty: rising, with falling beside it where they differ
  OutputOptions output;
};

Result<Report> Replayed(const Recording& recording, const CommandOptions& options, const std::string& conf,
                        const OutputOptions& output) {
  ASSIGN_OR_RETURN(const std::unique_ptr<OutputFiles> files, OutputFiles::Create(output, recording.tape()));
  const std::unique_ptr<Describer> describer = DescribeTape(recording.tape());
  ReportInput input = {.tape = recording.tape(),
                       .replay = {.allocator = options.allocator, .observers = files->observers()},
                       .context = {},
                       .describer = *describer,
                       .title = recording.path,
                       .device_name = "",
                       .limited = !options.memory.empty(),
                       .both_address_orders = options.addresses.empty()};
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
    const std::string& incomparable = recording.snapshot->incomparable;
    report.addresses = !incomparable.empty()
                           ? "addresses aren't compared: " + incomparable
                           : fmt::format("{} of {} addresses match", check->equal(), check->compared());
    if (incomparable.empty() && !check->first_difference().empty())
      *report.addresses += "; first: " + check->first_difference();
  }
  RETURN_IF_ERROR(files->Finish(report, input.replay.allocator, *describer, {}));
  return report;
}

// A table with a row for each file and conf string.
Result<Outcome> RunSeveral(const CommandOptions& options) {
  const OutputOptions& output = options.output;
  if (!output.placements.empty() || !output.trace.empty() || !output.snapshot.empty() || !output.tape.empty() ||
      !output.html.empty()) {
    return InvalidInput("replay: --placements, --trace, --snapshot, --tape and --html take one FILE and one --conf");
  }
  const ReplayTableOptions table = {.allocator = options.allocator,
                                    .limited = !options.memory.empty() || options.fraction.has_value(),
                                    .both_address_orders = options.addresses.empty(),
                                    .confs = options.confs};
  Outcome outcome;
  std::vector<ReplayGroup> groups;
  for (const std::string& file : options.files) {
    ASSIGN_OR_RETURN(const Recording recording, ReadRecording(file));
    ASSIGN_OR_RETURN(ReplayGroup group, ReplaySettings(recording, table));
    if (!std::ranges::all_of(group.rows, &ReplayRow::fits)) outcome.code = ExitCode::kDoesNotFit;
    if (recording.snapshot) {
      for (const std::string& note : recording.snapshot->notes) outcome.notes.push_back(file + ": " + note);
    }
    groups.push_back(std::move(group));
  }
  outcome.output = output.json
                       ? ReplayTableJson(groups)
                       : ReplayTableText(groups, {.colour = WantsColour(output.no_color), .verbose = output.verbose});
  return outcome;
}

Result<Outcome> RunReplayCommand(CommandOptions options) {
  if (!options.memory.empty()) {
    Result<Bytes> memory = ParseSize(options.memory, kUnitRequired);
    if (!memory.ok()) return InvalidInput("--memory: " + memory.error().message);
    options.allocator.device_memory = *memory;
  }
  options.allocator.fraction = options.fraction;
  options.allocator.events = options.events == "lazy" ? EventTiming::kLazy : EventTiming::kAtOnce;
  options.allocator.addresses = options.addresses == "falling" ? AddressOrder::kFalling : AddressOrder::kRising;
  if (options.files.size() > 1 || options.confs.size() > 1) return RunSeveral(options);
  ASSIGN_OR_RETURN(const Recording recording, ReadRecording(options.files.front()));
  const std::string conf = options.confs.empty() ? recording.conf : options.confs.front();
  ASSIGN_OR_RETURN(const Report report, Replayed(recording, options, conf, options.output));
  Outcome outcome = ReportOutcome(report, options.output);
  if (recording.snapshot) outcome.notes = recording.snapshot->notes;
  return outcome;
}

}  // namespace

void AddReplay(CommandLine& line) {
  auto options = std::make_shared<CommandOptions>();
  Command command = line.Add("replay", "a tape or a PyTorch snapshot through an allocator",
                             [options] { return RunReplayCommand(*options); });
  command.Option("FILE", options->files,
                 "a tape, a PyTorch memory snapshot (pickle or JSON), a MiniMalloc CSV, or -; several make a table",
                 {.required = true});
  command.Option("--framework", options->allocator.framework, "whose allocator: pytorch-2.14, …");
  command.Option("--backend", options->allocator.backend, "native, …: see list allocators");
  command.Option("--conf", options->confs, "a PYTORCH_CUDA_ALLOC_CONF string; several are compared side by side");
  command.Option("--memory", options->memory, "of the device, as in 12282MiB (default: 1 PiB)");
  command.Option("--fraction", options->fraction, "as torch.cuda.set_per_process_memory_fraction takes it");
  command.Option("--events", options->events, "when recorded events complete: at-once or lazy",
                 {.allowed = {"at-once", "lazy"}});
  command.Option("--addresses", options->addresses, "which way the addresses of new segments go: rising or falling",
                 {.allowed = {"rising", "falling"}});
  AddOutputOptions(command, options->output);
}

}  // namespace tidemark
