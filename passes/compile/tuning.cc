#include "passes/compile/tuning.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <string>

#include "passes/compile/configurations.h"
#include "passes/compile/reduction_kernel.h"

namespace tidemark::compile {
namespace {

// The code of a kernel with its buffers numbered in order of appearance: equal texts are one kernel.
class Signature {
 public:
  Signature(const LoweredGraph& graph, const Schedule& schedule) : g_(graph), s_(schedule) {}

  std::string Of(const Kernel& kernel, const std::vector<BufferId>& memory) {
    buffers_.clear();
    text_ = fmt::format("{}:", kernel.rows);
    for (const OperationId id : kernel.operations) Write(id);
    for (const BufferId b : memory) WriteBuffer(b);
    return std::move(text_);
  }

 private:
  void Write(OperationId id) {
    const Operation& op = g_.operations[id];
    const Unit& unit = s_.units[id];
    text_ += fmt::format("\n{} {} {} [", int(op.kind), int(op.reduction), int(op.hint));
    // Neighbouring loops that run through memory as one are one in the code.
    WriteExtent(unit.results);
    WriteExtent(unit.length);
    text_ += "]";
    for (const Access& access : unit.writes) WriteAccess(access);
    text_ += "<";
    for (const Access& access : unit.reads) WriteAccess(access);
    std::map<uint32_t, size_t> numbers;
    for (const ExpressionId root : {op.row, op.body}) {
      if (!root.valid()) continue;
      for (const ExpressionId e : g_.expressions.Nodes(root)) {
        const auto [at, is_new] = numbers.try_emplace(e.index(), numbers.size());
        if (is_new) WriteNode(g_.expressions[e], numbers);
      }
    }
  }

  void WriteNode(const Expression& e, const std::map<uint32_t, size_t>& numbers) {
    text_ += fmt::format(";{}.{}{} {}", int(e.kind), int(e.dtype), e.name, e.number);
    if (e.kind == ExpressionKind::kLoad) WriteBuffer(e.buffer);
    if (e.kind == ExpressionKind::kIndexValue) WriteIndex(e.indices[0]);
    for (const ExpressionId operand : e.operands) text_ += fmt::format(",{}", numbers.at(operand.index()));
  }

  void WriteAccess(const Access& given) {
    const Access access = Normalized(given);
    WriteBuffer(access.buffer);
    WriteIndex(access.index);
    for (const Extent e : access.sizes) WriteExtent(e);
  }
  void WriteIndex(const Index& index) {
    WriteExtent(index.offset());
    for (const Term& t : index.terms()) {
      text_ += fmt::format("+v{}", t.variable);
      for (const Extent e : {t.coefficient, t.divisor, t.modulus}) WriteExtent(e);
    }
  }
  void WriteExtent(Extent e) { text_ += fmt::format("{}/{} ", e.hint(), e.now()); }
  void WriteBuffer(BufferId b) {
    const auto at = buffers_.try_emplace(b, buffers_.size()).first;
    text_ += fmt::format("b{}:{} ", at->second, int(g_.buffers[b].dtype));
  }

  const LoweredGraph& g_;
  const Schedule& s_;
  std::map<BufferId, size_t> buffers_;
  std::string text_;
};

// What a kernel changes in place: buffers that it takes over although it reads them, and those it adds to.
std::vector<std::vector<BufferId>> ModifiedBuffers(const LoweredGraph& graph, const Plan& plan) {
  std::vector<std::vector<BufferId>> modified(plan.kernels.size());
  std::vector<std::pair<BufferId, BufferId>> taken;  // since the last launch: by, from
  for (const Line& line : plan.lines) {
    if (line.kind == Line::Kind::kTakeOver) taken.emplace_back(line.buffer, line.from);
    if (line.kind != Line::Kind::kLaunch) continue;
    const std::vector<BufferId>& reads = plan.reads[line.kernel];
    for (const auto& [by, from] : taken) {
      const bool read = std::ranges::find(reads, from) != reads.end();
      const bool own = std::ranges::any_of(plan.kernels[line.kernel].operations, [&, from = from](OperationId id) {
        return graph.operations[id].result == from;
      });
      if (read || own) modified[line.kernel].push_back(by);
    }
    for (const OperationId id : plan.kernels[line.kernel].operations) {
      const Buffer& result = graph.buffers[graph.operations[id].result];
      if (result.kind == Buffer::Kind::kMutation) modified[line.kernel].push_back(result.mutated);
    }
    taken.clear();
  }
  return modified;
}

int Configurations(const Schedule& schedule, const Kernel& kernel) {
  const std::optional<ReductionKernel> r = DescribeReduction(schedule, kernel.operations);
  if (!r.has_value()) return PointwiseConfigurations(schedule.units[kernel.operations[0]].results.hint());
  if (kernel.rows > 0) return 1;
  const int64_t results = r->results.hint();
  const int64_t length = r->length.hint();
  const ReductionHint hint = r->is_tiled ? ReductionHint::kDefault : r->hint;  // tiles of any form are tried
  if (r->is_persistent) return PersistentConfigurations(results, length, hint);
  const LoopedReduction looped = DescribeLoops(schedule, kernel.operations, *r);
  return LoopedConfigurations(results, length, looped.loads, hint) + (looped.tries_persistent ? 1 : 0);
}

}  // namespace

std::vector<bool> CopiesThatFit(const std::vector<Bytes>& wanted, Bytes room) {
  std::vector<bool> fit;
  for (const Bytes bytes : wanted) {
    fit.push_back(bytes <= room);
    if (fit.back()) room -= bytes;
  }
  return fit;
}

GraphTuning DescribeTuning(const LoweredGraph& graph, const Schedule& schedule, const Plan& plan, bool is_forward) {
  std::vector<std::vector<BufferId>> modified = ModifiedBuffers(graph, plan);
  GraphTuning tuning = {.kernels = std::vector<KernelTuning>(plan.kernels.size()), .spares_peak = !is_forward};
  std::map<std::string, size_t> numbers;  // of kernels, each code once
  Signature signature(graph, schedule);
  for (size_t i = 0; i < plan.kernels.size(); ++i) {
    if (plan.kernels[i].is_extern) continue;
    KernelTuning& kernel = tuning.kernels[i];
    const auto known = numbers.try_emplace(signature.Of(plan.kernels[i], modified[i]), numbers.size()).first;
    // That copies may go to the host is part of the source.
    kernel.source = fmt::format("{}{}:{}", is_forward ? "forward " : "", known->second, known->first);
    kernel.configurations = Configurations(schedule, plan.kernels[i]);
    kernel.modified = std::move(modified[i]);
  }
  return tuning;
}

}  // namespace tidemark::compile
