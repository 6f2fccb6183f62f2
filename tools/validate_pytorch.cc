// validate --backend pytorch.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <utility>

#include "graph/run_program.h"
#include "graph/training/loop.h"
#include "passes/compile/compiled_model.h"
#include "sim/lower.h"
#include "sim/replay.h"
#include "tools/build_run.h"
#include "tools/compare_tapes.h"
#include "tools/config/size.h"
#include "tools/formats/files.h"
#include "tools/formats/snapshot.h"
#include "tools/pytorch/installation.h"
#include "tools/pytorch/script.h"
#include "tools/validate.h"

namespace tidemark {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* kKinds[] = {"requested", "allocated", "active", "reserved"};

// The highest values over the run, in the order of kKinds.
using Peaks = std::array<int64_t, std::size(kKinds)>;

// What was predicted or measured.
struct Finding {
  Tape tape;  // up to the out-of-memory, if there is one
  Peaks peaks{};
  std::string out_of_memory;  // PyTorch's message; empty: it fits
};

struct Measured {
  Finding finding;
  std::string torch;
  std::string device_name;
  int compute_capability = 0;
  int multiprocessors = 0;
  bool phantom = false;
  bool elsewhere = false;  // a recording that was brought along
};

Tape TapeUpTo(Tape tape, size_t events) {
  tape.events.resize(std::min(tape.events.size(), events));
  return tape;
}

Result<Finding> Predict(const RunConfig& run) {
  ASSIGN_OR_RETURN(const Graph graph, TraceRun(run, compile::CompiledModels()));
  Lowered lowered = Lower(graph, run.device);
  ASSIGN_OR_RETURN(const Replay replay,
                   RunReplay(lowered.tape, {.allocator = AllocatorOf(run), .stop_at_out_of_memory = true}));
  Finding finding{.tape = {},
                  .peaks = {replay.requested.bytes.count(), replay.allocated.bytes.count(), replay.active.bytes.count(),
                            replay.reserved.bytes.count()},
                  .out_of_memory = {}};
  size_t events = lowered.tape.events.size();
  if (!replay.out_of_memory.empty()) {
    finding.out_of_memory = replay.out_of_memory.front().message;
    events = replay.out_of_memory.front().event;
  }
  finding.tape = TapeUpTo(std::move(lowered.tape), events);
  return finding;
}

// The allocations and frees of a snapshot's trace, with the recorded stacks as ops.
Tape TapeOf(const Snapshot& snapshot) {
  Tape tape;
  std::unordered_map<int64_t, AllocationId> live;
  std::unordered_map<int64_t, int32_t> streams = {{0, 0}};
  std::unordered_map<uint32_t, TextId> texts;
  for (const TraceEntry& entry : snapshot.trace) {
    if (entry.action == TraceAction::kOutOfMemory) break;
    if (entry.action == TraceAction::kAlloc) {
      const auto [text, added] = texts.try_emplace(entry.stack);
      if (added) text->second = tape.texts.Add(snapshot.stacks[entry.stack]);
      tape.marks.push_back({static_cast<uint32_t>(tape.events.size()), MarkKind::kOp, text->second});
      const AllocationId id = tape.allocations.Add({.id = tape.allocations.size(), .text = {}});
      live[entry.address] = id;
      const auto stream = streams.try_emplace(entry.stream, static_cast<int32_t>(streams.size())).first->second;
      tape.events.push_back(
          {.kind = EventKind::kAlloc, .stream = stream, .allocation = id, .bytes = Bytes(entry.size)});
    } else if (entry.action == TraceAction::kFreeRequested) {
      const auto found = live.find(entry.address);
      if (found == live.end()) continue;  // older than the history
      tape.events.push_back({.kind = EventKind::kFree, .allocation = found->second});
      live.erase(found);
    }
  }
  return tape;
}

// Reads NAME.pickle and NAME.json, as the generated program writes them.
Result<Measured> ReadMeasured(const std::string& pickle) {
  ASSIGN_OR_RETURN(ByteSource source, ByteSource::Open(pickle));
  ASSIGN_OR_RETURN(const Snapshot snapshot, ReadSnapshot(source, pickle));
  const std::string path = fs::path(pickle).replace_extension(".json").string();
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const ordered_json json = ordered_json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("statistics") || !json.contains("device")) {
    return InvalidInput(fmt::format("{}: this isn't what the program of validate --script writes", path));
  }
  Measured measured{.finding = {.tape = TapeOf(snapshot), .peaks = {}, .out_of_memory = {}}};
  const ordered_json& device = json["device"];
  measured.torch = json.value("torch", std::string());
  measured.device_name = device.value("name", std::string());
  measured.compute_capability = device.value("compute_capability", 0);
  measured.multiprocessors = device.value("multiprocessors", 0);
  for (size_t k = 0; k < std::size(kKinds); ++k) {
    measured.finding.peaks[k] = json["statistics"].value(fmt::format("{}_bytes.all.peak", kKinds[k]), int64_t{0});
  }
  if (json["out_of_memory"].is_string()) measured.finding.out_of_memory = json["out_of_memory"].get<std::string>();
  return measured;
}

// The last line of a file that says something: where Python puts the message of an exception.
std::string LastLine(const std::string& path) {
  const Result<std::string> text = ReadFile(path);
  if (!text.ok()) return "";
  const size_t end = text->find_last_not_of(" \n");
  if (end == std::string::npos) return "";
  const size_t before = text->rfind('\n', end);
  const size_t begin = before == std::string::npos ? 0 : before + 1;
  return text->substr(begin, end + 1 - begin);
}

// Runs the program in the installed PyTorch, on a real GPU where there is one.
Result<Measured> Run(const RunConfig& run, const std::string& script, const ValidateOptions& options) {
  ASSIGN_OR_RETURN(const PyTorch torch, FindPyTorch(options.python.empty() ? "python3" : options.python));
  ASSIGN_OR_RETURN(const TemporaryFolder folder, TemporaryFolder::Create());
  const std::string program = (folder.path() / "run.py").string();
  RETURN_IF_ERROR(WriteFile(program, script));
  Environment environment = {{"HF_HUB_OFFLINE", "1"}};
  if (torch.devices == 0) {
    ASSIGN_OR_RETURN(const std::string libraries, FindPhantom(torch));
    const fs::path python = folder.path() / "python";
    RETURN_IF_ERROR(WritePythonFiles(python));
    const Environment phantom = PhantomEnvironment(run.device, run.device.overhead.value,
                                                   {.libraries = libraries, .python = python.string(), .record = ""});
    environment.insert(environment.end(), phantom.begin(), phantom.end());
  }
  const std::string name = (folder.path() / "run").string();
  const std::string errors = (folder.path() / "errors").string();
  ASSIGN_OR_RETURN(const ChildResult ended, RunChild({.command = {torch.python, program, name},
                                                      .environment = std::move(environment),
                                                      .output = ChildOutput::kDrop,
                                                      .error_file = errors}));
  if (ended.exit_code != 0) {
    return InvalidInput(
        fmt::format("the PyTorch program of this run ended with exit code {}: {} (--script FILE.py keeps it)",
                    ended.exit_code, LastLine(errors)));
  }
  ASSIGN_OR_RETURN(Measured measured, ReadMeasured(name + ".pickle"));
  measured.phantom = torch.devices == 0;
  return measured;
}

bool Agrees(const Finding& predicted, const Finding& measured, const TapeDifference& difference) {
  return difference.identical() && predicted.peaks == measured.peaks &&
         predicted.out_of_memory == measured.out_of_memory;
}

std::string DescribeEvents(const TapeDifference& difference) {
  if (difference.identical()) return fmt::format("identical, {} events\n", difference.events);
  return fmt::format(
      "different: event {} of {}\n"
      "  predicted  {}\n"
      "  measured   {}\n",
      difference.first, difference.events, difference.predicted, difference.measured);
}

std::string Where(const Measured& measured) {
  const char* how = measured.phantom     ? " that isn't there: kernels do nothing, memory is counted"
                    : measured.elsewhere ? ", recorded elsewhere"
                                         : "";
  return fmt::format("PyTorch {} on {}{}\n", measured.torch, measured.device_name, how);
}

std::string Text(const Finding& predicted, const Measured& measured, const TapeDifference& difference) {
  std::string text = Where(measured) + DescribeEvents(difference);
  text += fmt::format("{:<12}{:>18}{:>18}\n", "peak, bytes", "predicted", "measured");
  for (size_t k = 0; k < std::size(kKinds); ++k) {
    text += fmt::format("{:<12}{:>18}{:>18}{}\n", kKinds[k], predicted.peaks[k], measured.finding.peaks[k],
                        predicted.peaks[k] == measured.finding.peaks[k] ? "" : "   differs");
  }
  const std::string& message = measured.finding.out_of_memory;
  if (predicted.out_of_memory == message) {
    return message.empty() ? text : text + "as predicted, it does not fit: " + message + "\n";
  }
  return text + fmt::format("predicted: {}\nmeasured: {}\n",
                            predicted.out_of_memory.empty() ? "it fits" : predicted.out_of_memory,
                            message.empty() ? "it fits" : message);
}

ordered_json PeaksJson(const Peaks& peaks) {
  ordered_json json;
  for (size_t k = 0; k < std::size(kKinds); ++k) json[fmt::format("{}_bytes", kKinds[k])] = peaks[k];
  return json;
}

ordered_json MessageJson(const std::string& message) {
  return message.empty() ? ordered_json() : ordered_json(message);
}

std::string Json(const Finding& predicted, const Measured& measured, const TapeDifference& difference) {
  ordered_json first;
  if (!difference.identical()) {
    first = {{"event", difference.first}, {"predicted", difference.predicted}, {"measured", difference.measured}};
  }
  const ordered_json json = {
      {"schema", "tidemark.validation/1"},
      {"backend", "pytorch"},
      {"agrees", Agrees(predicted, measured.finding, difference)},
      {"torch", measured.torch},
      {"device", measured.device_name},
      {"phantom", measured.phantom},
      {"events", {{"measured", difference.events}, {"identical", difference.identical()}, {"first_difference", first}}},
      {"peak", {{"predicted", PeaksJson(predicted.peaks)}, {"measured", PeaksJson(measured.finding.peaks)}}},
      {"out_of_memory",
       {{"predicted", MessageJson(predicted.out_of_memory)},
        {"measured", MessageJson(measured.finding.out_of_memory)}}}};
  return json.dump(1) + "\n";
}

// Why a difference may not be the simulation's fault.
std::vector<std::string> Notes(const RunConfig& run, const Measured& measured, bool agrees) {
  std::vector<std::string> notes;
  const std::string version = run.framework.substr(run.framework.find('-') + 1);
  if (!measured.torch.starts_with(version + ".")) {
    notes.push_back(fmt::format("simulated is {}, measured was PyTorch {}", run.framework, measured.torch));
  }
  if (measured.compute_capability != run.device.compute_capability ||
      measured.multiprocessors != run.device.multiprocessors) {
    notes.push_back(
        fmt::format("simulated is {}, measured was {}: what depends on the capability or on the number of "
                    "multiprocessors may differ (--set device=…)",
                    run.device.name, measured.device_name));
  }
  if (!agrees && !measured.phantom && run.training.precision == Precision::kAmpFp16) {
    notes.push_back("where gradients overflow, a GradScaler skips the step; the simulation has it never do so");
  }
  return notes;
}

}  // namespace

Result<Outcome> ValidateWithPyTorch(const LoadedRun& run, const ValidateOptions& options) {
  ASSIGN_OR_RETURN(const RunConfig program, ResolveProgram(run.config));
  if (!program.passes.empty()) {
    return InvalidInput(
        "passes: PyTorch has no counterpart of a pass that rewrites the traced graph; --backend host runs it");
  }
  ASSIGN_OR_RETURN(const std::string script, PyTorchScript(program, TitleOf(run.config)));
  if (!options.script.empty()) RETURN_IF_ERROR(WriteFile(options.script, script));
  ASSIGN_OR_RETURN(const Finding predicted, Predict(program));
  Measured measured;
  if (options.recording.empty()) {
    ASSIGN_OR_RETURN(measured, Run(program, script, options));
  } else {
    ASSIGN_OR_RETURN(measured, ReadMeasured(options.recording));
    measured.elsewhere = true;
  }
  const TapeDifference difference = CompareTapes(predicted.tape, measured.finding.tape);
  Outcome outcome;
  const bool agrees = Agrees(predicted, measured.finding, difference);
  outcome.code = agrees ? ExitCode::kGood : ExitCode::kDoesNotFit;
  outcome.output = options.json ? Json(predicted, measured, difference) : Text(predicted, measured, difference);
  outcome.notes = run.notes;
  std::ranges::move(Notes(program, measured, agrees), std::back_inserter(outcome.notes));
  return outcome;
}

}  // namespace tidemark
