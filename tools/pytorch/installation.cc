#include "tools/pytorch/installation.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <filesystem>
#include <sstream>

#include "tools/formats/files.h"
#include "tools/pytorch/embedded_python.h"

namespace tidemark {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kInstall = "tools/phantom/setup installs PyTorch and builds the phantom GPU (about 8 GB)";

// Each library of the phantom, in the order in which they have to be loaded.
constexpr std::array kLibraries = {"libcuda.so.1", "libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13",
                                   "libnvidia-ml.so.1"};
constexpr std::string_view kCudaMajor = "13.";

// Prints "tidemark", then the interpreter, the version of PyTorch, that of its CUDA, and how many devices CUDA's driver
// finds. PyTorch isn't imported, which takes seconds; its version.py is run alone.
constexpr const char* kProbe = R"python(
import ctypes, importlib.util, runpy, sys
spec = importlib.util.find_spec("torch")
if spec and spec.submodule_search_locations:
    version = runpy.run_path(spec.submodule_search_locations[0] + "/version.py")
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except OSError:
        pass
    print("tidemark", sys.executable, version["__version__"], version["cuda"] or "", count.value, sep="\n")
)python";

Error Unavailable(std::string message) { return {ErrorCode::kUnavailable, std::move(message)}; }

fs::path CacheFolder() { return fs::path(EnvironmentVariable("HOME")) / ".cache" / "tidemark"; }

fs::path SetupPython() {
  const std::string chosen = EnvironmentVariable("TIDEMARK_TORCH");
  return (chosen.empty() ? CacheFolder() / "torch" : fs::path(chosen)) / "bin" / "python";
}

// An empty version: this interpreter has no PyTorch, or there is no such interpreter.
PyTorch Probe(const std::string& python) {
  PyTorch torch;
  const Result<ChildResult> asked = RunChild({.command = {python, "-c", kProbe},
                                              .environment = {},
                                              .output = ChildOutput::kCollect,
                                              .error_file = "/dev/null"});
  if (!asked.ok() || asked->exit_code != 0) return torch;
  std::istringstream lines(asked->output);
  for (std::string line; line != "tidemark" && std::getline(lines, line);) {
  }
  std::string devices;
  std::getline(lines, torch.python);
  std::getline(lines, torch.version);
  std::getline(lines, torch.cuda);
  std::getline(lines, devices);
  std::from_chars(devices.data(), devices.data() + devices.size(), torch.devices);
  return torch;
}

bool HasLibraries(const fs::path& folder) {
  std::error_code error;
  for (const char* name : kLibraries) {
    if (!fs::exists(folder / name, error)) return false;
  }
  return true;
}

// "value:rest" where the variable has a value already.
std::string Prefixed(const std::string& value, const char* variable) {
  const std::string rest = EnvironmentVariable(variable);
  return rest.empty() ? value : value + ":" + rest;
}

}  // namespace

Result<PyTorch> FindPyTorch(const std::string& python) {
  const PyTorch asked = Probe(python);
  if (!asked.cuda.empty()) return asked;
  const fs::path setup = SetupPython();
  PyTorch installed = Probe(setup);
  if (!installed.cuda.empty()) {
    installed.from_setup = true;
    return installed;
  }
  const std::string found =
      asked.version.empty() ? "no PyTorch" : fmt::format("PyTorch {}, built without CUDA", asked.version);
  return Unavailable(fmt::format("{} has {}, and there is none in {}; {}", python, found,
                                 setup.parent_path().parent_path().string(), kInstall));
}

Result<std::string> FindPhantom(const PyTorch& torch) {
  if (!torch.cuda.starts_with(kCudaMajor)) {
    return Unavailable(fmt::format("{} has PyTorch {}, built with CUDA {}; the phantom GPU stands in for CUDA 13. {}",
                                   torch.python, torch.version, torch.cuda, kInstall));
  }
  const std::string chosen = EnvironmentVariable("TIDEMARK_PHANTOM");
  if (!chosen.empty()) {
    if (HasLibraries(chosen)) return fs::absolute(chosen).string();
    return Unavailable(fmt::format("TIDEMARK_PHANTOM={} has no libraries of the phantom GPU; {}", chosen, kInstall));
  }
  std::error_code error;
  const fs::path beside = fs::read_symlink("/proc/self/exe", error).parent_path() / "tools" / "phantom" / "lib";
  for (const fs::path& folder : {beside, CacheFolder() / "phantom" / "lib"}) {
    if (HasLibraries(folder)) return folder.string();
  }
  return Unavailable(fmt::format("the phantom GPU is not built; {}", kInstall));
}

Environment PhantomEnvironment(const DeviceSpec& device, Bytes overhead, const PhantomOptions& options) {
  std::string preload;
  for (const char* name : kLibraries)
    preload += fmt::format("{}{}/{}", preload.empty() ? "" : ":", options.libraries, name);
  Environment environment = {
      {"LD_PRELOAD", Prefixed(preload, "LD_PRELOAD")},
      {"LD_LIBRARY_PATH", Prefixed(options.libraries, "LD_LIBRARY_PATH")},
      {"TRITON_LIBCUDA_PATH", options.libraries},
      {"PYTHONPATH", Prefixed(options.python, "PYTHONPATH")},
      {"CUDA_VISIBLE_DEVICES", "0"},
      {"PHANTOM_QUIET", "1"},
      {"PHANTOM_DEVICE_NAME", device.name},
      {"PHANTOM_MEMORY_MIB", fmt::format("{}", device.memory.count() / kMiB.count())},
      {"PHANTOM_CONTEXT_MIB", fmt::format("{}", overhead.count() / kMiB.count())},
      {"PHANTOM_CC", fmt::format("{}", device.compute_capability)},
      {"PHANTOM_SM_COUNT", fmt::format("{}", device.multiprocessors)},
      {"TIDEMARK_RECORD", options.record},
  };
  // Turning C++ stacks into text with the default symbolizer takes minutes.
  if (EnvironmentVariable("TORCH_SYMBOLIZE_MODE").empty()) environment.emplace_back("TORCH_SYMBOLIZE_MODE", "fast");
  return environment;
}

Status WritePythonFiles(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  for (const EmbeddedPython& file : EmbeddedPythonFiles()) {
    RETURN_IF_ERROR(WriteFile((folder / file.name).string(), file.text));
  }
  return {};
}

}  // namespace tidemark
