#include "tools/sweep/grid.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/config/document.h"
#include "tools/config/run_file.h"
#include "tools/config/suggest.h"
#include "tools/formats/files.h"

namespace tidemark {
namespace {

// A node as YAML in one line.
std::string InOneLine(const DocumentNode& node) {
  std::string text;
  switch (node.kind) {
    case DocumentNode::Kind::kNull:
      return "null";
    case DocumentNode::Kind::kScalar: {
      if (!node.quoted) return node.text;
      text = "'";
      for (const char c : node.text) text += c == '\'' ? "''" : std::string(1, c);
      return text + "'";
    }
    case DocumentNode::Kind::kList:
      for (const DocumentNode& item : node.items) text += (text.empty() ? "" : ", ") + InOneLine(item);
      return "[" + text + "]";
    case DocumentNode::Kind::kMap:
      for (const DocumentField& field : node.fields) {
        text += (text.empty() ? "" : ", ") + field.key + ": " + InOneLine(field.value);
      }
      return "{" + text + "}";
  }
  return text;
}

uint64_t HashOf(const std::string& text, uint64_t hash) {
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3U;
  return (hash ^ 0xffU) * 0x100000001b3U;
}

// What every point starts from.
struct Base {
  std::string name;  // in messages
  std::string text;  // of a configuration file
  DocumentNode run;  // else: a run file's content
  bool inside = false;

  Result<RunConfig> With(const std::vector<std::string>& overrides) const {
    if (!inside) {
      ASSIGN_OR_RETURN(LoadedRun loaded, ParseRun(text, name, overrides));
      return std::move(loaded.config);
    }
    DocumentNode changed = run;
    for (const std::string& override : overrides) RETURN_IF_ERROR(ApplyOverride(changed, override));
    return ReadRun(changed);
  }
};

Result<Base> ReadBase(const DocumentNode& root, const std::string& path) {
  const DocumentNode* node = FindField(root, "base");
  if (node == nullptr || (node->kind != DocumentNode::Kind::kScalar && node->kind != DocumentNode::Kind::kMap)) {
    return InvalidInput(fmt::format(
        "{}: base is missing: a configuration's path (beside this file), or a run file's content", root.place));
  }
  Base base;
  if (node->kind == DocumentNode::Kind::kMap) {
    base.run = *node;
    base.inside = true;
    base.text = InOneLine(*node);
    return base;
  }
  base.name = node->text;
  const size_t slash = path.rfind('/');
  if (!base.name.starts_with('/') && slash != std::string::npos) base.name = path.substr(0, slash + 1) + base.name;
  const Result<std::string> text = ReadFile(base.name);
  if (!text.ok()) return InvalidInput(fmt::format("{}: base: {}", node->place, text.error().message));
  base.text = *text;
  return base;
}

Status CheckKeys(const DocumentNode& root) {
  const std::vector<std::string> known = {"base", "grid"};
  for (const DocumentField& field : root.fields) {
    if (std::ranges::find(known, field.key) == known.end()) {
      return InvalidInput(
          fmt::format("{}: unknown key \"{}\"; {}", field.place, field.key, KnownWords(field.key, known)));
    }
  }
  return {};
}

Result<std::vector<DocumentField>> ReadDimensions(const DocumentNode& root) {
  const DocumentNode* node = FindField(root, "grid");
  if (node == nullptr || node->kind != DocumentNode::Kind::kMap || node->fields.empty()) {
    return InvalidInput(
        fmt::format("{}: grid is missing: keys and the values to try, as in training.micro_batch: [4, 8]", root.place));
  }
  size_t points = 1;
  for (const DocumentField& field : node->fields) {
    if (field.value.kind != DocumentNode::Kind::kList || field.value.items.empty()) {
      return InvalidInput(fmt::format("{}: grid.{} has to be a list of values, as in [4, 8]", field.place, field.key));
    }
    points *= field.value.items.size();
    if (points > kMostPoints) {
      return InvalidInput(fmt::format("{}: more than {} combinations", field.place, kMostPoints));
    }
  }
  return node->fields;
}

}  // namespace

Result<Grid> LoadGrid(const std::string& path, const std::vector<std::string>& overrides) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  ASSIGN_OR_RETURN(const DocumentNode root, ParseYaml(text, path));
  RETURN_IF_ERROR(CheckKeys(root));
  ASSIGN_OR_RETURN(const Base base, ReadBase(root, path));
  ASSIGN_OR_RETURN(const std::vector<DocumentField> dimensions, ReadDimensions(root));
  Grid grid;
  for (const DocumentField& dimension : dimensions) grid.keys.push_back(dimension.key);
  uint64_t common = HashOf(base.text, 0xcbf29ce484222325U);
  for (const std::string& override : overrides) common = HashOf(override, common);
  std::vector<size_t> at(dimensions.size());
  for (;;) {
    GridPoint point;
    std::vector<std::string> settings = overrides;
    uint64_t hash = common;
    for (size_t d = 0; d < dimensions.size(); ++d) {
      point.values.push_back(InOneLine(dimensions[d].value.items[at[d]]));
      settings.push_back(dimensions[d].key + "=" + point.values.back());
      hash = HashOf(settings.back(), hash);
    }
    Result<RunConfig> run = base.With(settings);
    if (!run.ok()) {
      return InvalidInput(fmt::format("{}: {}", dimensions.back().value.items[at.back()].place, run.error().message));
    }
    point.run = *std::move(run);
    point.fingerprint = fmt::format("{:016x}", hash);
    grid.points.push_back(std::move(point));
    size_t d = at.size();
    while (d > 0 && ++at[d - 1] == dimensions[d - 1].value.items.size()) at[--d] = 0;
    if (d == 0) return grid;
  }
}

}  // namespace tidemark
