#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "graph/graph_text.h"
#include "graph/op.h"
#include "graph/verify.h"

namespace tidemark {
namespace {

// What a parsed graph's ops point at as their nodes: one copy of each name, for the program's life.
const char* Interned(std::string_view text) {
  static std::set<std::string, std::less<>> names;
  return names.emplace(text).first->c_str();
}

// A line, taken from the front piece by piece. The first failure sticks.
class Line {
 public:
  explicit Line(std::string_view text) : rest_(text) { SkipBlanks(); }

  bool failed() const { return !expected_.empty(); }
  bool empty() const { return rest_.empty(); }
  std::string Complaint() const {
    return fmt::format("expected {}, not \"{}\"", expected_, rest_.empty() ? "the end of the line" : rest_);
  }
  void Fail(std::string expected) {
    if (!failed()) expected_ = std::move(expected);
  }

  bool Skip(std::string_view word) {
    if (failed() || !rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    SkipBlanks();
    return true;
  }
  void Expect(std::string_view word) {
    if (!Skip(word)) Fail(fmt::format("\"{}\"", word));
  }
  std::string_view Word() {
    size_t n = 0;
    while (n < rest_.size() &&
           (std::isalnum(static_cast<unsigned char>(rest_[n])) || rest_[n] == '_' || rest_[n] == '.'))
      ++n;
    if (n == 0) Fail("a name");
    const std::string_view word = rest_.substr(0, n);
    rest_.remove_prefix(n);
    SkipBlanks();
    return word;
  }
  template <typename T>
  T Number() {
    T value{};
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc()) {
      Fail("a number");
      return value;
    }
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    SkipBlanks();
    return value;
  }
  Dims Numbers(std::string_view close) {
    Dims dims;
    while (!failed() && !Skip(close)) {
      if (!dims.empty()) Expect(",");
      if (dims.size() == Dims::kMaxDims) Fail("fewer dimensions");
      if (!failed()) dims.Append(Number<int64_t>());
    }
    return dims;
  }

 private:
  void SkipBlanks() {
    while (!rest_.empty() && rest_.front() == ' ') rest_.remove_prefix(1);
  }

  std::string_view rest_;
  std::string expected_;
};

template <typename Enum>
std::optional<Enum> EnumNamed(std::string_view name, int count) {
  for (int i = 0; i < count; ++i) {
    if (Name(static_cast<Enum>(i)) == name) return static_cast<Enum>(i);
  }
  return std::nullopt;
}

class Parser {
 public:
  Result<Graph> Run(std::string_view text) {
    int number = 0;
    while (!text.empty()) {
      ++number;
      const size_t end = std::min(text.find('\n'), text.size());
      const std::string_view raw = text.substr(0, end);
      Line line(raw.substr(0, raw.find('#')));
      text.remove_prefix(std::min(end + 1, text.size()));
      if (line.empty()) continue;
      Parse(line);
      if (!line.failed() && !line.empty()) line.Fail("the end of the line");
      if (line.failed()) return InvalidInput(fmt::format("line {}: {}", number, line.Complaint()));
    }
    RETURN_IF_ERROR(VerifyGraph(graph_));
    return std::move(graph_);
  }

 private:
  struct Type {
    DType dtype = DType::kFloat32;
    Dims sizes, strides;
    int64_t offset = 0;
  };

  void Parse(Line& line) {
    if (line.Skip("phase ")) return ParsePhase(line);
    if (line.Skip("hold ")) return ParseHold(line);
    if (line.Skip("release ")) return ParseRelease(line);
    if (line.Skip("probe ")) return ParseProbe(line);
    ParseOp(line);
  }

  void ParsePhase(Line& line) {
    Phase phase;
    phase.name = line.Word();
    if (line.Skip("step=")) phase.step = line.Number<int64_t>();
    if (line.Skip("micro=")) phase.micro_step = line.Number<int64_t>();
    if (line.Skip("batch=")) phase.batch = line.Number<int64_t>();
    graph_.program.emplace_back(graph_.phases.Add(std::move(phase)));
  }

  void ParseProbe(Line& line) {
    if (graph_.phases.empty()) line.Fail("a phase before it");
    Probe probe;
    probe.phase = PhaseId(graph_.phases.size() - 1);
    const auto kind = EnumNamed<ProbeKind>(line.Word(), 2);
    kind ? void(probe.kind = *kind) : line.Fail("loss or gradient");
    line.Expect("s");
    probe.tensor = ParseTensor(line);
    if (line.Skip("name=")) probe.name = Scope(line.Word());
    graph_.probes.push_back(probe);
  }

  void ParseHold(Line& line) {
    line.Expect("h");
    const int64_t name = line.Number<int64_t>();
    Holder holder;
    holder.storage = KnownStorage(line);
    holder.since = OpId(graph_.ops.size());
    const auto kind = EnumNamed<HolderKind>(line.Word(), 10);
    kind ? void(holder.kind = *kind) : line.Fail("a kind of holder");
    if (line.Skip("node=")) holder.node = Interned(line.Word());
    if (line.Skip("@")) holder.scope = Scope(line.Word());
    if (!line.failed() && !holders_.emplace(name, graph_.holders.Add(holder)).second) line.Fail("a new holder");
  }

  void ParseRelease(Line& line) {
    line.Expect("h");
    const auto found = holders_.find(line.Number<int64_t>());
    found == holders_.end() ? line.Fail("a known holder") : void(graph_.program.emplace_back(found->second));
  }

  void ParseOp(Line& line) {
    const OpId id(graph_.ops.size());
    Op op;
    std::vector<TensorId> results;
    while (!line.failed() && line.Skip("s")) {
      results.push_back(ParseResult(line, id, static_cast<uint16_t>(results.size())));
      if (!line.Skip(",")) break;
    }
    if (!results.empty()) line.Expect("=");
    op.kind = ParseKind(line);
    line.Expect("(");
    op.first_operand = static_cast<uint32_t>(graph_.operands.size());
    while (!line.failed() && !line.Skip(")")) {
      if (op.inputs > 0) line.Expect(",");
      line.Expect("s");
      graph_.operands.push_back(ParseTensor(line));
      ++op.inputs;
    }
    graph_.operands.insert(graph_.operands.end(), results.begin(), results.end());
    op.results = static_cast<uint16_t>(results.size());
    ParseAttributes(line, op);
    if (line.Skip("@")) op.scope = Scope(line.Word());
    if (line.Skip("node=")) op.node = Interned(line.Word());
    if (line.Skip("autograd")) op.thread = Thread::kAutograd;
    graph_.program.emplace_back(graph_.ops.Add(op));
  }

  static OpKind ParseKind(Line& line) {
    const std::string_view name = line.Word();
    for (int i = 0; i < kOpKinds; ++i) {
      if (IdentifierOf(static_cast<OpKind>(i)) == name) return static_cast<OpKind>(i);
    }
    line.Fail(fmt::format("a kind of op, not {}", name));
    return OpKind::kFromHost;
  }

  void ParseAttributes(Line& line, Op& op) {
    Attributes a;
    if (line.Skip("number=")) a.number = line.Number<double>();
    if (line.Skip("second=")) a.second = line.Number<double>();
    if (line.Skip("integer=")) {
      for (size_t i = 0; i < a.integer.size(); ++i) {
        if (i > 0) line.Expect(",");
        a.integer[i] = line.Number<int64_t>();
      }
    }
    if (!(a == Attributes{})) op.attributes = graph_.attributes.Add(a);
  }

  // After its "s": a new storage with its type and role, or one that is there.
  TensorId ParseResult(Line& line, OpId producer, uint16_t index) {
    const int64_t name = line.Number<int64_t>();
    if (storages_.contains(name)) return ParseView(line, name);
    line.Expect(":");
    const Type type = ParseType(line);
    Storage storage{SizeOf(type.dtype) * NumElements(type.sizes), producer, index, Role::kActivation, ScopeId()};
    const auto role = EnumNamed<Role>(line.Word(), 10);
    role ? void(storage.role = *role) : line.Fail("a role");
    if (line.Skip("name=")) storage.name = Scope(line.Word());
    if (line.Skip("bytes=")) storage.bytes = Bytes(line.Number<int64_t>());
    const StorageId id = graph_.storages.Add(storage);
    storages_.emplace(name, id);
    const TensorId tensor = Tensor(id, type);
    own_.Add(tensor);
    return tensor;
  }

  TensorId ParseTensor(Line& line) {
    const int64_t name = line.Number<int64_t>();
    if (storages_.contains(name)) return ParseView(line, name);
    line.Fail("a known storage");
    return {};
  }

  TensorId ParseView(Line& line, int64_t name) {
    const StorageId storage = storages_.at(name);
    return line.Skip(":") ? Tensor(storage, ParseType(line)) : own_[storage];
  }

  static Type ParseType(Line& line) {
    Type type;
    const auto dtype = EnumNamed<DType>(line.Word(), 9);
    dtype ? void(type.dtype = *dtype) : line.Fail("a number format");
    line.Expect("[");
    type.sizes = line.Numbers("]");
    type.strides = line.Skip("{") ? line.Numbers("}") : ContiguousStrides(type.sizes);
    if (type.strides.size() != type.sizes.size()) line.Fail("as many strides as sizes");
    if (line.Skip("+")) type.offset = line.Number<int64_t>();
    return type;
  }

  TensorId Tensor(StorageId storage, const Type& type) {
    for (const TensorId id : tensors_[storage]) {
      const TensorInfo& t = graph_.tensors[id];
      if (t.dtype == type.dtype && t.offset == type.offset && t.sizes == type.sizes && t.strides == type.strides)
        return id;
    }
    const TensorId id = graph_.tensors.Add({storage, type.dtype, type.offset, type.sizes, type.strides});
    tensors_[storage].push_back(id);
    return id;
  }

  StorageId KnownStorage(Line& line) {
    line.Expect("s");
    const auto found = storages_.find(line.Number<int64_t>());
    if (found != storages_.end()) return found->second;
    line.Fail("a known storage");
    return {};
  }

  ScopeId Scope(std::string_view name) {
    const auto [known, is_new] = scopes_.try_emplace(std::string(name));
    if (is_new) known->second = graph_.scopes.Add(std::string(name));
    return known->second;
  }

  Graph graph_;
  std::map<int64_t, StorageId> storages_;  // by the text's number
  std::map<int64_t, HolderId> holders_;
  std::map<std::string, ScopeId> scopes_;
  std::map<StorageId, std::vector<TensorId>> tensors_;
  Column<StorageId, TensorId> own_;
};

}  // namespace

Result<Graph> ParseGraph(std::string_view text) { return Parser().Run(text); }

}  // namespace tidemark
