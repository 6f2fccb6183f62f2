// Running other programs, and a folder for what they leave.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "graph/base/result.h"

namespace tidemark {

using Environment = std::vector<std::pair<std::string, std::string>>;  // variables and values

// The value of an environment variable; empty where there is none.
std::string EnvironmentVariable(const char* name);

enum class ChildOutput {
  kInherit,   // where this process's own goes
  kToStderr,  // standard output goes to standard error
  kDrop,      // standard output is dropped
  kCollect,   // standard output is returned
};

struct ChildProcess {
  std::vector<std::string> command;  // the first is a path, or a name to be looked for in PATH (that of `environment`)
  Environment environment;           // beside this process's, and wins over it
  ChildOutput output = ChildOutput::kInherit;
  std::string error_file;  // standard error goes there; empty: where this process's goes
};

struct ChildResult {
  int exit_code = 0;  // 128 + signal where a signal ended it
  int signal = 0;
  std::string output;  // kCollect
};

// Runs a program to its end. An interrupt from the terminal is left to the program; SIGTERM and SIGHUP are passed on to
// it. Errors (kInvalidInput): there is no such program, or it can't be started.
Result<ChildResult> RunChild(const ChildProcess& child);

// The path of a program, looked for in `search_path` ("/usr/bin:/bin") unless it has a slash. Empty: not found.
std::string FindProgram(const std::string& name, const std::string& search_path);

// A new folder that goes away, with what is in it, when this does.
class TemporaryFolder {
 public:
  static Result<TemporaryFolder> Create();
  TemporaryFolder(TemporaryFolder&& other) noexcept;
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder();

  const std::filesystem::path& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace tidemark
