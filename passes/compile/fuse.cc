#include "passes/compile/fuse.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "graph/base/check.h"

namespace tidemark::compile {
namespace {

constexpr int kRounds = 10;
constexpr size_t kPairsWithin = 64;     // max_fusion_buffer_group_pairwise_attempts
constexpr size_t kMostOperations = 64;  // max_fusion_size
constexpr int kFarApart = 64;
constexpr int64_t kLeastSharedBytes = 10;  // score_fusion_memory_threshold
constexpr int64_t kMemoryFactor = 32;
constexpr int64_t kScoreFactor = 16;
// Mix-order reductions.
constexpr int64_t kMixedLeastElements = 5 << 20;
constexpr int64_t kMixedLeastRows = 4096;
constexpr int64_t kMixedMostColumns = 16384;
constexpr size_t kMixedMostReads = 10;

struct Group {
  std::vector<OperationId> operations;
  std::vector<Access> reads;
  std::vector<Access> writes;
  std::vector<BufferId> unmet;  // buffers that other groups write
  std::vector<BufferId> used;   // buffers, each once
  OperationSet members;
  OperationSet ancestors;
  Extent results = 1;
  Extent length = 1;
  bool is_reduction = false;
  bool is_extern = false;
  bool is_dead = false;  // fused into another one
  int first = 0;         // positions of its operations before fusion
  int last = 0;
  // Row sums and column sums together.
  std::shared_ptr<Group> rows;
  std::shared_ptr<Group> columns;
};

struct Score {
  int kind = 0;
  int64_t memory = 0;
  int64_t proximity = 0;
};

bool IsLess(const Score& a, const Score& b) {
  if (std::max(a.memory, b.memory) > std::min(a.memory, b.memory) * kScoreFactor) return a.memory < b.memory;
  return std::tuple(a.kind, a.memory, a.proximity) < std::tuple(b.kind, b.memory, b.proximity);
}

template <typename T>
bool AddOnce(std::vector<T>& list, const T& item) {
  if (std::ranges::find(list, item) != list.end()) return false;
  list.push_back(item);
  return true;
}

class Fusion {
 public:
  explicit Fusion(Schedule& schedule) : s_(schedule), g_(schedule.graph), owner_(g_.operations.size(), -1) {}

  std::vector<Kernel> Run() {
    for (const OperationId id : s_.order) {
      owner_[id.index()] = static_cast<int>(groups_.size());
      groups_.push_back(MakeGroup({id}));
      order_.push_back(owner_[id.index()]);
    }
    SortByDependencies();
    for (int round = 0; round < kRounds; ++round) {
      const size_t before = order_.size();
      FuseOnce(false);
      if (order_.size() == before || order_.size() == 1) break;
    }
    FuseOnce(true);
    std::vector<Kernel> kernels;
    for (const int i : order_) {
      const Group& group = At(i);
      kernels.push_back({group.operations, group.is_extern, group.rows ? group.rows->operations.size() : 0});
    }
    return kernels;
  }

 private:
  Group& At(int i) { return groups_[static_cast<size_t>(i)]; }

  // --- Groups

  Group MakeGroup(std::vector<OperationId> operations) {
    Group group;
    group.operations = std::move(operations);
    Refresh(group);
    return group;
  }

  void Refresh(Group& group) {
    group.reads.clear();
    group.writes.clear();
    group.unmet.clear();
    group.used.clear();
    group.members = group.ancestors = OperationSet(g_.operations.size());
    group.is_reduction = false;
    group.first = s_.units[group.operations[0]].order;
    group.last = group.first;
    for (const OperationId id : group.operations) {
      const Unit& unit = s_.units[id];
      group.members.Insert(id.index());
      group.ancestors.Add(unit.ancestors);
      group.first = std::min(group.first, unit.order);
      group.last = std::max(group.last, unit.order);
      group.is_extern = unit.is_extern;
      for (const Access& write : unit.writes) AddOnce(group.writes, write);
      for (const std::vector<Access>* list : {&unit.reads, &unit.writes}) {
        for (const Access& a : *list) AddOnce(group.used, a.buffer);
      }
      const bool reduces = g_.operations[id].is_reduction();
      if (id == group.operations[0] || (reduces && !group.is_reduction)) {
        group.results = unit.results;
        group.length = unit.length;
      }
      group.is_reduction = group.is_reduction || reduces;
    }
    for (const OperationId id : group.operations) {
      for (const Access& read : s_.units[id].reads) {
        if (std::ranges::find(group.writes, read) == group.writes.end()) AddOnce(group.reads, read);
        const Buffer& b = g_.buffers[read.buffer];
        if (b.kind == Buffer::Kind::kInput || group.members.Contains(b.operation.index())) continue;
        AddOnce(group.unmet, read.buffer);
      }
    }
  }

  void SortByDependencies() {
    std::vector<std::vector<BufferId>> dependencies(groups_.size());
    std::vector<int> owner(g_.buffers.size(), -1);
    for (const int i : order_) {
      dependencies[static_cast<size_t>(i)] = At(i).unmet;
      for (const OperationId id : At(i).operations) owner[g_.operations[id].result.index()] = i;
    }
    order_ = TopologicalOrder(s_, order_, dependencies, owner);
  }

  // --- Rounds

  void FuseOnce(bool reorder) {
    for (const auto& [first, second] : Candidates(reorder)) {
      const int a = owner_[first.index()];
      const int b = owner_[second.index()];
      if (!CanFuse(At(a), At(b), reorder, true) || MakesCycle(At(a), At(b))) continue;
      FusePair(a, b);
    }
    order_.clear();
    for (size_t i = 0; i < groups_.size(); ++i) {
      if (!groups_[i].is_dead) order_.push_back(static_cast<int>(i));
    }
    std::ranges::sort(order_, {}, [&](int i) { return At(i).first; });
    SortByDependencies();
  }

  // Pairs, best first, as their first operations: groups may be fused by the time that a pair's turn comes.
  std::vector<std::pair<OperationId, OperationId>> Candidates(bool reorder) {
    std::vector<std::vector<int>> by_buffer(g_.buffers.size());
    std::vector<BufferId> seen_buffers;
    for (const int i : order_) {
      if (At(i).is_extern) continue;
      for (const BufferId b : At(i).used) {
        if (by_buffer[b.index()].empty()) seen_buffers.push_back(b);
        by_buffer[b.index()].push_back(i);
      }
    }
    std::vector<std::pair<int, int>> pairs;
    std::set<std::pair<int, int>> seen;
    for (const BufferId b : seen_buffers) {
      const std::vector<int>& list = by_buffer[b.index()];
      for (size_t i = 0; i < list.size(); ++i) {
        for (size_t j = i + 1; j < std::min(list.size(), i + 1 + kPairsWithin); ++j) {
          if (!seen.emplace(list[i], list[j]).second) continue;
          if (CanFuse(At(list[i]), At(list[j]), reorder, true)) pairs.emplace_back(list[i], list[j]);
        }
      }
    }
    std::vector<Score> scores;
    std::vector<size_t> order(pairs.size());
    for (size_t i = 0; i < pairs.size(); ++i) {
      scores.push_back(ScoreOf(At(pairs[i].first), At(pairs[i].second)));
      order[i] = i;
    }
    std::ranges::stable_sort(order, [&](size_t a, size_t b) { return IsLess(scores[b], scores[a]); });
    std::vector<std::pair<OperationId, OperationId>> result;
    for (const size_t i : order) {
      result.emplace_back(At(pairs[i].first).operations[0], At(pairs[i].second).operations[0]);
    }
    return result;
  }

  void FusePair(int a, int b) {
    Group fused = Merge(At(a), At(b));
    At(a).is_dead = At(b).is_dead = true;
    const int id = static_cast<int>(groups_.size());
    for (const OperationId op : fused.operations) owner_[op.index()] = id;
    groups_.push_back(std::move(fused));
  }

  Group Merge(const Group& a, const Group& b) {
    if (AreMixedOrder(a, b)) return IsContiguous(a) ? MixedOrder(a, b) : MixedOrder(b, a);
    if (a.rows) {
      if (b.rows) return MixedOrder(Concatenated(*a.rows, *b.rows), Concatenated(*a.columns, *b.columns));
      if (CanJoinHalf(a, *a.rows, b, {a.columns.get()})) return MixedOrder(Concatenated(*a.rows, b), *a.columns);
      return MixedOrder(*a.rows, Concatenated(*a.columns, b));
    }
    return Concatenated(a, b);
  }

  Group Concatenated(const Group& a, const Group& b) {
    std::vector<OperationId> operations = a.operations;
    operations.insert(operations.end(), b.operations.begin(), b.operations.end());
    return MakeGroup(std::move(operations));
  }

  Group MixedOrder(const Group& rows, const Group& columns) {
    Group group = Concatenated(rows, columns);
    group.rows = std::make_shared<Group>(rows);
    group.columns = std::make_shared<Group>(columns);
    return group;
  }

  // A path from one to the other through a third, fused group.
  bool MakesCycle(const Group& a, const Group& b) {
    OperationSet members = a.members;
    members.Add(b.members);
    OperationSet ancestors = a.ancestors;
    ancestors.Add(b.ancestors);
    ancestors.Remove(members);
    std::vector<bool> visited(groups_.size());
    bool cycle = false;
    std::vector<int> stack;
    const auto push = [&](const OperationSet& set) { set.ForEach([&](size_t op) { stack.push_back(owner_[op]); }); };
    push(ancestors);
    while (!stack.empty() && !cycle) {
      const int i = stack.back();
      stack.pop_back();
      const Group& group = At(i);
      if (group.operations.size() == 1 || visited[static_cast<size_t>(i)]) continue;
      visited[static_cast<size_t>(i)] = true;
      if (group.members.IsSubsetOf(ancestors)) continue;
      cycle = members.Meets(group.ancestors);
      OperationSet further = group.ancestors;
      further.Remove(ancestors);
      push(further);
    }
    return cycle;
  }

  // --- Scores

  int64_t SizeOf(const Access& a, bool bytes) const { return bytes ? HintBytesOf(a, g_) : ElementsOf(a, g_).hint(); }

  int64_t SharedMemory(const Group& a, const Group& b, bool allow_mixed = true, bool bytes = true) {
    if (allow_mixed && AreMixedOrder(a, b)) return (NumbersOf(a).first * NumbersOf(a).second).hint();
    int64_t shared = 0;
    const auto uses = [](const Group& group, const Access& access) {
      return std::ranges::find(group.reads, access) != group.reads.end() ||
             std::ranges::find(group.writes, access) != group.writes.end();
    };
    for (const Access& access : a.reads) {
      if (uses(b, access)) shared += SizeOf(access, bytes);
    }
    for (const Access& access : a.writes) {
      const bool read_too = std::ranges::find(a.reads, access) != a.reads.end();
      if (!read_too && uses(b, access)) shared += SizeOf(access, bytes);
    }
    return shared;
  }

  static int Distance(const Group& a, const Group& b) {
    return std::max(std::abs(a.first - b.last), std::abs(b.first - a.last));
  }

  Score ScoreOf(const Group& a, const Group& b) {
    Score score;
    score.memory = SharedMemory(a, b);
    score.kind = a.is_reduction == b.is_reduction && score.memory > 0 ? 1 : 0;
    score.proximity = -Distance(a, b);
    return score;
  }

  // --- Legality and worth

  bool CanFuse(Group& a, Group& b, bool reorder, bool allow_mixed) {
    if (&a == &b || a.is_extern || b.is_extern) return false;
    if (a.rows) return CanJoinMixed(a, b);
    if (b.rows) return false;
    if (b.members.Meets(a.ancestors)) return false;
    const std::vector<Unit::Loops> loops = LoopsOf(a, b);
    const bool can = CanFuseOrdinary(a, b, reorder, allow_mixed);
    if (!can) RestoreLoops(a, b, loops);
    return can;
  }

  bool CanFuseOrdinary(Group& a, Group& b, bool reorder, bool allow_mixed) {
    int64_t shared = SharedMemory(a, b, allow_mixed);
    if (reorder && shared < kLeastSharedBytes) {
      std::optional<int64_t> reordered = SharedAfterReordering(a, b);
      if (!reordered.has_value()) reordered = SharedAfterSplitting(a, b);
      if (reordered.has_value()) shared = *reordered;
    }
    if (shared == 0) return false;
    if (a.operations.size() + b.operations.size() > kMostOperations) return false;
    if (CostsMemory(a, b)) return false;
    if (a.members.Meets(b.ancestors)) return CanFollow(a, b) && GroupsFit(a, b);
    if (!AreMixedOrder(a, b)) {
      if (shared < kLeastSharedBytes) return false;
      if (Distance(a, b) > kFarApart) return false;
    }
    return GroupsFit(a, b);
  }

  // Without fusion, buffers that both read and nobody else does could be taken over one after the other.
  bool CostsMemory(const Group& a, const Group& b) {
    using Key = std::pair<DType, int64_t>;
    const auto keys = [&](const Group& group, std::vector<Key>& list, bool& symbolic) {
      for (const Access& read : group.reads) {
        const Buffer& buffer = g_.buffers[read.buffer];
        const bool has_memory = buffer.kind != Buffer::Kind::kInput && buffer.kind != Buffer::Kind::kTuple;
        if (!has_memory || s_.users[read.buffer].count() != 1) continue;
        const Extent elements = g_.StorageElements(read.buffer);
        symbolic = symbolic || elements.hint() != elements.now();
        AddOnce(list, Key(buffer.dtype, elements.hint()));
      }
    };
    std::vector<Key> of_a;
    std::vector<Key> of_b;
    bool symbolic = false;
    keys(a, of_a, symbolic);
    keys(b, of_b, symbolic);
    int64_t overhead = 0;
    bool common_symbolic = false;
    for (const Key& key : of_a) {
      if (std::ranges::find(of_b, key) == of_b.end()) continue;
      overhead += key.second;
      common_symbolic = symbolic;
    }
    if (common_symbolic) return false;
    return overhead > kMemoryFactor * SharedMemory(a, b);
  }

  // b reads what a writes, exactly so, and nothing lies between them.
  bool CanFollow(const Group& a, const Group& b) {
    std::vector<Access> remaining;
    for (const OperationId id : b.operations) {
      for (const Access& read : s_.units[id].reads) {
        if (std::ranges::find(b.unmet, read.buffer) == b.unmet.end()) continue;
        const bool matched = std::ranges::any_of(a.writes, [&](const Access& w) { return Matches(read, w); });
        if (!matched) AddOnce(remaining, read);
      }
    }
    for (const Access& read : remaining) {
      const OperationId writer = g_.buffers[read.buffer].operation;
      if (a.members.Contains(writer.index())) return false;
      if (a.members.Meets(At(owner_[writer.index()]).ancestors)) return false;
    }
    return true;
  }

  static bool Matches(const Access& read, const Access& write) {
    if (!(read.buffer == write.buffer) || read.is_whole) return false;
    if (read.IsIndirect() || write.IsIndirect() || write.is_atomic) return false;
    if (SameWithPrefix(read, write)) return true;
    if (read.loops() == write.loops()) return false;
    return SameWithPrefix(Normalized(read), Normalized(write));
  }
  static bool SameWithPrefix(const Access& read, const Access& write) {
    if (read.is_opaque || !(read.index == write.index) || read.loops() < write.loops()) return false;
    return std::equal(write.sizes.begin(), write.sizes.end(), read.sizes.begin());
  }

  bool GroupsFit(const Group& a, const Group& b) {
    if (a.is_reduction && b.is_reduction) {
      return (a.results == b.results && a.length == b.length) || AreMixedOrder(a, b);
    }
    if (!a.is_reduction && !b.is_reduction) return a.results == b.results && a.length == b.length;
    const Group& pointwise = a.is_reduction ? b : a;
    const Group& reduction = a.is_reduction ? a : b;
    if (pointwise.results == reduction.results * reduction.length) {
      return std::ranges::all_of(pointwise.operations, [&](OperationId id) {
        return CanSplitLoops(s_.units[id].sizes, reduction.results, reduction.length);
      });
    }
    return pointwise.results == reduction.results;
  }

  // Whether loops of these sizes are those of a reduction of `results` times `length`, cut into pieces.
  static bool CanSplitLoops(const std::vector<Extent>& sizes, Extent results, Extent length) {
    std::array<Extent, 2> rest = {results, length};
    size_t at = 0;
    const auto take = [&rest](size_t i, Extent size) {
      if (i >= rest.size() || !rest[i].DivisibleBy(size)) return false;
      rest[i] = rest[i] / size;
      return true;
    };
    for (const Extent size : sizes) {
      if (size.is(1)) continue;
      while (at < rest.size() && rest[at].is(1)) ++at;
      if (at == 0 && size.hint() > rest[0].hint()) {
        if (!size.DivisibleBy(rest[0])) return false;
        const Extent first = rest[0];
        if (!take(0, first) || !take(1, size / first)) return false;
      } else if (!take(at, size)) {
        return false;
      }
    }
    return true;
  }

  // --- Loop orders

  std::vector<Unit::Loops> LoopsOf(const Group& a, const Group& b) const {
    std::vector<Unit::Loops> loops;
    for (const Group* group : {&a, &b}) {
      for (const OperationId id : group->operations) loops.push_back(s_.units[id].loops);
    }
    return loops;
  }

  void RestoreLoops(Group& a, Group& b, const std::vector<Unit::Loops>& loops) {
    size_t i = 0;
    for (Group* group : {&a, &b}) {
      bool changed = false;
      for (const OperationId id : group->operations) {
        Unit::Loops& now = s_.units[id].loops;
        if (!(now == loops[i])) {
          now = loops[i];
          s_.Refresh(id);
          changed = true;
        }
        ++i;
      }
      if (changed) Refresh(*group);
    }
  }

  static const Access* LastOf(const std::vector<Access>& list, BufferId b) {
    const auto at = std::ranges::find(list.rbegin(), list.rend(), b, &Access::buffer);
    return at == list.rend() ? nullptr : &*at;
  }

  // Whether the order of loops may be all that differs between what is written and what is read of it.
  static bool HasSizesOf(const Access& read, const Access& write) {
    if (read.is_whole || write.is_whole) return true;
    const std::vector<Extent> sizes = Normalized(read).sizes;
    return std::ranges::all_of(Normalized(write).sizes,
                               [&](Extent e) { return std::ranges::find(sizes, e) != sizes.end(); });
  }

  // Shared bytes once one side's loops run in the other's order, if that is how they differ.
  std::optional<int64_t> SharedAfterReordering(Group& a, Group& b) {
    struct Candidate {
      bool is_dependency;
      int64_t elements;
      Access of_a;
      Access of_b;
    };
    std::optional<Candidate> best;
    std::vector<BufferId> common;
    for (const std::vector<Access>* list : {&a.reads, &a.writes}) {
      for (const Access& access : *list) {
        const bool scalar = access.is_whole || access.index.is_constant();
        if (!scalar) AddOnce(common, access.buffer);
      }
    }
    for (const BufferId buffer : common) {
      const Access* a_write = LastOf(a.writes, buffer);
      const Access* b_write = LastOf(b.writes, buffer);
      const Access* a_read = LastOf(a.reads, buffer);
      const Access* b_read = LastOf(b.reads, buffer);
      const Access* of_a = a_write != nullptr ? a_write : a_read;
      const Access* of_b = b_write != nullptr ? b_write : b_read;
      if (of_a == nullptr || of_b == nullptr || of_b->is_whole || of_b->index.is_constant()) continue;
      const bool dependency = (a_write != nullptr && b_read != nullptr) || (b_write != nullptr && a_read != nullptr);
      if (!(NormalizedByStride(*of_a) == NormalizedByStride(*of_b))) {
        const Access& write = a_write != nullptr ? *a_write : *of_b;
        const Access& read = b_read != nullptr ? *b_read : *of_a;
        if (dependency && !HasSizesOf(read, write)) return {};
        continue;
      }
      const int64_t elements = ElementsOf(*of_a, g_).hint();
      if (!best.has_value() || std::tuple(best->is_dependency, best->elements) < std::tuple(dependency, elements)) {
        best = Candidate{dependency, elements, *of_a, *of_b};
      }
    }
    if (!best.has_value() || best->of_a.is_whole) return {};
    if (best->of_a.loops() != best->of_b.loops()) {
      if (Normalized(best->of_a) == Normalized(best->of_b)) return HintBytesOf(best->of_a, g_);
      return {};
    }
    bool reordered = false;
    if (!a.is_reduction) {
      reordered = Reorder(a, best->of_a, best->of_b);
    } else if (!b.is_reduction) {
      reordered = Reorder(b, best->of_b, best->of_a);
    }
    if (!reordered) return {};
    return SharedMemory(a, b);
  }

  bool Reorder(Group& group, const Access& mine, const Access& other) {
    const std::vector<Extent> sizes = s_.units[group.operations[0]].sizes;
    for (const OperationId id : group.operations) {
      if (s_.units[id].sizes != sizes) return false;
    }
    if (sizes.size() != mine.loops() || sizes.size() != other.loops()) return false;
    const std::optional<std::vector<int>> order = OrderToMatch(mine, other);
    if (!order.has_value()) return false;
    for (const OperationId id : group.operations) {
      std::vector<int>& loops = s_.units[id].loops.order;
      std::vector<int> now;
      for (const int i : *order) now.push_back(loops[static_cast<size_t>(i)]);
      loops = std::move(now);
      s_.Refresh(id);
    }
    Refresh(group);
    return true;
  }

  // Shared bytes once a pointwise group runs the two loops of a reduction, results and length, in the reduction's
  // order: possible where both are equally long. Inductor also weighs how much memory traffic that costs, but
  // reductions that long are split, and below that a launch costs more.
  std::optional<int64_t> SharedAfterSplitting(Group& a, Group& b) {
    if (a.is_reduction == b.is_reduction) return {};
    Group& pointwise = a.is_reduction ? b : a;
    const Group& reduction = a.is_reduction ? a : b;
    const Extent results = reduction.results;
    const Extent length = reduction.length;
    if (!(results == length) || !(pointwise.results == results * length)) return {};
    for (const OperationId id : pointwise.operations) {
      const Unit& unit = s_.units[id];
      if (g_.operations[id].kind != Operation::Kind::kLoops || !unit.loops.split.empty()) return {};
      if (!(unit.results == results * length) || !CanSplitLoops(unit.sizes, results, length)) return {};
      if (unit.sizes == std::vector<Extent>{results, length}) return {};
    }
    const std::vector<Unit::Loops> loops = LoopsOf(a, b);
    for (const OperationId id : pointwise.operations) {
      Unit::Loops& now = s_.units[id].loops;
      now = {.order = {0, 1}, .whole = now.order, .split = {results, length}};
      s_.Refresh(id);
    }
    Refresh(pointwise);
    const std::optional<int64_t> shared = SharedAfterReordering(a, b);
    if (!shared.has_value()) RestoreLoops(a, b, loops);
    return shared;
  }

  // --- Row sums and column sums of the same data

  bool IsSplit(const Group& group) const {
    return group.is_reduction && std::ranges::all_of(group.operations, [&](OperationId id) {
             const Operation& op = g_.operations[id];
             return !op.is_reduction() || op.unsplit_length.hint() != 0;
           });
  }

  // Results and length of a group's reduction, before any split.
  std::pair<Extent, Extent> NumbersOf(const Group& group) const {
    if (IsSplit(group)) {
      for (const OperationId id : group.operations) {
        const Operation& op = g_.operations[id];
        if (op.is_reduction()) return {op.unsplit_results, op.unsplit_length};
      }
    }
    return {group.results, group.length};
  }

  bool IsFullAccess(BufferId buffer, const Group& group) const {
    const auto read =
        std::ranges::find_if(group.reads, [&](const Access& a) { return a.buffer == buffer && !a.is_whole; });
    if (read == group.reads.end()) return false;
    const Unit& unit = s_.units[group.operations[0]];
    std::vector<Extent> loops = unit.sizes;
    loops.insert(loops.end(), unit.reduced.begin(), unit.reduced.end());
    bool all = true;
    for (size_t i = 0; i < loops.size(); ++i) all = all && read->index.Uses(static_cast<int>(i));
    if (all) return true;
    Extent mine = 1;
    Extent whole = 1;
    for (const Extent e : read->sizes) mine *= e;
    for (const Extent e : loops) whole *= e;
    return mine == whole;
  }

  // Whether the last loop of each operation runs through neighbouring elements.
  bool IsContiguous(const Group& group) const {
    for (const OperationId id : group.operations) {
      const Unit& unit = s_.units[id];
      const int last = static_cast<int>(unit.sizes.size() + unit.reduced.size()) - 1;
      for (const Access& read : unit.reads) {
        if (read.is_whole || last < 0) continue;
        const Extent stride = read.index.StrideOf(last);
        if (!stride.is(0) && !stride.is(1)) return false;
      }
    }
    return true;
  }

  // Whether a size is at least that: decided once and for all lengths, with a guard.
  bool IsAtLeast(Extent size, int64_t least) const {
    const bool is = size.hint() >= least;
    s_.guards_hold = s_.guards_hold && is == (size.now() >= least);
    return is;
  }

  bool AreMixedOrder(const Group& a, const Group& b) const {
    if (!a.is_reduction || !b.is_reduction || a.rows || b.rows) return false;
    if (a.ancestors.Meets(b.members) || b.ancestors.Meets(a.members)) return false;
    const auto [a_results, a_length] = NumbersOf(a);
    const auto [b_results, b_length] = NumbersOf(b);
    if (a_results == b_results && a_length == b_length) return false;
    if (!(a_results == b_length) || !(a_length == b_results)) return false;
    const bool common = std::ranges::any_of(a.used, [&](BufferId buffer) {
      return std::ranges::find(b.used, buffer) != b.used.end() && IsFullAccess(buffer, a) && IsFullAccess(buffer, b);
    });
    if (!common) return false;
    const bool a_rows = IsContiguous(a);
    if (!a_rows && !IsContiguous(b)) return false;
    const Group& rows = a_rows ? a : b;
    const Group& columns = a_rows ? b : a;
    const auto [count, width] = NumbersOf(rows);
    if (!IsAtLeast(count * width, kMixedLeastElements) || !IsAtLeast(count, (Extent(2) * width).hint()) ||
        !IsAtLeast(count, kMixedLeastRows) || width.hint() > kMixedMostColumns) {
      return false;
    }
    if (IsSplit(rows)) return false;
    for (const OperationId id : rows.operations) {
      const Operation& op = g_.operations[id];
      if (op.is_reduction() && op.hint == ReductionHint::kOuter) return false;
    }
    return std::ranges::all_of(columns.operations, [&](OperationId id) {
      const Operation& op = g_.operations[id];
      return !op.is_reduction() || op.reduction == ReductionKind::kSum;
    });
  }

  bool CanJoinMixed(Group& mixed, Group& other) {
    std::set<BufferId> reads;
    for (const Group* group : {&mixed, &other}) {
      for (const OperationId id : group->operations) {
        for (const Access& read : s_.units[id].reads) {
          if (!read.is_whole) reads.insert(read.buffer);
        }
      }
    }
    if (reads.size() > kMixedMostReads) return false;
    if (!other.rows) {
      return CanJoinHalf(mixed, *mixed.rows, other, {mixed.columns.get()}) ||
             CanJoinHalf(mixed, *mixed.columns, other, {mixed.rows.get()});
    }
    return CanJoinHalf(mixed, *mixed.rows, *other.rows, {mixed.columns.get(), other.columns.get()}) &&
           CanJoinHalf(mixed, *mixed.columns, *other.columns, {});
  }

  bool CanJoinHalf(const Group& mixed, const Group& half, const Group& other, const std::vector<const Group*>& others) {
    Group a = half;
    Group b = other;
    if (!CanFuse(a, b, false, false)) return false;
    if (IsContiguous(half) && !IsContiguous(other)) return false;
    for (const Group* third : others) {
      const bool after = half.ancestors.Meets(third->members) || other.ancestors.Meets(third->members);
      const bool before = third->ancestors.Meets(half.members) || third->ancestors.Meets(other.members);
      if (after || before) return false;
    }
    const auto [results, length] = NumbersOf(*mixed.rows);
    return !other.is_reduction || SharedMemory(half, other, true, false) >= (results * length).hint();
  }

  Schedule& s_;
  const LoweredGraph& g_;
  std::deque<Group> groups_;
  std::vector<int> owner_;  // by operation: its group
  std::vector<int> order_;  // of groups
};

}  // namespace

std::vector<Kernel> Fuse(Schedule& schedule) { return Fusion(schedule).Run(); }

std::string ToText(const LoweredGraph& graph, const std::vector<Kernel>& kernels) {
  std::string text;
  for (const Kernel& kernel : kernels) {
    text += kernel.is_extern ? "extern" : kernel.rows > 0 ? "mixed" : "kernel";
    for (const OperationId id : kernel.operations) text += " " + graph.buffers[graph.operations[id].result].name;
    text += "\n";
  }
  return text;
}

}  // namespace tidemark::compile
