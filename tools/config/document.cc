#include "tools/config/document.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <sstream>

namespace tidemark {
namespace {

constexpr size_t kMaxNodes = 100'000;

// Thrown and caught within this file: yaml-cpp's handlers have no other way to stop.
struct Stop {
  std::string message;
};

// Builds the tree from the parser's events. `open_` are the collections that haven't ended, outermost first.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(const std::string& name) : name_(name) {}

  DocumentNode Take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { Add(NewNode(mark), anchor); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto known = anchors_.find(anchor);
    if (known == anchors_.end()) throw Stop{Place(mark) + ": an alias stands inside its own anchor"};
    DocumentNode copy = known->second;
    count_ += CountNodes(copy);
    CheckCount(mark);
    Add(std::move(copy), 0);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    DocumentNode node = NewNode(mark);
    node.quoted = tag == "!";
    const bool null = !node.quoted && (value == "~" || value == "null" || value.empty());
    node.kind = null ? DocumentNode::Kind::kNull : DocumentNode::Kind::kScalar;
    node.text = value;
    Add(std::move(node), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, DocumentNode::Kind::kList, anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(mark, DocumentNode::Kind::kMap, anchor);
  }
  void OnMapEnd() override { Close(); }

 private:
  struct OpenNode {
    DocumentNode node;
    YAML::anchor_t anchor = 0;
    bool has_key = false;
    std::string key;
    std::string key_place;
  };

  std::string Place(const YAML::Mark& mark) const { return fmt::format("{}:{}", name_, mark.line + 1); }

  static size_t CountNodes(const DocumentNode& node) {
    size_t count = 1;
    for (const DocumentNode& item : node.items) count += CountNodes(item);
    for (const DocumentField& field : node.fields) count += CountNodes(field.value);
    return count;
  }

  void CheckCount(const YAML::Mark& mark) const {
    if (count_ > kMaxNodes) throw Stop{fmt::format("{}: more than {} values", Place(mark), kMaxNodes)};
  }

  DocumentNode NewNode(const YAML::Mark& mark) {
    ++count_;
    CheckCount(mark);
    DocumentNode node;
    node.place = Place(mark);
    return node;
  }

  void Open(const YAML::Mark& mark, DocumentNode::Kind kind, YAML::anchor_t anchor) {
    OpenNode open;
    open.node = NewNode(mark);
    open.node.kind = kind;
    open.anchor = anchor;
    open_.push_back(std::move(open));
  }

  void Close() {
    OpenNode done = std::move(open_.back());
    open_.pop_back();
    Add(std::move(done.node), done.anchor);
  }

  // Puts a finished node where it belongs: it is the root, an item, a key or the value of the key before.
  void Add(DocumentNode node, YAML::anchor_t anchor) {
    if (anchor != 0) anchors_[anchor] = node;
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    OpenNode& parent = open_.back();
    if (parent.node.kind == DocumentNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      if (node.kind != DocumentNode::Kind::kScalar) throw Stop{node.place + ": a key has to be a word"};
      if (FindField(parent.node, node.text) != nullptr) {
        throw Stop{fmt::format("{}: key \"{}\" stands here twice", node.place, node.text)};
      }
      parent.has_key = true;
      parent.key = node.text;
      parent.key_place = node.place;
    } else {
      parent.node.fields.push_back({std::move(parent.key), std::move(parent.key_place), std::move(node)});
      parent.has_key = false;
    }
  }

  const std::string& name_;
  DocumentNode root_;
  std::vector<OpenNode> open_;
  std::map<YAML::anchor_t, DocumentNode> anchors_;
  size_t count_ = 0;
};

void SetPlaces(DocumentNode& node, const std::string& place) {
  node.place = place;
  for (DocumentNode& item : node.items) SetPlaces(item, place);
  for (DocumentField& field : node.fields) {
    field.place = place;
    SetPlaces(field.value, place);
  }
}

// In a list of maps, as `passes` is one: the value of the first that has the key, or of a new one at the end.
DocumentNode* StepByName(DocumentNode& list, const std::string& word, const std::string& place) {
  for (DocumentNode& item : list.items) {
    if (item.kind != DocumentNode::Kind::kMap) return nullptr;
    for (DocumentField& field : item.fields) {
      if (field.key == word) return &field.value;
    }
  }
  DocumentNode value;
  value.place = place;
  list.items.push_back(MakeMap(place));
  AddField(list.items.back(), word, std::move(value));
  return &list.items.back().fields.back().value;
}

// The child of `node` that `word` names, made where a map lacks it; null where the word can't name one.
DocumentNode* Step(DocumentNode& node, const std::string& word, const std::string& place) {
  if (node.kind == DocumentNode::Kind::kList) {
    size_t index = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), index);
    if (error == std::errc() && end == word.data() + word.size()) {
      return index < node.items.size() ? &node.items[index] : nullptr;
    }
    return StepByName(node, word, place);
  }
  if (node.kind == DocumentNode::Kind::kNull) {
    node.kind = DocumentNode::Kind::kMap;
    node.place = place;
  }
  if (node.kind != DocumentNode::Kind::kMap) return nullptr;
  for (DocumentField& field : node.fields) {
    if (field.key == word) return &field.value;
  }
  node.fields.push_back({word, place, {}});
  node.fields.back().value.place = place;
  return &node.fields.back().value;
}

}  // namespace

const DocumentNode* FindField(const DocumentNode& map, std::string_view key) {
  for (const DocumentField& field : map.fields) {
    if (field.key == key) return &field.value;
  }
  return nullptr;
}

DocumentNode MakeScalar(std::string text, std::string place) {
  DocumentNode node;
  node.kind = DocumentNode::Kind::kScalar;
  node.text = std::move(text);
  node.place = std::move(place);
  return node;
}

DocumentNode MakeMap(std::string place) {
  DocumentNode node;
  node.kind = DocumentNode::Kind::kMap;
  node.place = std::move(place);
  return node;
}

void AddField(DocumentNode& map, std::string key, DocumentNode value) {
  std::string place = value.place;
  map.fields.push_back({std::move(key), std::move(place), std::move(value)});
}

Result<DocumentNode> ParseYaml(std::string_view text, const std::string& name) {
  TreeBuilder builder(name);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
  } catch (const Stop& stop) {
    return InvalidInput(stop.message);
  } catch (const YAML::Exception& error) {
    return InvalidInput(fmt::format("{}:{}: not YAML: {}", name, error.mark.line + 1, error.msg));
  }
  return builder.Take();
}

Status ApplyOverride(DocumentNode& root, const std::string& assignment) {
  const std::string place = "--set " + assignment;
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    return InvalidInput(place + ": expected KEY=VALUE, as in --set training.micro_batch=8");
  }
  ASSIGN_OR_RETURN(DocumentNode value, ParseYaml(std::string_view(assignment).substr(equals + 1), place));
  SetPlaces(value, place);
  DocumentNode* node = &root;
  std::istringstream path(assignment.substr(0, equals));
  for (std::string word; std::getline(path, word, '.');) {
    DocumentNode* child = word.empty() ? nullptr : Step(*node, word, place);
    if (child == nullptr) return InvalidInput(fmt::format("{}: there is no place for \"{}\" here", place, word));
    node = child;
  }
  *node = std::move(value);
  return {};
}

}  // namespace tidemark
