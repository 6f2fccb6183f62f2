#include "tools/formats/snapshot_writer.h"

#include <algorithm>
#include <map>
#include <utility>

#include "tools/formats/json_writer.h"
#include "tools/formats/pickle.h"
#include "tools/tape_marks.h"

namespace tidemark {
namespace {

// The page knows these and colours by them. It fails on a file that uses categories but has no "unknown": cuBLAS's
// workspace, which every step has, is one.
std::string_view PageCategory(std::string_view category) {
  static constexpr std::pair<std::string_view, std::string_view> kWords[] = {
      {"parameters", "parameter"},         {"gradients", "gradient"},     {"optimizer_state", "optimizer_state"},
      {"weight_casts", "autograd_detail"}, {"activations", "activation"}, {"logits_and_loss", "activation"},
      {"temporaries", "temporary"},        {"inputs", "input"},
  };
  for (const auto& [ours, theirs] : kWords) {
    if (category == ours) return theirs;
  }
  return "unknown";
}

// Memory that is held from the driver: a segment, or a mapped run of an expandable one.
struct HeldRange {
  int64_t end = 0;
  int32_t stream = 0;
  bool expandable = false;
  bool operator==(const HeldRange&) const = default;
};
using HeldRanges = std::map<int64_t, HeldRange>;

// Cuts an expandable segment into its mapped runs; others are one.
template <typename Visit>
void ForEachRun(const SegmentView& segment, Visit visit) {
  size_t begin = 0;
  for (size_t i = 0; i < segment.blocks.size(); ++i) {
    const Bytes end = segment.blocks[i].offset + segment.blocks[i].size;
    const bool last = i + 1 == segment.blocks.size() || segment.blocks[i + 1].offset != end;
    if (!last) continue;
    visit(begin, i + 1);
    begin = i + 1;
  }
}

HeldRanges HeldIn(const MemoryState& state) {
  HeldRanges held;
  for (const SegmentView& segment : state.segments) {
    ForEachRun(segment, [&](size_t begin, size_t end) {
      const BlockView& last = segment.blocks[end - 1];
      held[segment.address + segment.blocks[begin].offset.count()] = {
          segment.address + (last.offset + last.size).count(), segment.stream, segment.expandable};
    });
  }
  return held;
}

// The parts of `from` that `other` doesn't cover.
std::vector<std::pair<int64_t, HeldRange>> Minus(const HeldRanges& from, const HeldRanges& other) {
  std::vector<std::pair<int64_t, HeldRange>> rest;
  for (const auto& [begin, range] : from) {
    int64_t at = begin;
    auto next = other.upper_bound(at);
    if (next != other.begin() && std::prev(next)->second.end > at) --next;
    for (; next != other.end() && next->first < range.end; ++next) {
      if (next->first > at) rest.push_back({at, {next->first, range.stream, range.expandable}});
      at = std::max(at, next->second.end);
    }
    if (at < range.end) rest.push_back({at, {range.end, range.stream, range.expandable}});
  }
  return rest;
}

template <typename Out>
class SnapshotWriter {
 public:
  SnapshotWriter(const Tape& tape, const AllocatorOptions& options, const SnapshotObserver& observed,
                 const Describer& describer)
      : tape_(tape), options_(options), observed_(observed), describer_(describer) {}

  Result<std::string> Run() {
    const uint32_t last = observed_.steps().empty() ? 0 : observed_.steps().back().event;
    ASSIGN_OR_RETURN(const MemoryState end, StateAt(tape_, options_, last));
    out_.BeginDict();
    out_.Key("segments");
    out_.BeginList();
    for (const SegmentView& segment : end.segments) Segment(segment, end);
    out_.EndList();
    out_.Key("device_traces");
    out_.BeginList();
    out_.BeginList();
    RETURN_IF_ERROR(Trace());
    out_.EndList();
    out_.EndList();
    out_.Key("allocator_settings");
    out_.BeginDict();
    out_.Key("PYTORCH_CUDA_ALLOC_CONF");
    out_.String(options_.conf);
    out_.Key("expandable_segments");
    out_.Bool(options_.conf.find("expandable_segments:True") != std::string::npos);
    out_.EndDict();
    out_.EndDict();
    return out_.Finish();
  }

 private:
  void Number(std::string_view key, int64_t value) {
    out_.Key(key);
    out_.Int(value);
  }
  void Word(std::string_view key, std::string_view value) {
    out_.Key(key);
    out_.String(value);
  }

  void Segment(const SegmentView& segment, const MemoryState& state) {
    ForEachRun(segment, [&](size_t begin, size_t end) {
      const auto blocks = std::span(segment.blocks).subspan(begin, end - begin);
      Bytes total, allocated, active, requested;
      for (const BlockView& block : blocks) {
        total += block.size;
        if (block.state == BlockState::kAllocated) allocated += block.size;
        if (block.state != BlockState::kFree) active += block.size;
        if (block.state != BlockState::kFree) requested += block.requested;
      }
      out_.BeginDict();
      Number("device", 0);
      Number("address", segment.address + blocks.front().offset.count());
      Number("total_size", total.count());
      Number("allocated_size", allocated.count());
      Number("active_size", active.count());
      Number("requested_size", requested.count());
      Number("stream", segment.stream);
      Word("segment_type", segment.large ? "large" : "small");
      out_.Key("segment_pool_id");
      out_.Pair(0, segment.pool == SegmentView::kDefaultPool ? 0 : int64_t{segment.pool} + 1);
      out_.Key("is_expandable");
      out_.Bool(segment.expandable);
      Frames({});
      out_.Key("blocks");
      out_.BeginList();
      for (const BlockView& block : blocks) Block(segment, block, state);
      out_.EndList();
      out_.EndDict();
    });
  }

  void Block(const SegmentView& segment, const BlockView& block, const MemoryState& state) {
    const auto live = std::ranges::lower_bound(state.live, std::pair(segment.ordinal, block.offset), {},
                                               [](const LiveBlock& l) { return std::pair(l.segment, l.offset); });
    const bool found = block.state != BlockState::kFree && live != state.live.end() && live->allocation.valid();
    out_.BeginDict();
    Number("address", segment.address + block.offset.count());
    Number("size", block.size.count());
    Number("requested_size", block.requested.count());
    Word("state", block.state == BlockState::kFree        ? "inactive"
                  : block.state == BlockState::kAllocated ? "active_allocated"
                                                          : "active_pending_free");
    Frames(found ? describer_.Describe(live->allocation) : TensorReport());
    out_.EndDict();
  }

  // Innermost first: the tensor, then the op that allocated it.
  void Frames(const TensorReport& tensor) {
    out_.Key("frames");
    out_.BeginList();
    for (const std::string& name : {tensor.tensor, tensor.op}) {
      if (name.empty()) continue;
      out_.BeginDict();
      Word("name", name.substr(0, 200));
      Word("filename", tensor.category);
      Number("line", 0);
      out_.EndDict();
    }
    out_.EndList();
  }

  void Entry(std::string_view action, int64_t address, int64_t size, int32_t stream, uint32_t event) {
    out_.BeginDict();
    Word("action", action);
    Number("addr", address);
    Number("size", size);
    Number("stream", stream);
    Number("time_us", event);
  }

  Status Trace() {
    std::map<int64_t, AllocationId> pending;  // frees that wait, by address
    for (const SnapshotObserver::Step& step : observed_.steps()) {
      if (step.segments_changed) RETURN_IF_ERROR(SegmentEvents(step.event));
      if (!step.placed) continue;
      const Event& alloc = AllocOf(step.allocation);
      if (step.kind == EventKind::kAlloc) {
        Complete(pending, step.address, step.event);
        Entry("alloc", step.address, alloc.bytes.count(), alloc.stream, step.event);
        const TensorReport tensor = describer_.Describe(step.allocation);
        Word("category", PageCategory(tensor.category));
        Frames(tensor);
        out_.EndDict();
      } else if (step.kind == EventKind::kFree) {
        Simple("free_requested", step.address, alloc, step.event);
        if (step.deferred) {
          pending[step.address] = step.allocation;
        } else {
          Simple("free_completed", step.address, alloc, step.event);
        }
      }
    }
    return {};
  }

  void Simple(std::string_view action, int64_t address, const Event& alloc, uint32_t event) {
    Entry(action, address, alloc.bytes.count(), alloc.stream, event);
    Frames({});
    out_.EndDict();
  }

  // The block at that address is handed out again: the free that waited there is over.
  void Complete(std::map<int64_t, AllocationId>& pending, int64_t address, uint32_t event) {
    const auto found = pending.find(address);
    if (found == pending.end()) return;
    Simple("free_completed", address, AllocOf(found->second), event);
    pending.erase(found);
  }

  const Event& AllocOf(AllocationId allocation) {
    if (allocs_.empty()) {
      allocs_.resize(tape_.allocations.size());
      for (const Event& event : tape_.events) {
        if (event.kind == EventKind::kAlloc) allocs_[event.allocation.index()] = event;
      }
    }
    return allocs_[allocation.index()];
  }

  // What was given back to the driver and taken from it in this event.
  Status SegmentEvents(uint32_t event) {
    ASSIGN_OR_RETURN(const MemoryState state, StateAt(tape_, options_, event));
    HeldRanges now = HeldIn(state);
    const auto entry = [&](int64_t begin, const HeldRange& range, std::string_view plain, std::string_view expandable) {
      Entry(range.expandable ? expandable : plain, begin, range.end - begin, range.stream, event);
      Frames({});
      out_.EndDict();
    };
    for (const auto& [begin, range] : Minus(held_, now)) entry(begin, range, "segment_free", "segment_unmap");
    for (const auto& [begin, range] : Minus(now, held_)) entry(begin, range, "segment_alloc", "segment_map");
    held_ = std::move(now);
    return {};
  }

  const Tape& tape_;
  const AllocatorOptions& options_;
  const SnapshotObserver& observed_;
  const Describer& describer_;
  Out out_;
  HeldRanges held_;
  std::vector<Event> allocs_;  // the `a` event of each allocation
};

}  // namespace

void SnapshotObserver::OnEvent(const Observation& observation) {
  Step step;
  step.event = static_cast<uint32_t>(observation.event);
  step.kind = observation.kind;
  step.allocation = observation.allocation;
  step.address = observation.placement.address;
  step.placed = observation.outcome == AllocateOutcome::kPlaced && observation.allocation.valid();
  step.segments_changed =
      observation.usage.reserved != usage_.reserved || observation.usage.segments != usage_.segments;
  step.deferred = step.placed && observation.kind == EventKind::kFree && observation.usage.active == usage_.active;
  usage_ = observation.usage;
  const bool block = step.kind == EventKind::kAlloc || step.kind == EventKind::kFree;
  if ((block && step.placed) || step.segments_changed) steps_.push_back(step);
}

Result<std::string> SnapshotOf(const Tape& tape, const AllocatorOptions& options, const SnapshotObserver& observed,
                               const Describer& describer, SnapshotForm form) {
  if (form == SnapshotForm::kPickle) return SnapshotWriter<PickleWriter>(tape, options, observed, describer).Run();
  return SnapshotWriter<JsonWriter>(tape, options, observed, describer).Run();
}

}  // namespace tidemark
