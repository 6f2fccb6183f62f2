#include "tools/config/devices.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "tools/config/embedded_devices.h"
#include "tools/config/map_reader.h"
#include "tools/config/suggest.h"
#include "tools/formats/files.h"

namespace tidemark {
namespace {

namespace fs = std::filesystem;

std::string UserFolder() {
  const char* folder = std::getenv("TIDEMARK_DEVICES");
  return folder == nullptr ? "" : folder;
}

// The file of that name in the user's folder; empty where there is none.
std::string UserFile(const std::string& name) {
  const std::string folder = UserFolder();
  if (folder.empty() || name.find('/') != std::string::npos) return "";
  std::string path = folder + "/" + name + ".yaml";
  std::error_code error;
  return fs::is_regular_file(path, error) ? path : "";
}

// Threads that a multiprocessor holds at once, by compute capability (CUDA programming guide, table of features).
int ThreadsPerMultiprocessor(int capability) {
  if (capability == 75) return 1024;
  if (capability == 86 || capability == 87 || capability == 89 || capability >= 120) return 1536;
  return 2048;
}

// "8.9", "89", "12.0" -> 89, 89, 120.
Result<int> ReadCapability(const DocumentNode& node, const std::string& path) {
  std::string digits = node.text;
  if (const size_t dot = digits.find('.'); dot != std::string::npos && digits.size() == dot + 2) digits.erase(dot, 1);
  const bool number =
      !digits.empty() && digits.size() <= 3 && digits.find_first_not_of("0123456789") == std::string::npos;
  const int capability = number ? std::atoi(digits.c_str()) : 0;
  if (node.kind != DocumentNode::Kind::kScalar || capability < 50) {
    return InvalidInput(fmt::format("{}: {} is \"{}\"; it has to be a compute capability from 5.0 on, as in 8.9",
                                    node.place, path, node.text));
  }
  return capability;
}

Result<Estimate> ReadOverhead(const DocumentNode& node) {
  Estimate overhead;
  if (node.kind != DocumentNode::Kind::kMap) {
    ASSIGN_OR_RETURN(overhead.value, ReadSize(node, "device.overhead", kMiB));
    return overhead;
  }
  MapReader reader(node, "device.overhead");
  reader.Size("value", &overhead.value, kMiB);
  reader.Size("below", &overhead.below, kMiB);
  reader.Size("above", &overhead.above, kMiB);
  reader.Require("value");
  RETURN_IF_ERROR(reader.Finish());
  return overhead;
}

// Fields that `reader` has are read into `spec`; `known` says that the others have values already.
Status ReadFields(MapReader& reader, bool known, DeviceSpec& spec) {
  constexpr int64_t kMany = 100'000;
  int64_t multiprocessors = spec.multiprocessors;
  int64_t threads = 0;
  reader.Text("name", &spec.name);
  reader.Size("memory", &spec.memory, kMiB);
  reader.Integer("multiprocessors", &multiprocessors, {.min = 1, .max = kMany});
  reader.Integer("threads_per_multiprocessor", &threads, {.min = 1, .max = kMany});
  reader.Size("l2_cache", &spec.l2_cache, kMiB);
  reader.Number("memory_bandwidth", &spec.memory_bandwidth, {});
  reader.Number("peak_flops_fp32", &spec.peak_flops_fp32, {});
  reader.Number("peak_flops_tf32", &spec.peak_flops_tf32, {});
  reader.Number("peak_flops_half", &spec.peak_flops_half, {});
  const DocumentNode* capability = reader.Take("compute_capability");
  const DocumentNode* overhead = reader.Take("overhead");
  if (!known) {
    for (const char* key : {"name", "memory", "compute_capability", "multiprocessors"}) reader.Require(key);
  }
  RETURN_IF_ERROR(reader.Finish());
  if (capability != nullptr) {
    ASSIGN_OR_RETURN(spec.compute_capability, ReadCapability(*capability, reader.PathOf("compute_capability")));
  }
  spec.multiprocessors = static_cast<int>(multiprocessors);
  if (threads == 0 && !known) threads = ThreadsPerMultiprocessor(spec.compute_capability);
  if (threads != 0) spec.threads_per_multiprocessor = static_cast<int>(threads);
  if (overhead != nullptr) {
    ASSIGN_OR_RETURN(spec.overhead, ReadOverhead(*overhead));
  } else if (!known) {
    spec.overhead = EstimateOverhead(spec.multiprocessors, spec.threads_per_multiprocessor);
  }
  if (spec.memory < kMiB) {
    return InvalidInput(fmt::format("{}: device.memory has to be at least 1MiB", reader.place()));
  }
  return {};
}

Result<DeviceSpec> ParseDevice(std::string_view text, const std::string& name) {
  ASSIGN_OR_RETURN(const DocumentNode node, ParseYaml(text, name));
  MapReader reader(node, "device");
  DeviceSpec spec;
  RETURN_IF_ERROR(ReadFields(reader, false, spec));
  return spec;
}

}  // namespace

std::vector<std::string> DeviceNames() {
  std::vector<std::string> names;
  for (const EmbeddedDevice& device : EmbeddedDevices()) names.emplace_back(device.name);
  std::error_code error;
  if (const std::string folder = UserFolder(); !folder.empty()) {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
      if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem().string());
    }
  }
  std::ranges::sort(names);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

Result<DeviceSpec> FindDevice(const std::string& name, const std::string& place) {
  if (const std::string path = UserFile(name); !path.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    return ParseDevice(text, path);
  }
  for (const EmbeddedDevice& device : EmbeddedDevices()) {
    if (name == device.name) return ParseDevice(device.text, fmt::format("configs/devices/{}.yaml", name));
  }
  return InvalidInput(fmt::format("{}: unknown device \"{}\"; {}", place, name, KnownWords(name, DeviceNames())));
}

Result<DeviceSpec> ReadDevice(const DocumentNode& node) {
  if (node.kind == DocumentNode::Kind::kScalar) return FindDevice(node.text, node.place);
  MapReader reader(node, "device");
  DeviceSpec spec;
  const DocumentNode* name = FindField(node, "name");
  const std::vector<std::string> names = DeviceNames();
  const bool known = name != nullptr && std::ranges::find(names, name->text) != names.end();
  if (known) {
    ASSIGN_OR_RETURN(spec, FindDevice(name->text, name->place));
  }
  const std::string full_name = spec.name;
  RETURN_IF_ERROR(ReadFields(reader, known, spec));
  if (known) spec.name = full_name;
  return spec;
}

// [1] A least-squares fit over 48 published figures of 16 devices (PyTorch from 2.1 on, modules loaded lazily): what
// counts is the number of resident threads. Nine in ten of them lie within 63 MiB; the long tail is upwards, hence 100
// MiB.
Estimate EstimateOverhead(int multiprocessors, int threads_per_multiprocessor) {
  const double mib = 45 + 2.18 * multiprocessors * threads_per_multiprocessor / 1024;
  return {.value = kMiB * std::llround(mib), .below = kMiB * 63, .above = kMiB * 100};
}

}  // namespace tidemark
