#include "passes/compile/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <tuple>

#include "graph/base/check.h"
#include "passes/compile/reduction_kernel.h"

namespace tidemark::compile {
namespace {

constexpr double kNearlyAsLarge = 0.95;
constexpr int64_t kLeastRowsInPart = 16;
constexpr int64_t kMostRowsInPart = 128;

class Planning {
 public:
  Planning(LoweredGraph& graph, const Schedule& schedule, const std::vector<Kernel>& kernels,
           const MemoryEstimate& estimate, const std::vector<bool>& donated, const DeviceSpec& device)
      : s_(schedule), g_(graph), kernels_(kernels), estimate_(estimate), device_(device) {
    const size_t n = g_.buffers.size();
    is_donated_.resize(n);
    for (size_t i = 0; i < g_.inputs.size(); ++i) is_donated_[g_.inputs[i].index()] = i < donated.size() && donated[i];
    allocated_.resize(n);
    freed_.resize(n);
    launched_in_.resize(g_.operations.size(), kNowhere);
    summed_.resize(g_.operations.size());
    completed_ = OperationSet(g_.operations.size());
    FindLastUses();
  }

  Plan Run() {
    for (step_ = 0; step_ < kernels_.size(); ++step_) {
      const Kernel& kernel = kernels_[step_];
      if (g_.operations[kernel.operations[0]].kind == Operation::Kind::kConcat) {
        // Nothing runs; what dies here goes after the next kernel.
        Allocate(ResultOf(kernel.operations[0]));
        completed_.Insert(kernel.operations[0].index());
        if (step_ + 1 < kernels_.size()) {
          std::vector<BufferId>& next = last_uses_[step_ + 1];
          next.insert(next.end(), last_uses_[step_].begin(), last_uses_[step_].end());
          std::ranges::sort(next, {}, [&](BufferId b) { return s_.name_rank[b.index()]; });
        }
        continue;
      }
      if (kernel.is_extern) {
        RunExtern(kernel.operations[0]);
      } else if (kernel.rows > 0) {
        RunMixed(kernel);
      } else {
        RunLoops(kernel.operations);
      }
      FreeAfter();
      for (const OperationId id : kernel.operations) completed_.Insert(id.index());
    }
    Reuse();
    return std::move(plan_);
  }

 private:
  static constexpr size_t kNowhere = SIZE_MAX;
  enum class DraftKind : uint8_t { kAllocate, kTakeOver, kFree, kOther };
  struct Draft {
    DraftKind kind = DraftKind::kOther;
    Line line;
    size_t step = 0;
  };

  const Buffer& buffer(BufferId id) const { return g_.buffers[id]; }
  BufferId ResultOf(OperationId id) const { return g_.operations[id].result; }
  BufferId RealBuffer(BufferId id) const {
    return buffer(id).kind == Buffer::Kind::kMutation ? buffer(id).mutated : id;
  }

  void Write(DraftKind kind, Line::Kind line, BufferId b = {}, BufferId from = {}) {
    drafts_.push_back({kind, {line, b, from}, step_});
  }

  // --- Last uses

  void FindLastUses() {
    std::vector<bool> later(g_.buffers.size());
    for (const BufferView& output : g_.outputs) {
      if (output.buffer.valid()) later[RealBuffer(output.buffer).index()] = true;
    }
    last_uses_.resize(kernels_.size());
    for (size_t k = kernels_.size(); k-- > 0;) {
      for (const OperationId id : kernels_[k].operations) {
        const Unit& unit = s_.units[id];
        for (const std::vector<Access>* list : {&unit.reads, &unit.writes}) {
          for (const Access& access : *list) {
            const BufferId b = RealBuffer(access.buffer);
            if (later[b.index()]) continue;
            later[b.index()] = true;
            last_uses_[k].push_back(b);
          }
        }
      }
      std::ranges::sort(last_uses_[k], {}, [&](BufferId b) { return s_.name_rank[b.index()]; });
    }
  }

  // --- A kernel

  void RunExtern(OperationId id) {
    const BufferId b = ResultOf(id);
    if (buffer(b).kind == Buffer::Kind::kExtern) Allocate(b);
    Launch({{id}, true, 0});
  }

  void RunLoops(std::vector<OperationId> operations) {
    std::erase_if(operations, [&](OperationId id) { return summed_[id.index()]; });
    if (operations.empty()) return;
    BeginLaunch(operations);
    PlaceResults(operations, operations);
    Launch({std::move(operations), false, 0});
  }

  void BeginLaunch(const std::vector<OperationId>& operations) {
    for (const OperationId id : operations) launched_in_[id.index()] = plan_.kernels.size();
  }

  void Launch(Kernel kernel) {
    drafts_.push_back({DraftKind::kOther, {Line::Kind::kLaunch, {}, {}, plan_.kernels.size()}, step_});
    plan_.reads.push_back(ReadsOf(kernel));
    plan_.kernels.push_back(std::move(kernel));
  }

  // Memory for the results of those that write some, where `operations` are all of the kernel.
  void PlaceResults(const std::vector<OperationId>& operations, const std::vector<OperationId>& writers) {
    std::map<BufferId, BufferId> in_place;  // output -> input
    for (const OperationId id : operations) DecideInPlace(id, in_place);
    const std::vector<BufferId> removed = RemovedBuffers(operations, in_place);
    const auto is_removed = [&](BufferId b) { return std::ranges::find(removed, b) != removed.end(); };
    for (const OperationId id : writers) {
      const BufferId b = ResultOf(id);
      const auto taken = in_place.find(b);
      if (is_removed(b)) {
        if (taken != in_place.end()) freed_[taken->second.index()] = true;
        continue;
      }
      if (taken == in_place.end()) {
        Allocate(b);
        continue;
      }
      Allocate(taken->second);
      freed_[taken->second.index()] = true;
      allocated_[b.index()] = true;
      Write(DraftKind::kTakeOver, Line::Kind::kTakeOver, b, taken->second);
    }
    for (const BufferId b : removed) freed_[b.index()] = true;
  }

  // Rows and, in the same pass, partial sums of columns into a workspace, which are then added up eagerly. Where the
  // sum was split in two, the second half isn't launched any more.
  void RunMixed(const Kernel& kernel) {
    std::vector<OperationId> main(kernel.operations.begin(),
                                  kernel.operations.begin() + static_cast<std::ptrdiff_t>(kernel.rows));
    std::vector<OperationId> writers = main;
    std::vector<OperationId> epilogue;
    std::vector<BufferId> sums;
    for (size_t i = kernel.rows; i < kernel.operations.size(); ++i) {
      const OperationId id = kernel.operations[i];
      const Operation& op = g_.operations[id];
      if (!op.is_reduction()) {
        epilogue.push_back(id);
        continue;
      }
      main.push_back(id);
      BufferId sum = op.result;
      if (op.unsplit_length.is(0)) {
        writers.push_back(id);
      } else {
        freed_[sum.index()] = allocated_[sum.index()] = true;
        const OperationId second = s_.users[sum].operations[0];
        summed_[second.index()] = true;
        sum = ResultOf(second);
      }
      sums.push_back(sum);
    }
    BeginLaunch(main);
    PlaceResults(main, writers);
    const BufferId workspace = AddWorkspace(kernel, sums.size());
    Write(DraftKind::kAllocate, Line::Kind::kAllocate, workspace);
    Launch({main, false, kernel.rows});
    for (size_t i = 0; i < sums.size(); ++i) {
      drafts_.push_back({DraftKind::kOther, {Line::Kind::kColumnSum, sums[i], workspace, i}, step_});
      allocated_[sums[i].index()] = true;
    }
    Write(DraftKind::kFree, Line::Kind::kDelete, workspace);
    RunLoops(epilogue);
  }

  // [sums, parts, columns]. A part takes in so many rows that each multiprocessor has about eight.
  BufferId AddWorkspace(const Kernel& kernel, size_t sums) {
    const auto first =
        std::ranges::find_if(kernel.operations, [&](OperationId id) { return s_.units[id].length.hint() > 1; });
    const Unit& rows = s_.units[*first];
    const int64_t each = rows.results.hint() / (int64_t{8} * device_.multiprocessors);
    const int64_t part = std::clamp(static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(each))), kLeastRowsInPart,
                                    kMostRowsInPart);
    Buffer workspace;
    workspace.kind = Buffer::Kind::kWorkspace;
    workspace.name = fmt::format("workspace_{}", workspaces_++);
    const Extent parts = (rows.results + Extent(part - 1)) / Extent(part);
    workspace.sizes = {Extent(static_cast<int64_t>(sums)), parts, rows.length};
    workspace.strides = Contiguous(workspace.sizes);
    return g_.buffers.Add(std::move(workspace));
  }

  std::vector<BufferId> ReadsOf(const Kernel& kernel) const {
    std::vector<BufferId> reads;
    for (const OperationId id : kernel.operations) {
      for (const Access& read : s_.units[id].reads) {
        const BufferId b = RealBuffer(read.buffer);
        const bool own = std::ranges::any_of(kernel.operations, [&](OperationId i) { return ResultOf(i) == b; });
        if (!own && std::ranges::find(reads, b) == reads.end()) reads.push_back(b);
      }
    }
    return reads;
  }

  void Allocate(BufferId b) {
    const Buffer::Kind kind = buffer(b).kind;
    if (allocated_[b.index()] || kind == Buffer::Kind::kInput || kind == Buffer::Kind::kMutation) return;
    allocated_[b.index()] = true;
    if (kind == Buffer::Kind::kTuple || kind == Buffer::Kind::kPart) return;
    if (buffer(b).within.valid()) {
      Allocate(buffer(b).within);
      Write(DraftKind::kOther, Line::Kind::kPlaceIn, b, buffer(b).within);
      return;
    }
    Write(DraftKind::kAllocate, Line::Kind::kAllocate, b);
  }

  void FreeAfter() {
    for (const BufferId b : last_uses_[step_]) {
      if (freed_[b.index()]) continue;
      const bool is_input = buffer(b).kind == Buffer::Kind::kInput;
      if (s_.users[b].is_output) continue;
      freed_[b.index()] = true;
      const bool reusable = !is_input && buffer(b).kind != Buffer::Kind::kTuple && !buffer(b).within.valid();
      Write(reusable ? DraftKind::kFree : DraftKind::kOther, Line::Kind::kDelete, b);
    }
  }

  // --- In place

  // Whether an operation reads b exactly where it writes its result.
  bool ReadsWhereItWrites(OperationId id, BufferId b, size_t& reads) const {
    const Unit& unit = s_.units[id];
    bool same = true;
    for (const Access& read : unit.reads) {
      if (!(read.buffer == b)) continue;
      ++reads;
      const Access& write = unit.writes[0];
      same = same && !read.is_whole && !read.is_opaque && read.index == write.index && read.sizes == write.sizes;
    }
    return same;
  }

  void DecideInPlace(OperationId id, std::map<BufferId, BufferId>& in_place) {
    const BufferId result = ResultOf(id);
    if (buffer(result).kind == Buffer::Kind::kMutation || buffer(result).within.valid()) return;
    for (const Access& read : s_.units[id].reads) {
      const BufferId from = read.buffer;
      if (!CanBeTaken(from) || freed_[from.index()]) continue;
      const bool taken = std::ranges::any_of(in_place, [&](const auto& pair) { return pair.second == from; });
      if (taken || s_.users[from].is_output) continue;
      bool others = false;
      for (const OperationId user : s_.users[from].operations) {
        const bool done = s_.units[id].ancestors.Contains(user.index()) || completed_.Contains(user.index());
        others = others || (!(user == id) && !done);
      }
      size_t reads = 0;
      if (others || !ReadsWhereItWrites(id, from, reads) || !FitsInto(result, from)) continue;
      if (!ReadOneWay(from, launched_in_[id.index()])) continue;
      in_place[result] = from;
      return;
    }
  }

  bool CanBeTaken(BufferId b) const {
    switch (buffer(b).kind) {
      case Buffer::Kind::kInput:
        return is_donated_[b.index()];
      case Buffer::Kind::kLoops:
      case Buffer::Kind::kExtern:
      case Buffer::Kind::kPart:
        return true;
      case Buffer::Kind::kTuple:
      case Buffer::Kind::kMutation:
      case Buffer::Kind::kConcat:
      case Buffer::Kind::kWorkspace:
        return false;
    }
    return false;
  }

  bool FitsInto(BufferId result, BufferId from) const {
    if (buffer(result).dtype != buffer(from).dtype) return false;
    const Extent needed = g_.StorageElements(result);
    const Extent there = g_.StorageElements(from);
    if (needed == there) return true;
    const bool symbolic = needed.hint() != needed.now() || there.hint() != there.now();
    const auto n = static_cast<double>(needed.hint());
    const auto t = static_cast<double>(there.hint());
    return !symbolic && n >= kNearlyAsLarge * t && n <= t;
  }

  // All operations of the kernel that touch b do so in one way.
  bool ReadOneWay(BufferId b, size_t kernel) const {
    std::vector<Access> ways;
    for (const OperationId user : s_.users[b].operations) {
      if (launched_in_[user.index()] != kernel) continue;
      const Unit& unit = s_.units[user];
      for (const std::vector<Access>* list : {&unit.reads, &unit.writes}) {
        for (const Access& access : *list) {
          if (!(access.buffer == b)) continue;
          const Access way = Normalized(access);
          if (std::ranges::find(ways, way) == ways.end()) ways.push_back(way);
        }
      }
    }
    return ways.size() <= 1;
  }

  // Buffers that only the kernel itself reads don't exist, unless they are part of a chain in place that does, or read
  // in a later loop.
  std::vector<BufferId> RemovedBuffers(const std::vector<OperationId>& operations,
                                       const std::map<BufferId, BufferId>& in_place) const {
    const std::vector<BufferId> kept = ReadByLaterLoops(s_, operations);
    std::vector<BufferId> local;
    for (const OperationId id : operations) {
      const BufferId b = ResultOf(id);
      if (std::ranges::find(kept, b) != kept.end()) continue;
      const BufferUsers& users = s_.users[b];
      const bool is_local = !users.is_output && std::ranges::all_of(users.operations, [&](OperationId user) {
        return launched_in_[user.index()] == launched_in_[id.index()];
      });
      if (is_local && buffer(b).kind == Buffer::Kind::kLoops) local.push_back(b);
    }
    const auto is_local = [&](BufferId b) { return std::ranges::find(local, b) != local.end(); };
    // Chains: every name that shares memory with b.
    const auto all_local = [&](BufferId b) {
      std::vector<BufferId> chain = {b};
      for (size_t i = 0; i < chain.size(); ++i) {
        for (const auto& [to, from] : in_place) {
          const BufferId next = to == chain[i] ? from : from == chain[i] ? to : BufferId();
          if (next.valid() && std::ranges::find(chain, next) == chain.end()) chain.push_back(next);
        }
      }
      return std::ranges::all_of(chain, is_local);
    };
    std::vector<BufferId> removed;
    for (const BufferId b : local) {
      if (all_local(b)) removed.push_back(b);
    }
    return removed;
  }

  // --- Reuse

  using Key = std::tuple<DType, int64_t, int64_t>;
  Key KeyOf(BufferId b) const {
    const Extent elements = g_.StorageElements(b);
    return {buffer(b).dtype, elements.hint(), elements.now()};
  }

  // A dead buffer is taken over by a new one of its format and size: the one that died last, if memory allows.
  void Reuse() {
    std::map<Key, std::vector<size_t>> pool;  // drafts that free
    std::vector<int64_t> memory = estimate_.at;
    std::vector<bool> reused(drafts_.size());
    std::vector<Line> lines(drafts_.size());
    for (size_t i = 0; i < drafts_.size(); ++i) {
      const Draft& draft = drafts_[i];
      lines[i] = draft.line;
      if (draft.kind == DraftKind::kFree) pool[KeyOf(draft.line.buffer)].push_back(i);
      if (draft.kind != DraftKind::kAllocate) continue;
      std::vector<size_t>& dead = pool[KeyOf(draft.line.buffer)];
      if (dead.empty()) continue;
      const size_t freed_by = dead.back();
      const int64_t bytes =
          (SizeOf(buffer(draft.line.buffer).dtype) * g_.StorageElements(draft.line.buffer).hint()).count();
      const size_t begin = drafts_[freed_by].step + 1;
      if (begin != draft.step) {
        const auto first = memory.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto last = memory.begin() + static_cast<std::ptrdiff_t>(draft.step);
        if (*std::max_element(first, last) + bytes > estimate_.peak) continue;
        for (auto at = first; at != last; ++at) *at += bytes;
      }
      dead.pop_back();
      reused[freed_by] = true;
      lines[i] = {Line::Kind::kTakeOver, draft.line.buffer, drafts_[freed_by].line.buffer};
    }
    for (size_t i = 0; i < drafts_.size(); ++i) {
      if (!reused[i]) plan_.lines.push_back(lines[i]);
    }
  }

  const Schedule& s_;
  LoweredGraph& g_;
  const std::vector<Kernel>& kernels_;
  const MemoryEstimate& estimate_;
  const DeviceSpec& device_;
  std::vector<size_t> launched_in_;  // by operation: the kernel
  std::vector<bool> summed_;         // by operation: a mixed kernel has seen to it
  int workspaces_ = 0;
  std::vector<bool> is_donated_;  // by buffer
  std::vector<bool> allocated_;
  std::vector<bool> freed_;
  std::vector<std::vector<BufferId>> last_uses_;  // by step, by name
  OperationSet completed_;
  std::vector<Draft> drafts_;
  size_t step_ = 0;
  Plan plan_;
};

}  // namespace

Plan PlanMemory(LoweredGraph& graph, const Schedule& schedule, const std::vector<Kernel>& kernels,
                const MemoryEstimate& estimate, const std::vector<bool>& donated, const DeviceSpec& device) {
  CHECK(&graph == &schedule.graph);
  return Planning(graph, schedule, kernels, estimate, donated, device).Run();
}

std::string ToText(const LoweredGraph& graph, const Plan& plan) {
  std::string text;
  for (const Line& line : plan.lines) {
    const std::string name = line.buffer.valid() ? graph.buffers[line.buffer].name : "";
    switch (line.kind) {
      case Line::Kind::kAllocate:
        text += fmt::format("allocate {}\n", name);
        break;
      case Line::Kind::kTakeOver:
        text += fmt::format("{} takes over {}\n", name, graph.buffers[line.from].name);
        break;
      case Line::Kind::kPlaceIn:
        text += fmt::format("{} is part of {}\n", name, graph.buffers[line.from].name);
        break;
      case Line::Kind::kLaunch:
        text += "launch";
        for (const OperationId id : plan.kernels[line.kernel].operations) {
          text += " " + graph.buffers[graph.operations[id].result].name;
        }
        text += "\n";
        break;
      case Line::Kind::kDelete:
        text += fmt::format("delete {}\n", name);
        break;
      case Line::Kind::kColumnSum:
        text += fmt::format("{} sums columns of {}\n", name, graph.buffers[line.from].name);
        break;
    }
  }
  return text;
}

}  // namespace tidemark::compile
