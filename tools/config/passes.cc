#include "tools/config/passes.h"

#include <fmt/format.h>

#include <array>
#include <optional>

#include "graph/op.h"
#include "graph/run_program.h"
#include "passes/pass.h"
#include "tools/config/map_reader.h"
#include "tools/config/size.h"
#include "tools/config/suggest.h"
#include "tools/config/words.h"

namespace tidemark {
namespace {

// An option that only one policy has.
Status CheckPolicy(const MapReader& reader, const char* key, bool belongs, const char* policy) {
  if (!reader.Has(key) || belongs) return {};
  return InvalidInput(fmt::format("{}: {} belongs to policy {}", reader.place(), reader.PathOf(key), policy));
}

std::string NearestOp(const std::string& name) {
  std::vector<std::string> names;
  for (int kind = 0; kind < kOpKinds; ++kind) {
    const std::string_view full = InfoOf(static_cast<OpKind>(kind)).name;
    names.emplace_back(full.substr(full.rfind(':') + 1));
  }
  const std::string nearest = Nearest(name, names);
  return nearest.empty() ? "; PyTorch's names are meant, as in gelu" : "; nearest: " + nearest;
}

Result<PassConfig> ReadRecompute(const DocumentNode& node) {
  RecomputePass pass;
  MapReader reader(node, "passes.recompute");
  reader.Word("policy", &pass.policy, Words<RecomputePolicy>(kRecomputePolicyWords));
  reader.Bool("reentrant", &pass.reentrant);
  reader.Integer("blocks", &pass.blocks, {});
  const DocumentNode* ops = reader.Take("ops");
  reader.Size("budget", &pass.budget, kUnitRequired);
  RETURN_IF_ERROR(reader.Finish());
  RETURN_IF_ERROR(CheckPolicy(reader, "reentrant", pass.policy == RecomputePolicy::kFull, "full"));
  RETURN_IF_ERROR(CheckPolicy(reader, "blocks", pass.policy == RecomputePolicy::kEveryN, "every-n"));
  RETURN_IF_ERROR(CheckPolicy(reader, "ops", pass.policy == RecomputePolicy::kSelective, "selective"));
  RETURN_IF_ERROR(CheckPolicy(reader, "budget", pass.policy == RecomputePolicy::kBudget, "budget"));
  if (pass.policy == RecomputePolicy::kBudget && !reader.Has("budget")) {
    return InvalidInput(fmt::format("{}: passes.recompute.budget is missing, as in budget: 6GiB", reader.place()));
  }
  if (pass.policy != RecomputePolicy::kSelective) return PassConfig(pass);
  if (ops == nullptr || ops->kind != DocumentNode::Kind::kList || ops->items.empty()) {
    return InvalidInput(fmt::format("{}: passes.recompute.ops has to be a list of ops, as in [gelu, native_layer_norm]",
                                    reader.place()));
  }
  for (const DocumentNode& item : ops->items) {
    if (KindsNamed(item.text).empty()) {
      return InvalidInput(fmt::format("{}: unknown op \"{}\"{}", item.place, item.text, NearestOp(item.text)));
    }
    pass.ops.push_back(item.text);
  }
  return PassConfig(pass);
}

Result<PassConfig> ReadAccumulate(const DocumentNode& node) {
  AccumulatePass pass;
  MapReader reader(node, "passes.accumulate");
  reader.Integer("parts", &pass.parts, {});
  RETURN_IF_ERROR(reader.Finish());
  return PassConfig(pass);
}

// In the order of PassConfig.
using ReadPass = Result<PassConfig> (*)(const DocumentNode& node);
constexpr std::array<ReadPass, std::variant_size_v<PassConfig>> kReaders = {&ReadRecompute, &ReadAccumulate};

Result<PassConfig> ReadOne(const DocumentField& field) {
  std::vector<std::string> names;
  for (const PassInfo& info : Passes()) {
    if (info.name == field.key) return kReaders[names.size()](field.value);
    names.emplace_back(info.name);
  }
  return InvalidInput(fmt::format("{}: unknown pass \"{}\"; {}", field.place, field.key, KnownWords(field.key, names)));
}

}  // namespace

Result<std::vector<PassConfig>> ReadPasses(const DocumentNode& node) {
  std::vector<PassConfig> passes;
  if (node.kind == DocumentNode::Kind::kNull) return passes;
  if (node.kind == DocumentNode::Kind::kScalar) {
    return InvalidInput(
        fmt::format("{}: passes has to be a list, as in [{{recompute: {{policy: full}}}}]", node.place));
  }
  const std::vector<DocumentNode> map = {node};
  for (const DocumentNode& entry : node.kind == DocumentNode::Kind::kMap ? map : node.items) {
    if (entry.fields.empty()) return InvalidInput(fmt::format("{}: this entry of passes names no pass", entry.place));
    for (const DocumentField& field : entry.fields) {
      ASSIGN_OR_RETURN(PassConfig pass, ReadOne(field));
      passes.push_back(std::move(pass));
    }
  }
  RunConfig probe;
  probe.passes = passes;
  for (PassConfig& pass : probe.passes) {
    if (auto* accumulate = std::get_if<AccumulatePass>(&pass)) accumulate->parts = 1;  // the batch isn't known here
  }
  if (const Result<RunConfig> resolved = ResolveProgram(probe); !resolved.ok()) {
    return InvalidInput(fmt::format("{}: {}", node.place, resolved.error().message));
  }
  return passes;
}

}  // namespace tidemark
