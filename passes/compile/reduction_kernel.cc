#include "passes/compile/reduction_kernel.h"

#include <algorithm>

#include "passes/compile/configurations.h"

namespace tidemark::compile {
namespace {

constexpr int64_t kPersistentInner = 1024;  // rows of up to so many elements are held in registers
constexpr int64_t kPersistent = 64;         // where neighbours in the reduction aren't neighbours in memory
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
    if (access.is_whole || IsLocal(access.buffer) || std::ranges::find(seen, access) != seen.end()) return;
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

  // Of the kernel alone.
  bool IsLocal(BufferId b) const {
    const BufferUsers& users = s_.users[b];
    const auto is_here = [&](OperationId id) { return std::ranges::find(operations_, id) != operations_.end(); };
    const OperationId writer = s_.graph.buffers[b].operation;
    return writer.valid() && is_here(writer) && !users.is_output && std::ranges::all_of(users.operations, is_here);
  }

  const Schedule& s_;
  const std::vector<OperationId>& operations_;
};

// Puts a kernel's operations into loops, one after another.
class Loops {
 public:
  Loops(const Schedule& schedule, const ReductionKernel& kernel)
      : s_(schedule), kernel_(kernel), unfinished_(schedule.units.size()) {}

  void Add(OperationId id) {
    const Unit& unit = s_.units[id];
    if (!IsInLoop(unit)) {
      End();  // it runs between loops
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

  const std::vector<std::vector<OperationId>>& loops() const { return loops_; }

 private:
  bool IsInLoop(const Unit& unit) const {
    return unit.length == kernel_.length || unit.results == kernel_.results * kernel_.length;
  }
  bool IsUsed(BufferId b) const { return std::ranges::find(used_, b) != used_.end(); }

  // What shares nothing with what stood before it in the loop gets one of its own.
  void End() {
    const auto middle = current_.begin() + static_cast<std::ptrdiff_t>(split_);
    if (split_ > 0) loops_.emplace_back(current_.begin(), middle);
    if (middle != current_.end()) loops_.emplace_back(middle, current_.end());
    current_.clear();
    used_.clear();
    unfinished_ = OperationSet(s_.units.size());
    split_ = 0;
  }

  const Schedule& s_;
  const ReductionKernel& kernel_;
  std::vector<std::vector<OperationId>> loops_;
  std::vector<OperationId> current_;
  std::vector<BufferId> used_;  // in the current loop
  OperationSet unfinished_;     // reductions of the current loop
  size_t split_ = 0;            // where the current loop may be cut; 0: nowhere
};

}  // namespace

std::optional<ReductionKernel> DescribeReduction(const Schedule& schedule, const std::vector<OperationId>& operations) {
  const LoweredGraph& graph = schedule.graph;
  const auto reduction =
      std::ranges::find_if(operations, [&](OperationId id) { return graph.operations[id].is_reduction(); });
  if (reduction == operations.end()) return {};
  const Unit& unit = schedule.units[*reduction];
  ReductionKernel kernel = {unit.results, unit.length, graph.operations[*reduction].hint};
  for (const OperationId id : operations) {
    const Operation& op = graph.operations[id];
    if (op.is_reduction() && op.hint != kernel.hint) kernel.hint = ReductionHint::kDefault;
  }
  if (kernel.hint == ReductionHint::kDefault && RunsAlongReduction(schedule, operations, unit))
    kernel.hint = ReductionHint::kInner;
  const bool is_open = unit.length.hint() != unit.length.now();
  kernel.is_persistent =
      !is_open && unit.length.hint() <= (kernel.hint == ReductionHint::kInner ? kPersistentInner : kPersistent);
  kernel.is_tiled = Tiles(schedule, operations).Pay();
  return kernel;
}

std::vector<BufferId> ReadByLaterLoops(const Schedule& schedule, const std::vector<OperationId>& operations) {
  const std::optional<ReductionKernel> kernel = DescribeReduction(schedule, operations);
  if (!kernel.has_value() || kernel->is_persistent) return {};
  Loops loops(schedule, *kernel);
  for (const OperationId id : operations) loops.Add(id);
  loops.Finish();
  std::vector<BufferId> written;  // in loops before
  std::vector<BufferId> kept;
  for (const std::vector<OperationId>& loop : loops.loops()) {
    for (const OperationId id : loop) {
      for (const Access& read : schedule.units[id].reads) {
        if (std::ranges::find(written, read.buffer) != written.end()) kept.push_back(read.buffer);
      }
    }
    for (const OperationId id : loop) {
      const Operation& op = schedule.graph.operations[id];
      if (!op.is_reduction() || op.reduction == ReductionKind::kScan) written.push_back(op.result);
    }
  }
  return kept;
}

}  // namespace tidemark::compile
