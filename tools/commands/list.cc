// tidemark list models|devices|passes|allocators|optimizers: what there is, a line each.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "passes/compile/compiled_graph.h"
#include "passes/pass.h"
#include "sim/allocator.h"
#include "tools/commands/command.h"
#include "tools/config/devices.h"
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

std::vector<Entry> Models() {
  std::vector<Entry> entries;
  for (const auto& [word, family] : kFamilyWords) {
    const bool nanogpt = family == Family::kGpt2;
    entries.push_back({std::string(word), nanogpt ? "implementations nanogpt (the default) and transformers"
                                                  : "implementation transformers"});
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
  return entries;
}

std::vector<Entry> Optimizers() {
  return {{"adamw", "implementation fused, foreach (the default) or for-loop; weight_decay"},
          {"adam", "implementation fused, foreach (the default) or for-loop; weight_decay"},
          {"sgd", "implementation fused, foreach (the default) or for-loop; momentum, weight_decay"},
          {"adafactor", "implementation foreach (the default) or for-loop; weight_decay"}};
}

Result<std::vector<Entry>> Entries(const std::string& kind) {
  if (kind == "models") return Models();
  if (kind == "devices") return Devices();
  if (kind == "passes") return PassEntries();
  if (kind == "allocators") return AllocatorEntries();
  return Optimizers();
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

void AddList(CLI::App& app, CommandRun* run) {
  auto options = std::make_shared<ListOptions>();
  CLI::App* command = app.add_subcommand("list", "what there is: models, devices, passes, allocators, optimizers");
  command->add_option("KIND", options->kind, "models, devices, passes, allocators or optimizers")
      ->required()
      ->check(CLI::IsMember({"models", "devices", "passes", "allocators", "optimizers"}));
  command->add_flag("--json", options->json, "as JSON");
  command->callback([options, run] { *run = [options] { return RunList(*options); }; });
}

}  // namespace tidemark
