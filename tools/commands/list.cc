// tidemark list models|devices|passes|allocators|optimizers: what there is, a line each.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "graph/model.h"
#include "graph/training/optimizer.h"
#include "passes/compile/compiled_graph.h"
#include "passes/pass.h"
#include "sim/allocator.h"
#include "tools/commands/command.h"
#include "tools/config/devices.h"
#include "tools/config/run_file.h"
#include "tools/config/size.h"
#include "tools/config/words.h"

namespace tidemark {
namespace {

struct ListOptions {
  std::string kind;
  bool json = false;
};

struct Entry {
  std::string name;
  std::string description;
};

// 124439808 as "124,439,808".
std::string WithCommas(int64_t number) {
  constexpr size_t kGroup = 3;
  std::string text = fmt::format("{}", number);
  for (size_t i = text.size(); i > kGroup; i -= kGroup) text.insert(i - kGroup, 1, ',');
  return text;
}

// Of the model that the family's configuration class describes by itself.
Result<int64_t> DefaultParameters(std::string_view family) {
  ASSIGN_OR_RETURN(const LoadedRun run, ParseRun(fmt::format("{{\"model_type\": \"{}\"}}", family), "config.json", {}));
  return CountParameters(run.config);
}

Result<std::vector<Entry>> Models() {
  std::vector<Entry> entries;
  for (const ModelInfo& model : tidemark::Models()) {
    if (model.implementation == Implementation::kNanogpt) continue;  // the family's other entry names it
    ASSIGN_OR_RETURN(const int64_t parameters, DefaultParameters(model.name));
    const char* implementations = model.family == Family::kGpt2
                                      ? "implementations nanogpt (the default) and transformers"
                                      : "implementation transformers";
    entries.push_back(
        {std::string(model.name), fmt::format("{}; {}; {} parameters where a config.json says nothing else",
                                              model.description, implementations, WithCommas(parameters))});
  }
  return entries;
}

Result<std::vector<Entry>> Devices() {
  std::vector<Entry> entries;
  for (const std::string& name : DeviceNames()) {
    ASSIGN_OR_RETURN(const DeviceSpec device, FindDevice(name, "configs/devices"));
    entries.push_back(
        {name, fmt::format("{}: {:.0f} MiB, compute capability {}.{}, {} multiprocessors, overhead {:.0f} MiB",
                           device.name, device.memory / kMiB, device.compute_capability / 10,
                           device.compute_capability % 10, device.multiprocessors, device.overhead.value / kMiB)});
  }
  return entries;
}

std::vector<Entry> PassEntries() {
  std::vector<Entry> entries;
  for (const PassInfo& pass : Passes()) {
    entries.push_back({std::string(pass.name), fmt::format("{}: {}; stands {}; costs {}", pass.options,
                                                           pass.description, pass.place, pass.cost)});
  }
  for (const std::string_view stage : compile::Stages()) {
    entries.push_back(
        {std::string(stage), "a stage of the compiler, for --print-after where training.compile is true"});
  }
  return entries;
}

std::vector<Entry> AllocatorEntries() {
  std::vector<Entry> entries;
  for (const AllocatorInfo& info : Allocators())
    entries.push_back({std::string(info.name), std::string(info.description)});
  for (const FrameworkInfo& info : AllocatorFrameworks()) {
    entries.push_back({std::string(info.name), fmt::format("--framework of native: {}", info.description)});
  }
  return entries;
}

std::vector<Entry> OptimizerEntries() {
  std::vector<Entry> entries;
  for (const OptimizerInfo& info : Optimizers()) {
    entries.push_back({std::string(info.name),
                       fmt::format("{}; implementation {}foreach or for-loop (default: {}); {}", info.description,
                                   info.has_fused ? "fused, " : "",
                                   info.kind == OptimizerKind::kAdafactor ? "for-loop" : "foreach", info.options)});
  }
  return entries;
}

Result<std::vector<Entry>> Entries(const std::string& kind) {
  if (kind == "models") return Models();
  if (kind == "devices") return Devices();
  if (kind == "passes") return PassEntries();
  if (kind == "allocators") return AllocatorEntries();
  return OptimizerEntries();
}

Result<Outcome> RunList(const ListOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<Entry> entries, Entries(options.kind));
  Outcome outcome;
  if (options.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Entry& entry : entries) list.push_back({{"name", entry.name}, {"description", entry.description}});
    outcome.output = list.dump(1) + "\n";
    return outcome;
  }
  size_t width = 0;
  for (const Entry& entry : entries) width = std::max(width, entry.name.size());
  for (const Entry& entry : entries)
    outcome.output += fmt::format("{:<{}}  {}\n", entry.name, width, entry.description);
  return outcome;
}

}  // namespace

void AddList(CommandLine& line) {
  auto options = std::make_shared<ListOptions>();
  Command command = line.Add("list", "what there is: models, devices, passes, allocators, optimizers",
                             [options] { return RunList(*options); });
  command.Option("KIND", options->kind, "models, devices, passes, allocators or optimizers",
                 {.allowed = {"models", "devices", "passes", "allocators", "optimizers"}, .required = true});
  command.Flag("--json", options->json, "as JSON");
}

}  // namespace tidemark
