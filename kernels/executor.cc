#include "kernels/executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <string_view>
#include <utility>

#include "graph/base/check.h"
#include "graph/op.h"
#include "kernels/host_data.h"
#include "kernels/number.h"

namespace tidemark {
namespace {

// Elements from the first to the last one that a tensor's strides reach.
int64_t Extent(const Dims& sizes, const Dims& strides) {
  int64_t last = 0;
  for (int i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) return 0;
    last += (sizes[i] - 1) * strides[i];
  }
  return last + 1;
}

// A copy of a tensor's elements on the host.
class HostCopy {
 public:
  static Result<HostCopy> Of(const TensorSpan& t, Backend& backend) {
    HostCopy copy(t);
    RETURN_IF_ERROR(backend.Read(copy.bytes_, t.data));
    return copy;
  }
  // Calls visit(bytes of the element) for each, row-major.
  template <typename Visit>
  void ForEach(Visit visit) const {
    const int64_t n = NumElements(sizes_);
    std::array<int64_t, Dims::kMaxDims> at{};
    int64_t offset = 0;
    for (int64_t i = 0; i < n; ++i) {
      visit(&bytes_[static_cast<size_t>(offset * element_)]);
      for (int d = sizes_.size(); d-- > 0;) {
        const auto u = static_cast<size_t>(d);
        offset += strides_[d];
        if (++at[u] < sizes_[d]) break;
        offset -= strides_[d] * sizes_[d];
        at[u] = 0;
      }
    }
  }

 private:
  explicit HostCopy(const TensorSpan& t)
      : sizes_(t.sizes),
        strides_(t.strides),
        element_(SizeOf(t.dtype).count()),
        bytes_(static_cast<size_t>(Extent(t.sizes, t.strides) * SizeOf(t.dtype).count())) {}

  Dims sizes_, strides_;
  int64_t element_;
  std::vector<std::byte> bytes_;
};

class Executor {
 public:
  Executor(const Graph& graph, const Lowered& lowered, const PlacedTape& placed, Backend& backend,
           const ExecuteOptions& options)
      : graph_(graph), lowered_(lowered), placed_(placed), backend_(backend), options_(options) {
    alive_.resize(lowered.tape.allocations.size());
    bytes_.resize(lowered.tape.allocations.size());
    segments_.resize(placed.segments.size());
    holders_elsewhere_.resize(graph.storages.size());
    for (const Holder& holder : graph.holders) {
      if (graph.storages[holder.storage].location != Location::kDevice) ++holders_elsewhere_[holder.storage];
    }
  }

  Result<Execution> Run() {
    Status status = RunProgram();
    if (status.ok()) status = NoteFinalState();
    if (status.ok()) {
      auto measured = backend_.Measure();
      if (measured.ok()) {
        result_.measured = *measured;
      } else {
        status = measured.error();
      }
    }
    const Status unmapped = UnmapAll();
    if (!status.ok()) return status.error();
    if (!unmapped.ok()) return unmapped.error();
    return std::move(result_);
  }

 private:
  Status RunProgram() {
    const auto events = static_cast<uint32_t>(lowered_.tape.events.size());
    for (size_t i = 0; i < graph_.program.size() && !stopped_; ++i) {
      const Step step = graph_.program[i];
      const uint32_t begin = lowered_.first_event[i];
      const uint32_t end = i + 1 < graph_.program.size() ? lowered_.first_event[i + 1] : events;
      switch (step.kind()) {
        case Step::Kind::kOp:
          RETURN_IF_ERROR(RunOp(step.op(), begin, end));
          break;
        case Step::Kind::kRelease:
          RETURN_IF_ERROR(ApplyEvents(begin, end));
          RETURN_IF_ERROR(LetGoElsewhere(graph_.holders[step.holder()].storage));
          break;
        case Step::Kind::kPhase:
          if (options_.on_phase) options_.on_phase(step.phase());
          RETURN_IF_ERROR(ReadProbes(step.phase()));
          break;
      }
    }
    return {};
  }

  // --- Memory

  Status ApplyEvents(uint32_t begin, uint32_t end) {
    for (uint32_t i = begin; i < end && !stopped_; ++i) RETURN_IF_ERROR(ApplyEvent(i));
    return {};
  }

  Status ApplyEvent(uint32_t index) {
    RETURN_IF_ERROR(ChangeSegments(index));
    const Event& event = lowered_.tape.events[index];
    if (event.kind != EventKind::kAlloc && event.kind != EventKind::kFree) return {};
    const Placement& placement = placed_.placements[event.allocation];
    if (event.kind == EventKind::kAlloc) {
      if (placement.segment < 0) return MeetOutOfMemory(index);
      alive_[event.allocation] = true;
      bytes_[event.allocation] = event.bytes;
      requested_ += event.bytes;
      allocated_ += placement.block_bytes;
      result_.requested_peak = std::max(result_.requested_peak, requested_);
      if (allocated_ > result_.allocated_peak) {
        result_.allocated_peak = allocated_;
        result_.peak_op = lowered_.origins[event.allocation].op;
      }
      return {};
    }
    if (!alive_[event.allocation]) return {};
    alive_[event.allocation] = false;
    const AllocationId allocation = event.allocation;
    requested_ -= bytes_[allocation];
    allocated_ -= placement.block_bytes;
    std::erase_if(scratch_, [&](const LiveScratch& s) { return s.allocation == allocation; });
    return backend_.Fill(backend_.Address(placement.segment, placement.offset), placement.block_bytes, kPoison);
  }

  Status ChangeSegments(uint32_t event) {
    while (next_change_ < placed_.segment_changes.size() && placed_.segment_changes[next_change_].event <= event) {
      const SegmentChange& change = placed_.segment_changes[next_change_++];
      const auto index = static_cast<size_t>(change.segment);
      if (change.bytes == Bytes()) {
        RETURN_IF_ERROR(backend_.Unmap(change.segment));
      } else {
        RETURN_IF_ERROR(Map(change, event));
        if (stopped_) return {};
      }
      reserved_ += change.bytes - segments_[index];
      segments_[index] = change.bytes;
      result_.reserved_peak = std::max(result_.reserved_peak, reserved_);
    }
    return {};
  }

  Status Map(const SegmentChange& change, uint32_t event) {
    const auto index = static_cast<size_t>(change.segment);
    const PlacedSegment& segment = placed_.segments[index];
    ASSIGN_OR_RETURN(const MapOutcome outcome, backend_.Map({.segment = change.segment,
                                                             .bytes = change.bytes,
                                                             .most = segment.most,
                                                             .expandable = segment.expandable}));
    if (outcome == MapOutcome::kOutOfMemory) {
      const AllocationId allocation = lowered_.tape.events[event].allocation;
      result_.out_of_memory = {lowered_.origins[allocation].op, event, change.bytes, false};
      stopped_ = true;
      return {};
    }
    const Bytes before = segments_[index];
    if (change.bytes <= before) return {};
    return backend_.Fill(backend_.Address(change.segment, before), change.bytes - before, kPoison);
  }

  // The prediction is that the driver says no here. Asks it.
  Status MeetOutOfMemory(uint32_t index) {
    const OutOfMemory* failure = nullptr;
    for (const OutOfMemory& f : placed_.replay.out_of_memory) {
      if (f.event == index) failure = &f;
    }
    CHECK(failure != nullptr);
    const auto segment = static_cast<int64_t>(placed_.segments.size());
    const Bytes bytes = failure->segment_bytes;
    ASSIGN_OR_RETURN(const MapOutcome outcome, backend_.Map({.segment = segment, .bytes = bytes, .most = bytes}));
    if (outcome == MapOutcome::kMapped) RETURN_IF_ERROR(backend_.Unmap(segment));
    const OpId op = lowered_.origins[lowered_.tape.events[index].allocation].op;
    if (outcome == MapOutcome::kOutOfMemory) result_.out_of_memory = {op, index, failure->segment_bytes, true};
    stopped_ = true;
    return {};
  }

  // --- What the allocator doesn't place (Location::kHost, kKernel): a segment of its own each, behind the allocator's,
  // for as long as somebody holds it. It counts nowhere.

  int64_t SegmentOf(StorageId storage) const {
    return static_cast<int64_t>(placed_.segments.size()) + 1 + static_cast<int64_t>(storage.index());
  }

  Status MakeElsewhere(OpId id) {
    for (const TensorId result : graph_.Results(graph_.ops[id])) {
      const StorageId storage = graph_.tensors[result].storage;
      const Storage& s = graph_.storages[storage];
      if (s.producer != id || s.location == Location::kDevice || s.bytes == Bytes()) continue;
      ASSIGN_OR_RETURN(
          const MapOutcome outcome,
          backend_.Map({.segment = SegmentOf(storage), .bytes = s.bytes, .most = s.bytes, .location = s.location}));
      if (outcome == MapOutcome::kOutOfMemory) {
        return Error{ErrorCode::kUnavailable, "there is no memory for what lies outside of the device's"};
      }
      elsewhere_.insert(storage);
      RETURN_IF_ERROR(backend_.Fill(backend_.Address(SegmentOf(storage), Bytes()), s.bytes, kPoison));
    }
    return {};
  }

  Status LetGoElsewhere(StorageId storage) {
    if (graph_.storages[storage].location == Location::kDevice || --holders_elsewhere_[storage] > 0) return {};
    return elsewhere_.erase(storage) > 0 ? backend_.Unmap(SegmentOf(storage)) : Status();
  }

  Status UnmapAll() {
    Status first;
    for (const StorageId storage : elsewhere_) {
      const Status status = backend_.Unmap(SegmentOf(storage));
      if (!status.ok() && first.ok()) first = status;
    }
    for (size_t i = 0; i < segments_.size(); ++i) {
      if (segments_[i] == Bytes()) continue;
      const Status status = backend_.Unmap(static_cast<int64_t>(i));
      if (!status.ok() && first.ok()) first = status;
    }
    return first;
  }

  // --- Ops

  Status RunOp(OpId id, uint32_t begin, uint32_t end) {
    uint32_t kernel_at = begin;  // right after the last allocation
    for (uint32_t i = begin; i < end; ++i) {
      if (lowered_.tape.events[i].kind == EventKind::kAlloc) kernel_at = i + 1;
    }
    for (uint32_t i = begin; i < kernel_at && !stopped_; ++i) {
      RETURN_IF_ERROR(ApplyEvent(i));
      NoteScratch(i);
    }
    if (stopped_) return {};
    RETURN_IF_ERROR(MakeElsewhere(id));
    RETURN_IF_ERROR(RunKernel(id));
    return ApplyEvents(kernel_at, end);
  }

  void NoteScratch(uint32_t index) {
    const Event& event = lowered_.tape.events[index];
    if (event.kind != EventKind::kAlloc || stopped_) return;
    const Origin& origin = lowered_.origins[event.allocation];
    if (origin.storage.valid()) return;
    const Placement& p = placed_.placements[event.allocation];
    const ScratchSpan span = {backend_.Address(p.segment, p.offset), event.bytes, origin.inside};
    scratch_.push_back({event.allocation, span});
  }

  Status RunKernel(OpId id) {
    const Op& op = graph_.ops[id];
    if (op.kind == OpKind::kFromHost) return CopyFromHost(op);
    in_.clear();
    out_.clear();
    scratch_spans_.clear();
    for (const TensorId t : graph_.Inputs(op)) in_.push_back(SpanOf(t, id));
    for (const TensorId t : graph_.Results(op)) out_.push_back(SpanOf(t, id));
    if (stopped_) return {};
    for (const LiveScratch& s : scratch_) scratch_spans_.push_back(s.span);
    const Attributes attributes = op.attributes.valid() ? graph_.attributes[op.attributes] : Attributes{};
    KernelCall call = {op.kind, op.thread, attributes, in_, out_, scratch_spans_};
    if (op.kind == OpKind::kFusedKernel) call.fused = &graph_.fused[FusedKernelOf(graph_, op)];
    ASSIGN_OR_RETURN(const RunOutcome outcome, RunNamed(id, call));
    std::erase_if(scratch_, [&](const LiveScratch& s) { return s.span.what == kForever; });
    ++result_.kernels;
    if (outcome == RunOutcome::kBadIndex) {
      AddFinding(FindingKind::kBadIndex, id,
                 "an index out of range, or a byte that is no truth value, among the operands");
    }
    return options_.check_results ? CheckResults(id) : Status();
  }

  Result<RunOutcome> RunNamed(OpId id, const KernelCall& call) {
    auto outcome = backend_.Run(call);
    if (outcome.ok()) return outcome;
    Error error = outcome.error();
    error.message = fmt::format("{}: {}", LabelOf(graph_, graph_.ops[id]), error.message);
    return error;
  }

  Status CopyFromHost(const Op& op) {
    const TensorId result = graph_.Results(op)[0];
    const TensorSpan span = SpanOf(result, OpId());
    if (span.data == nullptr) return {};
    ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, HostBytes(graph_, op));
    return backend_.Write(span.data, bytes);
  }

  // REQUIRES, else a finding: the tensor's allocation is alive.
  TensorSpan SpanOf(TensorId id, OpId reader) {
    const TensorInfo& t = graph_.tensors[id];
    TensorSpan span = {nullptr, t.dtype, t.sizes, t.strides};
    const AllocationId allocation = lowered_.allocations[t.storage];
    if (graph_.storages[t.storage].location != Location::kDevice) return SpanElsewhere(id, reader);
    if (!allocation.valid()) return span;  // no bytes
    const Bytes end = SizeOf(t.dtype) * (t.offset + Extent(t.sizes, t.strides));
    CHECK(t.offset >= 0 && end <= graph_.storages[t.storage].bytes);
    if (!alive_[allocation] && options_.check_alive) {
      AddFinding(FindingKind::kNotAlive, reader, "an operand is not alive: " + NameOf(t.storage));
    }
    const Placement& p = placed_.placements[allocation];
    if (p.segment < 0 || segments_[static_cast<size_t>(p.segment)] == Bytes()) {
      AddFinding(FindingKind::kNotAlive, reader, "the segment of an operand is gone: " + NameOf(t.storage));
      stopped_ = true;
      return span;
    }
    span.data = backend_.Address(p.segment, p.offset + SizeOf(t.dtype) * t.offset);
    return span;
  }

  TensorSpan SpanElsewhere(TensorId id, OpId reader) {
    const TensorInfo& t = graph_.tensors[id];
    TensorSpan span = {nullptr, t.dtype, t.sizes, t.strides};
    if (elsewhere_.contains(t.storage)) {
      span.data = backend_.Address(SegmentOf(t.storage), SizeOf(t.dtype) * t.offset);
    } else if (graph_.storages[t.storage].bytes > Bytes()) {
      AddFinding(FindingKind::kNotAlive, reader, "an operand is not alive: " + NameOf(t.storage));
      stopped_ = true;
    }
    return span;
  }

  std::string NameOf(StorageId storage) const {
    const Storage& s = graph_.storages[storage];
    if (s.name.valid()) return graph_.scopes[s.name];
    return fmt::format("result {} of {}", s.result, LabelOf(graph_, graph_.ops[s.producer]));
  }

  // --- Findings and values

  Status CheckResults(OpId id) {
    for (size_t i = 0; i < out_.size(); ++i) {
      if (!IsFloating(out_[i].dtype) || out_[i].data == nullptr) continue;
      ASSIGN_OR_RETURN(const int64_t count, backend_.CountNaNs(out_[i]));
      if (count == 0) continue;
      int poisoned = -1;
      for (size_t k = 0; k < in_.size() && poisoned < 0; ++k) {
        ASSIGN_OR_RETURN(const bool found, HoldsPoison(in_[k]));
        if (found) poisoned = static_cast<int>(k);
      }
      const std::string text = fmt::format("result {} has {} NaN{}", i, count, count == 1 ? "" : "s");
      if (poisoned >= 0) {
        AddFinding(FindingKind::kPoisonRead, id, fmt::format("{}; operand {} holds the poison", text, poisoned));
      } else {
        AddFinding(FindingKind::kNotANumber, id, text);
      }
      return {};
    }
    return {};
  }

  Result<bool> HoldsPoison(const TensorSpan& t) {
    if (t.data == nullptr) return false;
    ASSIGN_OR_RETURN(const HostCopy copy, HostCopy::Of(t, backend_));
    const auto size = static_cast<size_t>(SizeOf(t.dtype).count());
    bool found = false;
    copy.ForEach([&](const std::byte* element) {
      found = found || std::all_of(element, element + size, [](std::byte b) { return b == std::byte{kPoison}; });
    });
    return found;
  }

  void AddFinding(FindingKind kind, OpId op, const std::string& text) {
    if (options_.stop_at_finding) stopped_ = true;
    if (result_.findings.size() == Execution::kMaxFindings) return;
    const std::string where = op.valid() ? LabelOf(graph_, graph_.ops[op]) : "reading a value";
    result_.findings.push_back({kind, op, where + ": " + text});
  }

  Status ReadProbes(PhaseId phase) {
    for (; next_probe_ < graph_.probes.size() && graph_.probes[next_probe_].phase == phase; ++next_probe_) {
      const Probe& probe = graph_.probes[next_probe_];
      if (!options_.keep_values || !backend_.computes()) continue;
      const TensorSpan span = SpanOf(probe.tensor, OpId());
      if (stopped_) return {};
      Observed observed = {probe.kind, phase, probe.name.valid() ? graph_.scopes[probe.name] : "", span.sizes, {}};
      ASSIGN_OR_RETURN(const HostCopy copy, HostCopy::Of(span, backend_));
      copy.ForEach([&](const std::byte* element) { observed.values.push_back(LoadNumber(span.dtype, element)); });
      result_.observed.push_back(std::move(observed));
    }
    return {};
  }

  // A number from the bytes of each parameter and state.
  Status NoteFinalState() {
    if (stopped_ || !backend_.computes()) return {};
    for (size_t i = 0; i < graph_.storages.size(); ++i) {
      const Storage& s = graph_.storages[StorageId(i)];
      if (s.role != Role::kParameter && s.role != Role::kOptimizerState) continue;
      const AllocationId allocation = lowered_.allocations[StorageId(i)];
      if (!allocation.valid() || !alive_[allocation]) continue;
      const Placement& p = placed_.placements[allocation];
      std::vector<std::byte> bytes(static_cast<size_t>(s.bytes.count()));
      RETURN_IF_ERROR(backend_.Read(bytes, backend_.Address(p.segment, p.offset)));
      uint64_t hash = 0xcbf29ce484222325U;
      for (const std::byte b : bytes) hash = (hash ^ static_cast<uint8_t>(b)) * 0x100000001b3U;
      result_.final_state.push_back(hash);
    }
    return {};
  }

  static constexpr std::string_view kForever = "cublas workspace";
  struct LiveScratch {
    AllocationId allocation;
    ScratchSpan span;
  };

  const Graph& graph_;
  const Lowered& lowered_;
  const PlacedTape& placed_;
  Backend& backend_;
  const ExecuteOptions& options_;
  Execution result_;
  Column<AllocationId, uint8_t> alive_;
  Column<AllocationId, Bytes> bytes_;  // asked for
  std::vector<Bytes> segments_;        // mapped bytes of each
  Column<StorageId, uint32_t> holders_elsewhere_;
  std::set<StorageId> elsewhere_;
  size_t next_change_ = 0;
  size_t next_probe_ = 0;
  Bytes requested_, allocated_, reserved_;
  bool stopped_ = false;
  std::vector<TensorSpan> in_, out_;
  std::vector<LiveScratch> scratch_;
  std::vector<ScratchSpan> scratch_spans_;
};

}  // namespace

Result<Execution> Execute(const Graph& graph, const Lowered& lowered, const PlacedTape& placed, Backend& backend,
                          const ExecuteOptions& options) {
  const std::vector<std::string> missing = MissingKernels(graph, backend);
  if (!missing.empty()) {
    const char* remedy = graph.fused.empty() ? "" : "; compiled runs are executed by --backend host";
    return InvalidInput(
        fmt::format("the {} backend has no kernel for {}{}", backend.name(), fmt::join(missing, ", "), remedy));
  }
  return Executor(graph, lowered, placed, backend, options).Run();
}

std::vector<std::string> MissingKernels(const Graph& graph, const Backend& backend) {
  std::vector<std::string> missing;
  std::vector<bool> seen(static_cast<size_t>(std::numeric_limits<uint16_t>::max()) + 1);
  for (const Op& op : graph.ops) {
    const auto kind = static_cast<size_t>(op.kind);
    if (seen[kind]) continue;
    seen[kind] = true;
    if (op.kind == OpKind::kFromHost || backend.Has(op.kind)) continue;
    missing.emplace_back(InfoOf(op.kind).name);
  }
  return missing;
}

}  // namespace tidemark
