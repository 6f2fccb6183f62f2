#include "tools/formats/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>

#include "tools/formats/json_tree.h"
#include "tools/formats/pickle.h"

namespace tidemark {
namespace {

constexpr std::pair<std::string_view, TraceAction> kActions[] = {
    {"alloc", TraceAction::kAlloc},
    {"free_requested", TraceAction::kFreeRequested},
    {"free_completed", TraceAction::kFreeCompleted},
    {"segment_alloc", TraceAction::kSegmentAlloc},
    {"segment_free", TraceAction::kSegmentFree},
    {"segment_map", TraceAction::kSegmentMap},
    {"segment_unmap", TraceAction::kSegmentUnmap},
    {"oom", TraceAction::kOutOfMemory},
};

struct Frame {
  std::string_view name;
  std::string_view file;
  int64_t line = 0;
};

// What a record was reduced to: its number carries its kind.
enum class RecordKind : int64_t { kEntry, kFrame, kBlock, kStack };
constexpr int64_t kKinds = 4;

int64_t NumberOf(size_t index, RecordKind kind) {
  return static_cast<int64_t>(index) * kKinds + static_cast<int64_t>(kind);
}
std::optional<size_t> IndexOf(std::optional<int64_t> number, RecordKind kind) {
  if (!number || *number % kKinds != static_cast<int64_t>(kind)) return std::nullopt;
  return static_cast<size_t>(*number / kKinds);
}

// A block before its stack is known as a text: the list of frames stands for it.
struct RawBlock {
  SnapshotBlock block;
  Value frames;
};

std::string_view Basename(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// "add_Tensor" of "at::_ops::add_Tensor::call(…)"; empty for other functions.
std::string_view OpOf(std::string_view function) {
  constexpr std::string_view kPrefix = "at::_ops::";
  if (!function.starts_with(kPrefix)) return "";
  function.remove_prefix(kPrefix.size());
  return function.substr(0, function.find("::"));
}

// Ops that only make a tensor for the op that called them.
bool IsFactory(std::string_view op) {
  return op.starts_with("empty") || op.starts_with("new_empty") || op == "resize_" || op == "_resize_output_";
}

// The innermost ATen op that isn't a factory and the innermost line of Python outside PyTorch; of paths the last
// component alone, since they carry people's names.
std::string DescribeStack(std::span<const Frame> frames) {
  std::string op;
  std::string site;
  for (const Frame& frame : frames) {
    if ((op.empty() || IsFactory(op)) && !OpOf(frame.name).empty()) op = OpOf(frame.name);
    const bool python =
        frame.file.ends_with(".py") && frame.file.find("/site-packages/torch/") == std::string_view::npos;
    if (site.empty() && python) site = fmt::format("{} ({}:{})", frame.name, Basename(frame.file), frame.line);
  }
  if (!op.empty()) op = "aten::" + op;
  if (op.empty() || site.empty()) return op + site;
  return op + " @ " + site;
}

// Texts of stacks, each once. Millions of lists of frames, most of them alike, are few texts.
class StackTable {
 public:
  // Of a list of frames that was met before.
  std::optional<uint32_t> Known(std::span<const Value> items) const {
    if (items.empty()) return 0;
    const auto known = known_.find(HashOf(items));
    if (known == known_.end() || !std::ranges::equal(known->second.items, items)) return std::nullopt;
    return known->second.stack;
  }
  uint32_t Add(std::span<const Value> items, std::span<const Frame> frames) {
    const uint32_t stack = Intern(DescribeStack(frames));
    known_.try_emplace(HashOf(items), Entry{{items.begin(), items.end()}, stack});
    return stack;
  }
  std::vector<std::string> Take() { return std::move(texts_); }

 private:
  struct Entry {
    std::vector<Value> items;
    uint32_t stack = 0;
  };

  static uint64_t HashOf(std::span<const Value> items) {
    uint64_t hash = items.size();
    for (const Value item : items) hash = (hash ^ item.bits) * 0x9e3779b97f4a7c15 + (hash >> 29);
    return hash;
  }

  uint32_t Intern(std::string text) {
    if (text.empty()) return 0;
    const auto [known, added] = of_text_.try_emplace(text, static_cast<uint32_t>(texts_.size()));
    if (added) texts_.push_back(std::move(text));
    return known->second;
  }

  std::vector<std::string> texts_ = {""};
  std::unordered_map<std::string, uint32_t> of_text_;
  std::unordered_map<uint64_t, Entry> known_;  // by a hash of the items
};

// Takes over the three kinds of record of which a snapshot has many: trace entries, blocks and frames. Of an entry's or
// a block's list of frames, its text remains.
class RecordReducer : public DictReducer {
 public:
  std::optional<int64_t> Reduce(ObjectTree& tree, std::span<const Value> items) override {
    const std::optional<int64_t> number = ReduceRecord(tree, items);
    if (!number || IndexOf(number, RecordKind::kFrame)) return number;
    const Value* list = Field("frames");
    if (list == nullptr || tree.kind(*list) != ValueKind::kList) return number;
    const std::span<const Value> frames_of_list = tree.Items(*list);
    std::optional<uint32_t> stack = stacks.Known(frames_of_list);
    const auto is_frame = [&](Value v) { return IndexOf(tree.Reduced(v), RecordKind::kFrame).has_value(); };
    if (!stack && std::ranges::all_of(frames_of_list, is_frame)) stack = StackOf(tree, *list);
    if (stack) tree.Reduce(*list, NumberOf(*stack, RecordKind::kStack));
    return number;
  }

  // Protocol 0 fills its dicts key by key: they are reduced when all of the file is read.
  std::optional<int64_t> ReduceRecord(const ObjectTree& tree, std::span<const Value> items) {
    fields_.clear();
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      if (const std::optional<std::string_view> key = tree.String(items[i])) fields_.emplace_back(*key, items[i + 1]);
    }
    if (const Value* action = Field("action")) return ReduceEntry(tree, *action);
    if (const Value* name = Field("name"); name != nullptr && Field("filename") != nullptr)
      return ReduceFrame(tree, *name);
    if (const Value* state = Field("state"); state != nullptr && Field("size") != nullptr)
      return ReduceBlock(tree, *state);
    return std::nullopt;
  }

  uint32_t StackOf(const ObjectTree& tree, Value list) {
    if (const auto stack = IndexOf(tree.Reduced(list), RecordKind::kStack)) return static_cast<uint32_t>(*stack);
    const std::span<const Value> items = tree.Items(list);
    if (const std::optional<uint32_t> known = stacks.Known(items)) return *known;
    std::vector<Frame> found;
    for (const Value item : items) {
      const bool whole = tree.kind(item) == ValueKind::kDict;
      const auto number = whole ? ReduceRecord(tree, tree.Items(item)) : tree.Reduced(item);
      if (const auto index = IndexOf(number, RecordKind::kFrame)) found.push_back(frames[*index]);
    }
    return stacks.Add(items, found);
  }

  std::vector<TraceEntry> entries;
  std::vector<Value> entry_frames;  // of each entry
  std::vector<Frame> frames;
  std::vector<RawBlock> blocks;
  StackTable stacks;

 private:
  const Value* Field(std::string_view key) const {
    const auto found = std::ranges::find(fields_, key, &std::pair<std::string_view, Value>::first);
    return found == fields_.end() ? nullptr : &found->second;
  }
  int64_t Int(const ObjectTree& tree, std::string_view key, int64_t fallback = 0) const {
    const Value* value = Field(key);
    return value == nullptr ? fallback : tree.Int(*value).value_or(fallback);
  }

  std::optional<int64_t> ReduceEntry(const ObjectTree& tree, Value action) {
    const std::optional<std::string_view> word = tree.String(action);
    const bool has_size = Field("size") != nullptr && (Field("addr") != nullptr || Field("device_free") != nullptr);
    if (!word || !has_size) return std::nullopt;
    TraceEntry entry;
    const auto known = std::ranges::find(kActions, *word, &std::pair<std::string_view, TraceAction>::first);
    if (known != std::end(kActions)) entry.action = known->second;
    entry.address = Int(tree, "addr");
    entry.size = Int(tree, "size");
    entry.stream = Int(tree, "stream");
    entry.time_us = Int(tree, "time_us");
    if (const Value* pool = Field("pool_id")) {
      entry.private_pool = std::ranges::any_of(tree.Items(*pool), [&](Value v) { return tree.Int(v) != 0; });
    }
    const Value* list = Field("frames");
    entry_frames.push_back(list == nullptr ? Value() : *list);
    entries.push_back(entry);
    return NumberOf(entries.size() - 1, RecordKind::kEntry);
  }

  std::optional<int64_t> ReduceFrame(const ObjectTree& tree, Value name) {
    const std::optional<std::string_view> function = tree.String(name);
    const std::optional<std::string_view> file = tree.String(*Field("filename"));
    if (!function || !file) return std::nullopt;
    frames.push_back({*function, *file, Int(tree, "line")});
    return NumberOf(frames.size() - 1, RecordKind::kFrame);
  }

  std::optional<int64_t> ReduceBlock(const ObjectTree& tree, Value state) {
    const std::optional<std::string_view> word = tree.String(state);
    if (!word) return std::nullopt;
    RawBlock raw;
    raw.block.size = Bytes(Int(tree, "size"));
    raw.block.state = *word == "active_allocated"   ? SnapshotBlockState::kAllocated
                      : word->starts_with("active") ? SnapshotBlockState::kPendingFree
                                                    : SnapshotBlockState::kInactive;
    const bool active = raw.block.state != SnapshotBlockState::kInactive;
    // Before 2.1 blocks have no requested_size: what they hold counts as requested.
    if (active) raw.block.requested = Bytes(Int(tree, "requested_size", raw.block.size.count()));
    if (const Value* list = Field("frames")) raw.frames = *list;
    blocks.push_back(raw);
    return NumberOf(blocks.size() - 1, RecordKind::kBlock);
  }

  std::vector<std::pair<std::string_view, Value>> fields_;  // of the dict at hand
};

class SnapshotReader {
 public:
  SnapshotReader(const std::string& name, const ObjectTree& tree, RecordReducer& records)
      : name_(name), tree_(tree), records_(records) {}

  Result<Snapshot> Run(Value root) {
    const Value segments = tree_.Find(root, "segments");
    const Value traces = tree_.Find(root, "device_traces");
    // Before 1.13 a snapshot was the list of segments alone.
    const bool legacy = tree_.kind(root) == ValueKind::kList;
    if (!legacy && tree_.kind(segments) != ValueKind::kList && tree_.kind(traces) != ValueKind::kList) {
      return Wrong("not a memory snapshot: it has no list of segments and no device_traces");
    }
    PickDevice(traces, legacy ? root : segments);
    for (const Value segment : tree_.Items(legacy ? root : segments)) {
      if (tree_.kind(segment) != ValueKind::kDict) return Wrong("not a memory snapshot: a segment isn't a dict");
      if (Int(segment, "device", snapshot_.device) == snapshot_.device) RETURN_IF_ERROR(ReadSegment(segment));
    }
    std::ranges::sort(snapshot_.segments, {}, &SnapshotSegment::address);
    RETURN_IF_ERROR(CheckOverlap());
    RETURN_IF_ERROR(ReadTrace(traces));
    const Value settings = tree_.Find(root, "allocator_settings");
    if (const auto conf = tree_.String(tree_.Find(settings, "PYTORCH_CUDA_ALLOC_CONF"))) snapshot_.conf = *conf;
    snapshot_.stacks = records_.stacks.Take();
    return std::move(snapshot_);
  }

 private:
  Error Wrong(std::string_view what) const { return InvalidInput(fmt::format("{}: {}", name_, what)); }

  int64_t Int(Value dict, std::string_view key, int64_t fallback) const {
    return tree_.Int(tree_.Find(dict, key)).value_or(fallback);
  }

  // The device with the longest trace, or where none has one, of the first segment.
  void PickDevice(Value traces, Value segments) {
    const std::span<const Value> lists = tree_.Items(traces);
    size_t longest = 0;
    size_t used = 0;
    for (size_t device = 0; device < lists.size(); ++device) {
      const size_t size = tree_.Items(lists[device]).size();
      used += size != 0 ? 1 : 0;
      if (size > longest) {
        longest = size;
        snapshot_.device = static_cast<int>(device);
      }
    }
    if (longest == 0 && !tree_.Items(segments).empty()) {
      snapshot_.device = static_cast<int>(Int(tree_.Items(segments)[0], "device", 0));
    }
    if (used > 1) {
      snapshot_.notes.push_back(fmt::format("{} devices have a trace; device {} is shown", used, snapshot_.device));
    }
  }

  // The record that a value was reduced to, or is reduced to now.
  template <typename Record>
  const Record* Find(const std::vector<Record>& records, Value value, RecordKind kind) {
    const bool whole = tree_.kind(value) == ValueKind::kDict;
    const auto number = whole ? records_.ReduceRecord(tree_, tree_.Items(value)) : tree_.Reduced(value);
    const std::optional<size_t> index = IndexOf(number, kind);
    return index ? &records[*index] : nullptr;
  }

  Status ReadSegment(Value dict) {
    SnapshotSegment segment;
    segment.address = Int(dict, "address", -1);
    segment.size = Bytes(Int(dict, "total_size", -1));
    segment.stream = Int(dict, "stream", 0);
    segment.large = tree_.String(tree_.Find(dict, "segment_type")) != "small";
    segment.expandable = tree_.Bool(tree_.Find(dict, "is_expandable")).value_or(false);
    const std::span<const Value> pool = tree_.Items(tree_.Find(dict, "segment_pool_id"));
    segment.private_pool = std::ranges::any_of(pool, [&](Value v) { return tree_.Int(v) != 0; });
    constexpr int64_t kHighest = int64_t{1} << 62;
    if (segment.address < 0 || segment.size < Bytes(0) || segment.address > kHighest ||
        segment.size > Bytes(kHighest)) {
      return Wrong("not a memory snapshot: a segment lacks its address or total_size");
    }
    Bytes total;
    for (const Value value : tree_.Items(tree_.Find(dict, "blocks"))) {
      const RawBlock* raw = Find(records_.blocks, value, RecordKind::kBlock);
      const bool good = raw != nullptr && raw->block.size > Bytes(0) && raw->block.size <= segment.size - total;
      if (!good) return Wrong(fmt::format("the blocks of segment {:#x} don't fit into it", segment.address));
      total += raw->block.size;
      segment.blocks.push_back(raw->block);
      segment.blocks.back().stack = records_.StackOf(tree_, raw->frames);
    }
    // PyTorch's blocks tile their segment; other writers leave free memory out at the end.
    if (total < segment.size) segment.blocks.push_back({.size = segment.size - total, .requested = Bytes(0)});
    snapshot_.segments.push_back(std::move(segment));
    return {};
  }

  Status CheckOverlap() const {
    for (size_t i = 1; i < snapshot_.segments.size(); ++i) {
      const SnapshotSegment& before = snapshot_.segments[i - 1];
      if (before.address + before.size.count() > snapshot_.segments[i].address) {
        return Wrong(fmt::format("segments {:#x} and {:#x} overlap", before.address, snapshot_.segments[i].address));
      }
    }
    return {};
  }

  Status ReadTrace(Value traces) {
    const std::span<const Value> lists = tree_.Items(traces);
    if (lists.size() <= static_cast<size_t>(snapshot_.device)) return {};
    const std::span<const Value> items = tree_.Items(lists[static_cast<size_t>(snapshot_.device)]);
    std::vector<size_t> order;  // of the entries
    order.reserve(items.size());
    for (const Value value : items) {
      const TraceEntry* entry = Find(records_.entries, value, RecordKind::kEntry);
      if (entry == nullptr) return Wrong("not a memory snapshot: a trace entry lacks action, addr or size");
      order.push_back(static_cast<size_t>(entry - records_.entries.data()));
    }
    for (const size_t i : order) {
      TraceEntry& entry = records_.entries[i];
      if (entry.action == TraceAction::kAlloc) entry.stack = records_.StackOf(tree_, records_.entry_frames[i]);
    }
    // Of a single device they are all there are, in order: a trace of gigabytes isn't copied.
    bool all_in_order = order.size() == records_.entries.size();
    for (size_t i = 0; all_in_order && i < order.size(); ++i) all_in_order = order[i] == i;
    if (all_in_order) {
      snapshot_.trace = std::move(records_.entries);
    } else {
      for (const size_t i : order) snapshot_.trace.push_back(records_.entries[i]);
    }
    return {};
  }

  const std::string& name_;
  const ObjectTree& tree_;
  RecordReducer& records_;
  Snapshot snapshot_;
};

}  // namespace

bool LooksLikePickle(std::string_view beginning) {
  // Protocol 2 and later begin with PROTO; 0 and 1 with a mark, an empty dict or an empty list.
  if (beginning.starts_with('\x80')) return true;
  return beginning.starts_with("(d") || beginning.starts_with("(l") || beginning.starts_with("}q") ||
         beginning.starts_with("]q");
}

bool LooksLikeJson(std::string_view beginning) {
  const size_t first = beginning.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || LooksLikePickle(beginning)) return false;
  return beginning[first] == '{' || beginning[first] == '[';
}

Result<Snapshot> ReadSnapshot(ByteSource& source, const std::string& name) {
  RecordReducer records;
  const bool json = LooksLikeJson(source.Peek(ByteSource::kMaxView));
  Result<Unpickled> data = json ? ReadJsonTree(source, name, &records) : ReadPickle(source, name, &records);
  if (!data.ok()) return data.error();
  return SnapshotReader(name, data->tree, records).Run(data->root);
}

}  // namespace tidemark
