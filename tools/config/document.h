// A configuration text (YAML, and with it JSON) as a tree whose every node knows where it stands, so that whoever reads
// it can say `runs/a.yaml:7: …`. The only file that sees yaml-cpp is document.cc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "graph/base/result.h"

namespace tidemark {

struct DocumentField;

struct DocumentNode {
  enum class Kind : uint8_t { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  bool quoted = false;                // a scalar in quotes is text, whatever it looks like
  std::string text;                   // of a scalar
  std::string place;                  // "runs/a.yaml:7", or "--set training.steps=x"
  std::vector<DocumentNode> items;    // of a list
  std::vector<DocumentField> fields;  // of a map, in the order of the text; keys are unique
};

struct DocumentField {
  std::string key;
  std::string place;  // of the key
  DocumentNode value;
};

// The value of `key` in a map; null where there is none (or `map` isn't a map).
const DocumentNode* FindField(const DocumentNode& map, std::string_view key);

// For importers, which write a run file's tree: a scalar, an empty map, and `map`[`key`] = `value` (of a new key).
DocumentNode MakeScalar(std::string text, std::string place);
DocumentNode MakeMap(std::string place);
void AddField(DocumentNode& map, std::string key, DocumentNode value);

// Parses one YAML document. `name` stands for the text in places and messages. Anchors and aliases are understood
// within reason (a document may not unfold to more than 100,000 nodes); tags are ignored.
Result<DocumentNode> ParseYaml(std::string_view text, const std::string& name);

// Carries out `--set a.b.c=VALUE` on the tree: VALUE is YAML, missing maps are made, a number steps into a list, and a
// name to the entry that has it (passes.recompute.policy), made where there is none.
// Whether the key means anything is found out by whoever reads the tree.
Status ApplyOverride(DocumentNode& root, const std::string& assignment);

}  // namespace tidemark
