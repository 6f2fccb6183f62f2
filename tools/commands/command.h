// A command of the program: options, a set-up that ties them to the command line, and a run. Each lives in its own file
// and has one line in the list of main.cc. A run prints nothing: what it has to say is in its Outcome.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "graph/base/result.h"

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}

namespace tidemark {

enum class ExitCode : int {
  kGood = 0,         // it fits, all well
  kDoesNotFit = 1,   // or a validation is out of tolerance
  kWrongInput = 2,   // usage, files
  kUnavailable = 3,  // the machine lacks something that was asked for
};

struct Outcome {
  ExitCode code = ExitCode::kGood;
  std::string output;              // for standard output
  std::vector<std::string> notes;  // for standard error, a line each; not printed with -q
};

using CommandRun = std::function<Result<Outcome>()>;

// Adds a command to the program. Where the command line names it, its run is put into *run.
using AddCommand = void (*)(CLI::App& app, CommandRun* run);

// Parses the command line, runs the command and prints its outcome, or the error and how to mend it. Returns the exit
// code. Nothing is thrown.
int RunCommandLine(int argc, const char* const* argv, std::span<const AddCommand> commands);

void AddSimulate(CLI::App& app, CommandRun* run);
void AddCompare(CLI::App& app, CommandRun* run);
void AddFit(CLI::App& app, CommandRun* run);
void AddSweep(CLI::App& app, CommandRun* run);
void AddExplain(CLI::App& app, CommandRun* run);
void AddReplay(CLI::App& app, CommandRun* run);
void AddList(CLI::App& app, CommandRun* run);
void AddRecord(CLI::App& app, CommandRun* run);
void AddValidate(CLI::App& app, CommandRun* run);

}  // namespace tidemark
