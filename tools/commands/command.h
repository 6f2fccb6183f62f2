// A command of the program: options, a set-up that ties them to the command line, and a run. Each lives in its own file
// and has one line in the list of main.cc. A run prints nothing: what it has to say is in its Outcome.
#pragma once

#include <functional>
#include <optional>
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

// What a command says of one of its options besides its name and its meaning.
struct OptionDetails {
  std::optional<std::string> value = {};  // what stands for its value in the help: "FILE.json"; else its type's name
  std::vector<std::string> allowed = {};  // the words that are understood; empty: any
  bool required = false;
  int most = 0;  // values of one that takes several words in a row; 0: any number
};

// A command's own part of the command line. Names as in "-v,--verbose"; one without a dash stands by its place. What
// the words say is put into the variables given, which must live until the command has run. Only command_line.cc knows
// the library behind this.
class Command {
 public:
  explicit Command(CLI::App& app) : app_(app) {}
  void Flag(const std::string& names, bool& value, const std::string& help);
  void Option(const std::string& names, std::string& value, const std::string& help, const OptionDetails& details = {});
  void Option(const std::string& names, unsigned& value, const std::string& help, const OptionDetails& details = {});
  void Option(const std::string& names, std::optional<double>& value, const std::string& help,
              const OptionDetails& details = {});
  // One that may be given often, with a word each time; where it stands by its place, the rest of the words.
  void Option(const std::string& names, std::vector<std::string>& values, const std::string& help,
              const OptionDetails& details = {});

 private:
  CLI::App& app_;
};

class CommandLine {
 public:
  // Where the words name a command, what it runs is put into *run.
  CommandLine(CLI::App& app, CommandRun* run) : app_(app), run_(run) {}
  Command Add(const std::string& name, const std::string& help, CommandRun run);

 private:
  CLI::App& app_;
  CommandRun* run_;
};

using AddCommand = void (*)(CommandLine& line);

// Parses the command line, runs the command and prints its outcome, or the error and how to mend it. Returns the exit
// code. Nothing is thrown.
int RunCommandLine(int argc, const char* const* argv, std::span<const AddCommand> commands);

void AddSimulate(CommandLine& line);
void AddCompare(CommandLine& line);
void AddFit(CommandLine& line);
void AddSweep(CommandLine& line);
void AddExplain(CommandLine& line);
void AddReplay(CommandLine& line);
void AddList(CommandLine& line);
void AddRecord(CommandLine& line);
void AddValidate(CommandLine& line);

}  // namespace tidemark
