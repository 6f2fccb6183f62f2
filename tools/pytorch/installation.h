// The PyTorch that is installed here, and the phantom GPU that it can run on (tools/phantom). Nothing is ever
// installed: what is missing is an error that names the command which installs it.
#pragma once

#include <string>
#include <vector>

#include "graph/base/result.h"
#include "graph/device.h"
#include "tools/pytorch/process.h"

namespace tidemark {

struct PyTorch {
  std::string python;       // the interpreter that has it
  std::string version;      // "2.14.1+cu130"
  std::string cuda;         // "13.0"; empty: built without CUDA
  int devices = 0;          // real GPUs that CUDA's driver finds here
  bool from_setup = false;  // it is the one of tools/phantom/setup, though another interpreter was asked first
  bool operator==(const PyTorch&) const = default;
};

// A PyTorch built with CUDA: that of `python` (a path or a name in PATH), or the one which tools/phantom/setup installs
// ($TIDEMARK_TORCH, default ~/.cache/tidemark/torch). Error (kUnavailable): neither has one.
Result<PyTorch> FindPyTorch(const std::string& python);

// The folder of the phantom's libraries: $TIDEMARK_PHANTOM, or beside this program, or where setup builds them. Error
// (kUnavailable): they are nowhere, or `torch` is built with a CUDA that they don't stand in for.
Result<std::string> FindPhantom(const PyTorch& torch);

struct PhantomOptions {
  std::string libraries;  // the folder
  std::string python;     // the folder with the files of tools/phantom/python
  std::string record;     // a folder that recordings go to; empty: nothing is recorded
};

// The environment in which a program finds the phantom: a device as `device` says, of whose memory a context takes
// `overhead`.
Environment PhantomEnvironment(const DeviceSpec& device, Bytes overhead, const PhantomOptions& options);

// Writes the files of tools/phantom/python into a folder.
Status WritePythonFiles(const std::filesystem::path& folder);

}  // namespace tidemark
