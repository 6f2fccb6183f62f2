// tidemark record -o FILE -- PROGRAM…: runs a program that uses PyTorch on a GPU that isn't there, and keeps what it
// asked of the allocator.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "tools/commands/command.h"
#include "tools/config/devices.h"
#include "tools/config/size.h"
#include "tools/formats/files.h"
#include "tools/pytorch/installation.h"
#include "tools/pytorch/process.h"

namespace tidemark {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

struct RecordOptions {
  std::string output;
  std::string device = "rtx4070";
  std::vector<std::string> program;
  bool json = false;
};

// What a recorded process left in its folder: PID.json, PID.tape.gz, PID.pickle.
struct ProcessRecording {
  fs::path stem;  // the folder and the process id
  ordered_json description;
  int64_t events = 0;
};

struct OutputPaths {
  std::string tape, snapshot, description;
};

// FILE, FILE.tape or FILE.tape.gz name the tape; the others lie beside it.
OutputPaths PathsOf(const std::string& output) {
  std::string stem = output;
  bool plain = false;
  if (stem.ends_with(".gz")) {
    stem.resize(stem.size() - 3);
  } else {
    plain = stem.ends_with(".tape");
  }
  if (stem.ends_with(".tape")) stem.resize(stem.size() - 5);
  return {stem + (plain ? ".tape" : ".tape.gz"), stem + ".pickle", stem + ".json"};
}

bool IsPython(const std::string& program) { return fs::path(program).filename().string().starts_with("python"); }

// The recordings of all processes that used the device, the one with most events first.
Result<std::vector<ProcessRecording>> ReadRecordings(const fs::path& folder) {
  std::vector<ProcessRecording> recordings;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() != ".json") continue;
    ASSIGN_OR_RETURN(const std::string text, ReadFile(entry.path().string()));
    ProcessRecording recording{.stem = entry.path().parent_path() / entry.path().stem(),
                               .description = ordered_json::parse(text, nullptr, false)};
    if (recording.description.is_discarded()) continue;  // the process was killed while it wrote
    const ordered_json& counts = recording.description["recording"];
    if (counts.is_object()) recording.events = counts.value("events", int64_t{0});
    recordings.push_back(std::move(recording));
  }
  std::ranges::sort(recordings, [](const ProcessRecording& a, const ProcessRecording& b) {
    return a.events != b.events ? a.events > b.events : a.stem < b.stem;
  });
  return recordings;
}

Error NothingRecorded(const RecordOptions& options, const ChildResult& ended) {
  const std::string program = fmt::format("{}", fmt::join(options.program, " "));
  if (ended.signal != 0) {
    return InvalidInput(fmt::format("record: {} was ended by signal {}; nothing was kept", program, ended.signal));
  }
  if (ended.exit_code != 0) {
    return InvalidInput(
        fmt::format("record: {} ended with exit code {} before it used the device", program, ended.exit_code));
  }
  return InvalidInput(fmt::format("record: {} never used PyTorch's CUDA device; there is nothing to keep", program));
}

// The interpreter whose PyTorch the program will use, and what to add to the environment so that it does.
struct Interpreter {
  PyTorch torch;
  Environment environment;
  std::vector<std::string> notes;
};

Result<Interpreter> InterpreterOf(const RecordOptions& options) {
  const std::string asked = IsPython(options.program.front()) ? options.program.front() : "python3";
  ASSIGN_OR_RETURN(PyTorch torch, FindPyTorch(asked));
  Interpreter interpreter{.torch = std::move(torch), .environment = {}, .notes = {}};
  if (!interpreter.torch.from_setup) return interpreter;
  const std::string bin = fs::path(interpreter.torch.python).parent_path().string();
  interpreter.environment.emplace_back("PATH", bin + ":" + EnvironmentVariable("PATH"));
  interpreter.notes.push_back(fmt::format("{} has no PyTorch with CUDA; {} is used", asked, interpreter.torch.python));
  if (asked.find('/') != std::string::npos) {
    return Error{ErrorCode::kUnavailable,
                 fmt::format("{} has no PyTorch with CUDA; \"python\" would find the one of {}", asked, bin)};
  }
  return interpreter;
}

std::string Joined(const ordered_json& object) {
  std::vector<std::string> entries;
  for (const auto& [key, count] : object.items()) entries.push_back(fmt::format("{} ({} times)", key, count.dump()));
  return fmt::format("{}", fmt::join(entries, ", "));
}

// What the recording can't tell of this program: in general, and what it came across.
std::vector<std::string> Limits(const ordered_json& description) {
  std::vector<std::string> notes = {
      "not known: values (what the program read back from the device was zero), time, and what cuDNN would take"};
  if (!description["no_history"].is_null()) {
    notes.push_back(fmt::format("no events: {}", description["no_history"].get<std::string>()));
  }
  if (const ordered_json& given = description["answers_given"]; !given.empty()) {
    notes.push_back("questions about values that were answered as a GPU would: " + Joined(given));
  }
  if (const ordered_json& asked = description["decided_by_zero"]; !asked.empty()) {
    notes.push_back("the program decided by values that were zero here: " + Joined(asked));
  }
  const ordered_json& recording = description["recording"];
  if (!recording.is_object()) return notes;
  if (const ordered_json& sized = recording["sized_by_values"]; !sized.empty()) {
    notes.push_back("sizes that depend on values, recorded as if those were zero: " + Joined(sized));
  }
  if (recording.value("full", false)) {
    notes.push_back("the history was full: the tape lacks its beginning (TIDEMARK_RECORD_EVENTS sets its length)");
  }
  const int64_t held_back = recording["counts"].value("deferred_frees", int64_t{0});
  if (held_back > 0) {
    notes.push_back(fmt::format("{} frees waited for another stream; which one is a guess in the tape", held_back));
  }
  return notes;
}

Status KeepFiles(const ProcessRecording& recording, const OutputPaths& paths) {
  const std::string stem = recording.stem.string();
  if (recording.description["recording"].is_object()) {
    ASSIGN_OR_RETURN(const std::string tape, ReadFile(stem + ".tape.gz"));
    RETURN_IF_ERROR(WriteFile(paths.tape, tape));
    std::error_code error;
    fs::copy_file(stem + ".pickle", paths.snapshot, fs::copy_options::overwrite_existing, error);
    if (error) return InvalidInput(fmt::format("{}: {}", paths.snapshot, error.message()));
  }
  return WriteFile(paths.description, recording.description.dump(1) + "\n");
}

std::string Summary(const ordered_json& d, const OutputPaths& paths) {
  const auto size = [&](const char* key) { return FormatSize(Bytes(d["peak"].value(key, int64_t{0}))); };
  std::string text = fmt::format("{} events on {} that isn't there, PyTorch {}\n",
                                 d["recording"].is_object() ? d["recording"]["events"].dump() : "no",
                                 d["device"]["name"].get<std::string>(), d["torch"].get<std::string>());
  text += fmt::format("peak: requested {}, allocated {}, active {}, reserved {}\n", size("requested_bytes"),
                      size("allocated_bytes"), size("active_bytes"), size("reserved_bytes"));
  if (d["recording"].is_object()) {
    text += fmt::format("{}: what was asked of the allocator (tidemark replay {})\n", paths.tape, paths.tape);
    text += fmt::format("{}: PyTorch's memory snapshot\n", paths.snapshot);
  }
  return text + fmt::format("{}: peaks, statistics, how it ended\n", paths.description);
}

ExitCode CodeOf(const ChildResult& ended, const ordered_json& description) {
  if (ended.exit_code == 0) return ExitCode::kGood;
  const ordered_json& exception = description["exception"];
  const bool out_of_memory = exception.is_string() && exception.get<std::string>().starts_with("OutOfMemoryError");
  return out_of_memory ? ExitCode::kDoesNotFit : ExitCode::kWrongInput;
}

Result<Outcome> RunRecord(const RecordOptions& options) {
  ASSIGN_OR_RETURN(const DeviceSpec device, FindDevice(options.device, "--device"));
  ASSIGN_OR_RETURN(const Interpreter interpreter, InterpreterOf(options));
  ASSIGN_OR_RETURN(const std::string libraries, FindPhantom(interpreter.torch));
  ASSIGN_OR_RETURN(const TemporaryFolder folder, TemporaryFolder::Create());
  const fs::path python = folder.path() / "python";
  const fs::path recorded = folder.path() / "recorded";
  RETURN_IF_ERROR(WritePythonFiles(python));
  std::error_code error;
  fs::create_directory(recorded, error);
  ChildProcess child{.command = options.program,
                     .environment = PhantomEnvironment(
                         device, device.overhead.value,
                         {.libraries = libraries, .python = python.string(), .record = recorded.string()}),
                     .output = options.json ? ChildOutput::kToStderr : ChildOutput::kInherit};
  child.environment.insert(child.environment.end(), interpreter.environment.begin(), interpreter.environment.end());
  ASSIGN_OR_RETURN(const ChildResult ended, RunChild(child));
  ASSIGN_OR_RETURN(std::vector<ProcessRecording> recordings, ReadRecordings(recorded));
  if (recordings.empty()) return NothingRecorded(options, ended);

  ProcessRecording& main = recordings.front();
  ordered_json description = {{"schema", "tidemark.record/1"}, {"exit_code", ended.exit_code}};
  description.update(main.description);
  main.description = std::move(description);
  const OutputPaths paths = PathsOf(options.output);
  RETURN_IF_ERROR(KeepFiles(main, paths));
  Outcome outcome;
  outcome.code = CodeOf(ended, main.description);
  outcome.output = options.json ? main.description.dump(1) + "\n" : Summary(main.description, paths);
  outcome.notes = interpreter.notes;
  if (ended.exit_code != 0) {
    outcome.notes.push_back(
        fmt::format("the program ended with exit code {}; kept is what it did until then", ended.exit_code));
  }
  if (recordings.size() > 1) {
    outcome.notes.push_back(
        fmt::format("{} processes used the device; kept is the one with most events", recordings.size()));
  }
  std::ranges::move(Limits(main.description), std::back_inserter(outcome.notes));
  return outcome;
}

}  // namespace

void AddRecord(CommandLine& line) {
  auto options = std::make_shared<RecordOptions>();
  Command command = line.Add("record", "a PyTorch program's own tape, on a GPU that isn't there",
                             [options] { return RunRecord(*options); });
  command.Option("-o,--output", options->output, "FILE.tape.gz, FILE.pickle and FILE.json are written",
                 {.value = "FILE", .required = true});
  command.Option("--device", options->device, "which GPU: see list devices", {.value = "NAME"});
  command.Flag("--json", options->json, "what was found as JSON; the program's own output goes to standard error");
  command.Option("PROGRAM", options->program, "after --: the program and its arguments", {.required = true});
}

}  // namespace tidemark
