#include "passes/compile/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "graph/base/check.h"

namespace tidemark::compile {
namespace {

constexpr double kNearlyAsLarge = 0.95;

class Planning {
 public:
  Planning(const Schedule& schedule, std::vector<Kernel> kernels, const MemoryEstimate& estimate,
           const std::vector<bool>& donated)
      : s_(schedule), g_(schedule.graph), estimate_(estimate), kernel_of_(g_.operations.size(), kNowhere) {
    plan_.kernels = std::move(kernels);
    const size_t n = g_.buffers.size();
    is_donated_.resize(n);
    for (size_t i = 0; i < g_.inputs.size(); ++i) is_donated_[g_.inputs[i].index()] = i < donated.size() && donated[i];
    allocated_.resize(n);
    freed_.resize(n);
    completed_ = OperationSet(g_.operations.size());
    for (size_t k = 0; k < plan_.kernels.size(); ++k) {
      for (const OperationId id : plan_.kernels[k].operations) kernel_of_[id.index()] = k;
    }
    FindLastUses();
  }

  Plan Run() {
    for (size_t k = 0; k < plan_.kernels.size(); ++k) {
      kernel_ = k;
      RunKernel(plan_.kernels[k]);
      for (const OperationId id : plan_.kernels[k].operations) completed_.Insert(id.index());
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
    size_t kernel = 0;
  };

  const Buffer& buffer(BufferId id) const { return g_.buffers[id]; }
  BufferId ResultOf(OperationId id) const { return g_.operations[id].result; }
  BufferId RealBuffer(BufferId id) const {
    return buffer(id).kind == Buffer::Kind::kMutation ? buffer(id).mutated : id;
  }

  void Write(DraftKind kind, Line::Kind line, BufferId b = {}, BufferId from = {}) {
    drafts_.push_back({kind, {line, b, from, kernel_}, kernel_});
  }

  // --- Last uses

  void FindLastUses() {
    std::vector<bool> later(g_.buffers.size());
    for (const BufferView& output : g_.outputs) {
      if (output.buffer.valid()) later[RealBuffer(output.buffer).index()] = true;
    }
    last_uses_.resize(plan_.kernels.size());
    for (size_t k = plan_.kernels.size(); k-- > 0;) {
      for (const OperationId id : plan_.kernels[k].operations) {
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

  void RunKernel(const Kernel& kernel) {
    if (kernel.is_extern) {
      const BufferId b = ResultOf(kernel.operations[0]);
      if (buffer(b).kind == Buffer::Kind::kExtern) Allocate(b);
      Write(DraftKind::kOther, Line::Kind::kLaunch, b);
    } else {
      std::map<BufferId, BufferId> in_place;  // output -> input
      for (const OperationId id : kernel.operations) DecideInPlace(id, in_place);
      const std::vector<BufferId> removed = RemovedBuffers(kernel, in_place);
      const auto is_removed = [&](BufferId b) { return std::ranges::find(removed, b) != removed.end(); };
      for (const OperationId id : kernel.operations) {
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
      Write(DraftKind::kOther, Line::Kind::kLaunch);
    }
    FreeAfter();
  }

  void Allocate(BufferId b) {
    const Buffer::Kind kind = buffer(b).kind;
    if (allocated_[b.index()] || kind == Buffer::Kind::kInput || kind == Buffer::Kind::kMutation) return;
    allocated_[b.index()] = true;
    if (kind == Buffer::Kind::kTuple || kind == Buffer::Kind::kPart) return;
    Write(DraftKind::kAllocate, Line::Kind::kAllocate, b);
  }

  void FreeAfter() {
    for (const BufferId b : last_uses_[kernel_]) {
      if (freed_[b.index()]) continue;
      const bool is_input = buffer(b).kind == Buffer::Kind::kInput;
      if (s_.users[b].is_output) continue;
      freed_[b.index()] = true;
      const bool reusable = !is_input && buffer(b).kind != Buffer::Kind::kTuple;
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
    if (buffer(result).kind == Buffer::Kind::kMutation) return;
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
      if (!ReadOneWay(from, kernel_of_[id.index()])) continue;
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
      if (kernel_of_[user.index()] != kernel) continue;
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

  // Buffers that only the kernel itself reads don't exist, unless they are part of a chain in place that does.
  std::vector<BufferId> RemovedBuffers(const Kernel& kernel, const std::map<BufferId, BufferId>& in_place) const {
    std::vector<BufferId> local;
    for (const OperationId id : kernel.operations) {
      const BufferId b = ResultOf(id);
      const BufferUsers& users = s_.users[b];
      const bool is_local = !users.is_output && std::ranges::all_of(users.operations, [&](OperationId user) {
        return kernel_of_[user.index()] == kernel_of_[id.index()];
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
      const size_t begin = drafts_[freed_by].kernel + 1;
      if (begin != draft.kernel) {
        const auto first = memory.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto last = memory.begin() + static_cast<std::ptrdiff_t>(draft.kernel);
        if (*std::max_element(first, last) + bytes > estimate_.peak) continue;
        for (auto at = first; at != last; ++at) *at += bytes;
      }
      dead.pop_back();
      reused[freed_by] = true;
      lines[i] = {Line::Kind::kTakeOver, draft.line.buffer, drafts_[freed_by].line.buffer, draft.kernel};
    }
    for (size_t i = 0; i < drafts_.size(); ++i) {
      if (!reused[i]) plan_.lines.push_back(lines[i]);
    }
  }

  const Schedule& s_;
  const LoweredGraph& g_;
  const MemoryEstimate& estimate_;
  std::vector<size_t> kernel_of_;  // by operation
  std::vector<bool> is_donated_;   // by buffer
  std::vector<bool> allocated_;
  std::vector<bool> freed_;
  std::vector<std::vector<BufferId>> last_uses_;  // by kernel, by name
  OperationSet completed_;
  std::vector<Draft> drafts_;
  size_t kernel_ = 0;
  Plan plan_;
};

}  // namespace

Plan PlanMemory(const Schedule& schedule, std::vector<Kernel> kernels, const MemoryEstimate& estimate,
                const std::vector<bool>& donated) {
  return Planning(schedule, std::move(kernels), estimate, donated).Run();
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
      default:
        text += fmt::format("workspace {}\n", name);
        break;
    }
  }
  return text;
}

}  // namespace tidemark::compile
