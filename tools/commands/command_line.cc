#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <utility>

#include "tools/commands/command.h"
#include "tools/config/suggest.h"

#ifndef TIDEMARK_VERSION
#define TIDEMARK_VERSION "unknown"
#endif

namespace tidemark {
namespace {

// The length of the UTF-8 sequence at the beginning of `text`; 0 where there is none.
size_t Utf8Length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  const size_t length = lead < 0x80                   ? 1
                        : lead >= 0xc2 && lead < 0xe0 ? 2
                        : lead >= 0xe0 && lead < 0xf0 ? 3
                        : lead >= 0xf0 && lead < 0xf5 ? 4
                                                      : 0;
  if (length == 0 || text.size() < length) return 0;
  const auto continues = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; };
  return std::ranges::all_of(text.substr(1, length - 1), continues) ? length : 0;
}

// A message may quote anything from a file: one printable line, whatever that was.
std::string Printable(std::string_view text) {
  constexpr size_t kLongest = 4000;
  std::string line;
  while (!text.empty() && line.size() < kLongest) {
    const size_t length = Utf8Length(text);
    const auto byte = static_cast<unsigned char>(text.front());
    if (length == 0 || byte < 0x20 || byte == 0x7f) {
      line += fmt::format("\\x{:02x}", byte);
      text.remove_prefix(1);
    } else {
      line += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return text.empty() ? line : line + " …";
}

void PrintError(const std::string& message) { fmt::print(stderr, "error: {}\n", Printable(message)); }

// The command that argv names, if any: errors and suggestions are about it.
CLI::App& ChosenCommand(CLI::App& app) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  return chosen.empty() ? app : *chosen.front();
}

std::vector<std::string> LongNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

// What was wrong with the command line, with the nearest thing that would have been right.
std::string DescribeUsageError(CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& words) {
  CLI::App& command = ChosenCommand(app);
  if (command.get_name() == app.get_name()) {
    std::vector<std::string> names;
    for (const CLI::App* subcommand : app.get_subcommands({})) names.push_back(subcommand->get_name());
    const auto word = std::ranges::find_if(words, [](const std::string& w) { return !w.starts_with('-'); });
    if (word == words.end()) return "a command is missing; known: " + fmt::format("{}", fmt::join(names, ", "));
    return fmt::format("unknown command \"{}\"; {}", *word, KnownWords(*word, names));
  }
  const std::vector<std::string> options = LongNames(command);
  for (const std::string& word : words) {
    const std::string name = word.substr(0, word.find('='));
    if (!name.starts_with("--") || name == "--" || std::ranges::find(options, name) != options.end()) continue;
    return fmt::format("{}: unknown option \"{}\"; {}", command.get_name(), name, KnownWords(name, options));
  }
  return fmt::format("{}: {} (tidemark {} --help says more)", command.get_name(), error.what(), command.get_name());
}

// Standard output may be a full disk or a closed pipe.
bool PrintOutput(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (!written) PrintError(fmt::format("standard output can't be written: {}", std::strerror(errno)));
  return written;
}

int Finish(const Result<Outcome>& result, bool quiet) {
  if (!result.ok()) {
    PrintError(result.error().message);
    const bool unavailable = result.error().code == ErrorCode::kUnavailable;
    return static_cast<int>(unavailable ? ExitCode::kUnavailable : ExitCode::kWrongInput);
  }
  if (!quiet) {
    for (const std::string& note : result->notes) fmt::print(stderr, "note: {}\n", note);
  }
  if (!PrintOutput(result->output)) return static_cast<int>(ExitCode::kWrongInput);
  return static_cast<int>(result->code);
}

void AddDetails(CLI::Option& option, const OptionDetails& details) {
  if (details.value) option.type_name(*details.value);
  if (!details.allowed.empty()) option.check(CLI::IsMember(details.allowed));
  if (details.required) option.required();
}

}  // namespace

void Command::Flag(const std::string& names, bool& value, const std::string& help) {
  app_.add_flag(names, value, help);
}

void Command::Option(const std::string& names, std::string& value, const std::string& help,
                     const OptionDetails& details) {
  AddDetails(*app_.add_option(names, value, help), details);
}

void Command::Option(const std::string& names, unsigned& value, const std::string& help, const OptionDetails& details) {
  AddDetails(*app_.add_option(names, value, help), details);
}

void Command::Option(const std::string& names, std::optional<double>& value, const std::string& help,
                     const OptionDetails& details) {
  AddDetails(*app_.add_option(names, value, help), details);
}

void Command::Option(const std::string& names, std::vector<std::string>& values, const std::string& help,
                     const OptionDetails& details) {
  CLI::Option& option = *app_.add_option(names, values, help);
  AddDetails(option, details);
  if (names.starts_with('-')) option.allow_extra_args(false);
  if (details.most > 0) option.expected(1, details.most);
}

Command CommandLine::Add(const std::string& name, const std::string& help, CommandRun run) {
  CLI::App& command = *app_.add_subcommand(name, help);
  command.callback([run = std::move(run), chosen = run_] { *chosen = run; });
  return Command(command);
}

int RunCommandLine(int argc, const char* const* argv, std::span<const AddCommand> commands) {
  CLI::App app("How much GPU memory a training run takes, when, why, and what would change it.", "tidemark");
  app.set_version_flag("--version", "tidemark " TIDEMARK_VERSION);
  app.require_subcommand(1);
  app.footer("For example: tidemark simulate configs/runs/nanogpt-tiny.yaml");
  bool quiet = false;
  CommandRun run;
  CommandLine line(app, &run);
  for (const AddCommand add : commands) add(line);
  for (CLI::App* command : app.get_subcommands({})) {
    command->add_flag("-q,--quiet", quiet, "no notes on standard error");
  }
  const std::vector<std::string> words(argv + 1, argv + argc);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success))
      return app.exit(error);  // --help, --version
    PrintError(DescribeUsageError(app, error, words));
    return static_cast<int>(ExitCode::kWrongInput);
  }
  try {
    return Finish(run(), quiet);
  } catch (const std::bad_alloc&) {
    PrintError("this machine's own memory is too small for this run");
    return static_cast<int>(ExitCode::kUnavailable);
  }
}

}  // namespace tidemark
