#include "tools/pytorch/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>

extern char** environ;

namespace tidemark {
namespace {

// The child that a signal is passed on to; 0: none.
std::atomic<pid_t> g_child{0};

void PassOn(int signal) {
  if (const pid_t child = g_child.load()) kill(child, signal);
}

// While a child runs: what a terminal sends reaches the child by itself, other requests to end are passed on.
class SignalsForChild {
 public:
  explicit SignalsForChild(pid_t child) {
    g_child = child;
    for (size_t i = 0; i < kSignals.size(); ++i) {
      struct sigaction action {};
      const bool from_terminal = kSignals[i] == SIGINT || kSignals[i] == SIGQUIT;
      action.sa_handler = from_terminal ? SIG_IGN : PassOn;
      sigaction(kSignals[i], &action, &before_[i]);
    }
  }
  ~SignalsForChild() {
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
    g_child = 0;
  }
  SignalsForChild(const SignalsForChild&) = delete;
  SignalsForChild& operator=(const SignalsForChild&) = delete;

 private:
  static constexpr std::array kSignals = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
  std::array<struct sigaction, kSignals.size()> before_{};
};

std::vector<std::string> MergedEnvironment(const Environment& added) {
  std::map<std::string, std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string_view::npos) all[std::string(text.substr(0, equals))] = text.substr(equals + 1);
  }
  for (const auto& [name, value] : added) all[name] = value;
  std::vector<std::string> entries;
  entries.reserve(all.size());
  for (const auto& [name, value] : all) entries.push_back(name + "=" + value);
  return entries;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Where the child's output goes. `pipe_end` is the writing end of a pipe for kCollect.
class FileActions {
 public:
  FileActions(const ChildProcess& child, int pipe_end) {
    posix_spawn_file_actions_init(&actions_);
    if (!child.error_file.empty()) OpenForWriting(STDERR_FILENO, child.error_file.c_str());
    if (child.output == ChildOutput::kToStderr) {
      posix_spawn_file_actions_adddup2(&actions_, STDERR_FILENO, STDOUT_FILENO);
    }
    if (child.output == ChildOutput::kDrop) OpenForWriting(STDOUT_FILENO, "/dev/null");
    if (child.output == ChildOutput::kCollect) posix_spawn_file_actions_adddup2(&actions_, pipe_end, STDOUT_FILENO);
  }
  ~FileActions() { posix_spawn_file_actions_destroy(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  void OpenForWriting(int file, const char* path) {
    posix_spawn_file_actions_addopen(&actions_, file, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  }
  posix_spawn_file_actions_t actions_;
};

std::string ReadAll(int file) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t n = read(file, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    text.append(buffer.data(), static_cast<size_t>(n));
  }
}

ChildResult Wait(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  ChildResult result;
  result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  result.exit_code = result.signal != 0 ? 128 + result.signal : WEXITSTATUS(status);
  return result;
}

std::string SearchPath(const Environment& environment) {
  const auto set = std::ranges::find(environment, "PATH", &Environment::value_type::first);
  return set != environment.end() ? set->second : EnvironmentVariable("PATH");
}

}  // namespace

std::string EnvironmentVariable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string FindProgram(const std::string& name, const std::string& search_path) {
  if (name.find('/') != std::string::npos) return access(name.c_str(), X_OK) == 0 ? name : "";
  for (size_t begin = 0; begin <= search_path.size();) {
    const size_t end = std::min(search_path.find(':', begin), search_path.size());
    const std::string path = search_path.substr(begin, end - begin) + "/" + name;
    std::error_code error;
    if (access(path.c_str(), X_OK) == 0 && std::filesystem::is_regular_file(path, error)) return path;
    begin = end + 1;
  }
  return "";
}

Result<ChildResult> RunChild(const ChildProcess& child) {
  const std::string program = FindProgram(child.command.front(), SearchPath(child.environment));
  if (program.empty()) return InvalidInput(fmt::format("there is no program \"{}\"", child.command.front()));
  std::array<int, 2> ends = {-1, -1};
  if (child.output == ChildOutput::kCollect && pipe2(ends.data(), O_CLOEXEC) != 0) {
    return InvalidInput(fmt::format("no pipe: {}", std::strerror(errno)));
  }
  std::vector<std::string> words = child.command;
  std::vector<std::string> variables = MergedEnvironment(child.environment);
  const FileActions actions(child, ends[1]);
  pid_t pid = 0;
  const int error =
      posix_spawn(&pid, program.c_str(), actions.get(), nullptr, Pointers(words).data(), Pointers(variables).data());
  if (ends[1] >= 0) close(ends[1]);
  ChildResult result;
  if (error == 0) {
    const SignalsForChild signals(pid);
    std::string output = ends[0] >= 0 ? ReadAll(ends[0]) : "";
    result = Wait(pid);
    result.output = std::move(output);
  }
  if (ends[0] >= 0) close(ends[0]);
  if (error != 0) return InvalidInput(fmt::format("\"{}\" can't be run: {}", program, std::strerror(error)));
  return result;
}

Result<TemporaryFolder> TemporaryFolder::Create() {
  const std::string parent = EnvironmentVariable("TMPDIR");
  std::string path = (parent.empty() ? "/tmp" : parent) + "/tidemark-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) return InvalidInput(fmt::format("{}: {}", path, std::strerror(errno)));
  return TemporaryFolder(std::filesystem::path(path));
}

TemporaryFolder::TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  if (!path_.empty()) std::filesystem::remove_all(path_, error);
}

}  // namespace tidemark
