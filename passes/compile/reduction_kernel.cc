#include "passes/compile/reduction_kernel.h"

#include <algorithm>

#include "passes/compile/add_once.h"
#include "passes/compile/configurations.h"

namespace tidemark::compile {
namespace {

constexpr int64_t kPersistentInner = 1024;  // rows of up to so many elements are held in registers
constexpr int64_t kPersistent = 64;         // where neighbours in the reduction aren't neighbours in memory
constexpr int64_t kLongestLoopedBlock = 2048;
constexpr int64_t kLongestPersistent = 32768;  // that a looped reduction is tried as, too
constexpr int64_t kFewLoads = 8;               // and reductions
constexpr int64_t kFewAccesses = 10;
constexpr double kWorthHolding = 1.3;  // bytes that loops read for each that is read once
constexpr int64_t kInnerRatio = 32;
constexpr int64_t kSmallInnerRatio = 16;
constexpr int64_t kSmallInnerLength = 512;

// Whether what the kernel touches lies side by side along the reduction, by bytes; else along the results.
bool RunsAlongReduction(const Schedule& schedule, const std::vector<OperationId>& operations, const Unit& reduction) {
  int64_t along_reduction = 0;
  int64_t along_results = 0;
  std::vector<Access> seen;
  for (const OperationId id : operations) {
    const Unit& unit = schedule.units[id];
    const bool covers_reduction =
        unit.length == reduction.length || unit.results == reduction.results * reduction.length;
    for (const std::vector<Access>* list : {&unit.reads, &unit.writes}) {
      for (const Access& access : *list) {
        if (access.is_whole || std::ranges::find(seen, access) != seen.end()) continue;
        seen.push_back(access);
        for (size_t loop = 0; loop < access.loops(); ++loop) {
          if (!access.index.StrideOf(static_cast<int>(loop)).is(1)) continue;
          const bool inner = covers_reduction && loop + 1 == unit.sizes.size() + unit.reduced.size();
          (inner ? along_reduction : along_results) += HintBytesOf(access, schedule.graph);
        }
      }
    }
  }
  along_results = std::max<int64_t>(along_results, 1);
  if (along_reduction >= kInnerRatio * along_results) return true;
  return along_reduction >= kSmallInnerRatio * along_results && RoundedUp(reduction.length.hint()) <= kSmallInnerLength;
}

// Whether nobody but the kernel of these operations needs a buffer.
bool IsLocal(const Schedule& schedule, const std::vector<OperationId>& operations, BufferId b) {
  const BufferUsers& users = schedule.users[b];
  const auto is_here = [&](OperationId id) { return std::ranges::find(operations, id) != operations.end(); };
  const OperationId writer = schedule.graph.buffers[b].operation;
  return writer.valid() && is_here(writer) && !users.is_output && std::ranges::all_of(users.operations, is_here);
}

// What a kernel touches, in bytes, by which loop of results runs through it side by side. Writes count twice.
struct TiledBytes {
  double rows = 0;
  double columns = 0;
  double neither = 0;  // elements that are looked up
};

class Tiles {
 public:
  Tiles(const Schedule& schedule, const std::vector<OperationId>& operations) : s_(schedule), operations_(operations) {}

  // Whether tiles pay: where rows have data of their own, and few elements.
  bool Pay() const {
    const Unit& first = s_.units[operations_[0]];
    if (first.sizes.size() != 2) return false;
    TiledBytes bytes;
    std::vector<Access> seen;
    for (const OperationId id : operations_) {
      const Unit& unit = s_.units[id];
      if (unit.sizes != first.sizes) return false;
      for (const Access& read : unit.reads) Add(read, 1, seen, bytes);
      for (const Access& write : unit.writes) Add(write, 2, seen, bytes);
    }
    const int64_t rows = first.sizes[0].hint();
    const int64_t columns = first.sizes[1].hint();
    const double looked_up = kWeightOfLookups * bytes.neither;
    const double tiled = Scored(bytes.rows, rows) + Scored(bytes.columns, columns) + looked_up;
    const double flat = Scored(bytes.columns, rows * columns) + looked_up;
    return tiled / (Penalty(rows) * Penalty(columns)) > flat / Penalty(rows * columns);
  }

 private:
  static constexpr double kWeightOfLookups = 0.05;
  static constexpr int64_t kWholeTransaction = 8;  // elements

  static double Scored(double bytes, int64_t size) {
    return bytes * static_cast<double>(std::min(size, kWholeTransaction)) / kWholeTransaction;
  }
  static double Penalty(int64_t size) { return size >= 32 && size % 32 == 0 ? 1.005 : 1.025; }

  void Add(const Access& access, double weight, std::vector<Access>& seen, TiledBytes& bytes) const {
    const Buffer& buffer = s_.graph.buffers[access.buffer];
    if (access.is_whole || IsLocal(s_, operations_, access.buffer) || std::ranges::find(seen, access) != seen.end())
      return;
    seen.push_back(access);
    int64_t elements = 1;
    for (size_t i = 0; i < access.loops(); ++i) {
      if (access.index.Uses(static_cast<int>(i))) elements *= access.sizes[i].hint();
    }
    elements = std::min(elements, Product(buffer.sizes).hint());
    const double touched = weight * static_cast<double>((SizeOf(buffer.dtype) * elements).count());
    if (access.IsIndirect()) {
      bytes.neither += touched;
    } else if (access.index.StrideOf(0).is(1)) {
      bytes.rows += touched;
    } else if (access.index.StrideOf(1).is(1)) {
      bytes.columns += touched;
    }
  }

  const Schedule& s_;
  const std::vector<OperationId>& operations_;
};

struct Loop {
  std::vector<OperationId> inside;
  std::vector<OperationId> after;  // before the next loop
};

// Puts a kernel's operations into loops, one after another.
class Loops {
 public:
  Loops(const Schedule& schedule, const ReductionKernel& kernel)
      : s_(schedule), kernel_(kernel), unfinished_(schedule.units.size()) {}

  void Add(OperationId id) {
    const Unit& unit = s_.units[id];
    if (!IsInLoop(unit)) {
      End();
      if (loops_.empty()) loops_.emplace_back();
      loops_.back().after.push_back(id);
      return;
    }
    if (unfinished_.Meets(unit.ancestors)) End();
    const bool shares = std::ranges::any_of(unit.reads, [&](const Access& a) { return IsUsed(a.buffer); });
    if (used_.empty() || shares) {
      split_ = 0;
    } else if (split_ == 0) {
      split_ = current_.size();
    }
    current_.push_back(id);
    for (const Access& read : unit.reads) used_.push_back(read.buffer);
    const Operation& op = s_.graph.operations[id];
    if (op.is_reduction() && op.reduction != ReductionKind::kScan) {
      unfinished_.Insert(id.index());
    } else {
      for (const Access& write : unit.writes) used_.push_back(write.buffer);
    }
  }

  void Finish() {
    split_ = 0;
    End();
  }

  const std::vector<Loop>& loops() const { return loops_; }

 private:
  bool IsInLoop(const Unit& unit) const {
    return unit.length == kernel_.length || unit.results == kernel_.results * kernel_.length;
  }
  bool IsUsed(BufferId b) const { return std::ranges::find(used_, b) != used_.end(); }

  // What shares nothing with what stood before it in the loop gets one of its own.
  void End() {
    const auto middle = current_.begin() + static_cast<std::ptrdiff_t>(split_);
    if (split_ > 0) loops_.push_back({{current_.begin(), middle}, {}});
    if (middle != current_.end()) loops_.push_back({{middle, current_.end()}, {}});
    current_.clear();
    used_.clear();
    unfinished_ = OperationSet(s_.units.size());
    split_ = 0;
  }

  const Schedule& s_;
  const ReductionKernel& kernel_;
  std::vector<Loop> loops_;
  std::vector<OperationId> current_;
  std::vector<BufferId> used_;  // in the current loop
  OperationSet unfinished_;     // reductions of the current loop
  size_t split_ = 0;            // where the current loop may be cut; 0: nowhere
};

// What a looped reduction reads, and what it would read if it held all elements of a result.
// Source: codegen/simd_kernel_features.py (MemoryEstimator).
class Traffic {
 public:
  Traffic(const Schedule& schedule, const std::vector<OperationId>& operations, const ReductionKernel& kernel)
      : s_(schedule), operations_(operations), kernel_(kernel) {
    Loops loops(schedule, kernel);
    for (const OperationId id : operations) loops.Add(id);
    loops.Finish();
    for (const Loop& loop : loops.loops()) {
      in_loops_.emplace_back();
      for (const OperationId id : loop.inside) Visit(id, true);
      for (const OperationId id : loop.after) Visit(id, false);
    }
    DropLocal();
  }

  // Loads of the loops' code, as Inductor counts them: without what is looked up and seeds.
  int64_t loads() const {
    const auto counted = [&](const Memory& m) {
      return std::ranges::count_if(
          m.reads, [&](const Access& a) { return a.IsIndirect() ? IsIn(direct_, a.buffer) : !IsIn(seeds_, a.buffer); });
    };
    int64_t count = counted(outside_);
    for (const Memory& loop : in_loops_) count += counted(loop);
    return count;
  }
  int64_t accesses_held() const { return static_cast<int64_t>(held_.reads.size() + held_.writes.size()); }
  int64_t bytes_held() const { return BytesOf(held_.reads); }
  int64_t bytes_in_loops() const {
    int64_t bytes = BytesOf(outside_.reads);
    for (const Memory& loop : in_loops_) bytes += BytesOf(loop.reads);
    return bytes;
  }

 private:
  struct Memory {
    std::vector<Access> reads;
    std::vector<Access> writes;
    bool Writes(BufferId b) const { return std::ranges::find(writes, b, &Access::buffer) != writes.end(); }
    bool Reads(BufferId b) const { return std::ranges::find(reads, b, &Access::buffer) != reads.end(); }
    void Drop(BufferId b) {
      std::erase_if(reads, [&](const Access& a) { return a.buffer == b; });
      std::erase_if(writes, [&](const Access& a) { return a.buffer == b; });
    }
  };

  // Whether an access depends on the loop over elements: one of the unit's innermost loops, which make up the length.
  bool UsesElements(const Unit& unit, const Access& access) const {
    std::vector<Extent> sizes = unit.sizes;
    sizes.insert(sizes.end(), unit.reduced.begin(), unit.reduced.end());
    Extent length = 1;
    for (size_t i = sizes.size(); i-- > 0 && !(length == kernel_.length);) {
      if (access.index.Uses(static_cast<int>(i))) return true;
      length *= sizes[i];
    }
    return false;
  }

  void Visit(OperationId id, bool is_inside) {
    const Unit& unit = s_.units[id];
    const auto memory_of = [&](const Access& access) -> Memory& {
      return is_inside && (access.IsIndirect() || UsesElements(unit, access)) ? in_loops_.back() : outside_;
    };
    for (const Access& read : unit.reads) {
      if (read.is_whole) continue;
      const Access access = Normalized(read);
      if (read.IsIndirect() && IsFoundByPosition(id, read.buffer)) direct_.push_back(read.buffer);
      if (IsSeed(id, read.buffer)) seeds_.push_back(read.buffer);
      if (!held_.Writes(read.buffer)) AddOnce(held_.reads, access);
      if (outside_.Writes(read.buffer) || in_loops_.back().Writes(read.buffer)) continue;
      AddOnce(memory_of(read).reads, access);
      if (IsIn(stored_, read.buffer) && in_loops_.back().Reads(read.buffer)) kept_.push_back(read.buffer);
    }
    for (const Access& write : unit.writes) {
      if (write.is_whole) continue;
      stored_.push_back(write.buffer);
      AddOnce(held_.writes, Normalized(write));
      AddOnce(memory_of(write).writes, Normalized(write));
    }
  }

  template <typename Condition>
  bool AnyInBody(OperationId id, const Condition& condition) const {
    const ExpressionId body = s_.graph.operations[id].body;
    if (!body.valid()) return false;
    const Expressions& expressions = s_.graph.expressions;
    return std::ranges::any_of(expressions.Nodes(body), [&](ExpressionId e) { return condition(expressions[e]); });
  }
  static bool IsLoadOf(const Expression& e, BufferId b) { return e.kind == ExpressionKind::kLoad && e.buffer == b; }

  // Rows that an operation looks up by numbers which it computes from its loops alone: its code has no lookup.
  bool IsFoundByPosition(OperationId id, BufferId b) const {
    return AnyInBody(id, [&](const Expression& load) {
      return IsLoadOf(load, b) && !load.operands.empty() &&
             std::ranges::all_of(load.operands, [&](ExpressionId operand) {
               return s_.graph.expressions[operand].kind == ExpressionKind::kIndexValue;
             });
    });
  }
  // Of random numbers.
  bool IsSeed(OperationId id, BufferId b) const {
    return AnyInBody(id, [&](const Expression& call) {
      return call.kind == ExpressionKind::kCall && call.name == "rand" &&
             IsLoadOf(s_.graph.expressions[call.operands[0]], b);
    });
  }

  static bool IsIn(const std::vector<BufferId>& list, BufferId b) { return std::ranges::find(list, b) != list.end(); }

  void DropLocal() {
    for (const BufferId b : stored_) {
      if (held_.Reads(b) || !IsLocal(s_, operations_, b)) continue;
      held_.Drop(b);
      if (IsIn(kept_, b)) continue;
      outside_.Drop(b);
      for (Memory& loop : in_loops_) loop.Drop(b);
    }
  }

  int64_t BytesOf(const std::vector<Access>& reads) const {
    int64_t bytes = 0;
    for (size_t i = 0; i < reads.size(); ++i) {
      const BufferId b = reads[i].buffer;
      if (std::ranges::find(reads.begin(), reads.begin() + static_cast<std::ptrdiff_t>(i), b, &Access::buffer) !=
          reads.begin() + static_cast<std::ptrdiff_t>(i)) {
        continue;  // counted with the first
      }
      int64_t of_buffer = 0;
      int count = 0;
      for (const Access& read : reads) {
        if (!(read.buffer == b)) continue;
        of_buffer += HintBytesOf(read, s_.graph);
        ++count;
      }
      const Buffer& buffer = s_.graph.buffers[b];
      const int64_t all = (SizeOf(buffer.dtype) * Product(buffer.sizes).hint()).count();
      bytes += count > 1 ? std::min(of_buffer, all) : of_buffer;
    }
    return bytes;
  }

  const Schedule& s_;
  const std::vector<OperationId>& operations_;
  const ReductionKernel& kernel_;
  Memory held_;
  Memory outside_;
  std::vector<Memory> in_loops_;
  std::vector<BufferId> stored_;
  std::vector<BufferId> direct_;  // looked up by position
  std::vector<BufferId> seeds_;
  std::vector<BufferId> kept_;
};

// Whether each access of a reduction runs through its buffer from one end to the other.
bool IsContiguous(const Unit& unit) {
  const auto is_run = [](const Access& access) {
    if (access.is_whole) return false;
    const Index index = Normalized(access).index;
    if (index.is_constant()) return true;
    const auto& terms = index.terms();
    return terms.size() == 1 && index.offset().is(0) && terms[0].coefficient.is(1) && terms[0].divisor.is(1) &&
           terms[0].modulus.is(0) && terms[0].variable < kIndirectVariable;
  };
  return std::ranges::all_of(unit.reads, is_run) && std::ranges::all_of(unit.writes, is_run);
}

}  // namespace

std::optional<ReductionKernel> DescribeReduction(const Schedule& schedule, const std::vector<OperationId>& operations) {
  const LoweredGraph& graph = schedule.graph;
  const auto reduction =
      std::ranges::find_if(operations, [&](OperationId id) { return graph.operations[id].is_reduction(); });
  if (reduction == operations.end()) return {};
  const Unit& unit = schedule.units[*reduction];
  ReductionKernel kernel = {.results = unit.results, .length = unit.length};
  const auto hint_of = [&](OperationId id) {
    return IsContiguous(schedule.units[id]) ? ReductionHint::kInner : graph.operations[id].hint;
  };
  kernel.hint = hint_of(*reduction);
  for (const OperationId id : operations) {
    if (graph.operations[id].is_reduction() && hint_of(id) != kernel.hint) kernel.hint = ReductionHint::kDefault;
  }
  if (kernel.hint == ReductionHint::kDefault && RunsAlongReduction(schedule, operations, unit))
    kernel.hint = ReductionHint::kInner;
  const bool is_open = unit.length.hint() != unit.length.now();
  kernel.is_persistent =
      !is_open && unit.length.hint() <= (kernel.hint == ReductionHint::kInner ? kPersistentInner : kPersistent);
  kernel.is_tiled = Tiles(schedule, operations).Pay();
  return kernel;
}

LoopedReduction DescribeLoops(const Schedule& schedule, const std::vector<OperationId>& operations,
                              const ReductionKernel& kernel) {
  const Traffic traffic(schedule, operations, kernel);
  const auto is_reduction = [&](OperationId id) { return schedule.graph.operations[id].is_reduction(); };
  LoopedReduction looped = {.loads = traffic.loads() + std::ranges::count_if(operations, is_reduction)};
  const Unit& unit = schedule.units[*std::ranges::find_if(operations, is_reduction)];
  const bool is_open = unit.length.hint() != unit.length.now();
  const int64_t length = unit.length.hint();
  const auto held = static_cast<double>(std::max<int64_t>(traffic.bytes_held(), 1));
  looped.tries_persistent = !is_open && !kernel.is_tiled && length > kLongestLoopedBlock &&
                            length <= kLongestPersistent && looped.loads <= kFewLoads &&
                            traffic.accesses_held() <= kFewAccesses &&
                            static_cast<double>(traffic.bytes_in_loops()) >= kWorthHolding * held &&
                            RunsAlongReduction(schedule, operations, unit);
  return looped;
}

std::vector<BufferId> ReadByLaterLoops(const Schedule& schedule, const std::vector<OperationId>& operations) {
  const std::optional<ReductionKernel> kernel = DescribeReduction(schedule, operations);
  if (!kernel.has_value() || kernel->is_persistent) return {};
  Loops loops(schedule, *kernel);
  for (const OperationId id : operations) loops.Add(id);
  loops.Finish();
  std::vector<BufferId> written;  // in loops before
  std::vector<BufferId> kept;
  for (const Loop& loop : loops.loops()) {
    for (const OperationId id : loop.inside) {
      for (const Access& read : schedule.units[id].reads) {
        if (std::ranges::find(written, read.buffer) != written.end()) kept.push_back(read.buffer);
      }
    }
    for (const OperationId id : loop.inside) {
      const Operation& op = schedule.graph.operations[id];
      if (!op.is_reduction() || op.reduction == ReductionKind::kScan) written.push_back(op.result);
    }
  }
  return kept;
}

}  // namespace tidemark::compile
