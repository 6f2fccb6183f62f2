#include "passes/compile/schedule.h"

#include <algorithm>
#include <numeric>

#include "graph/base/check.h"
#include "passes/compile/add_once.h"
#include "passes/compile/layout.h"

namespace tidemark::compile {
namespace {

// The operation's dimensions as indices over the loops of a split.
void MapSplitLoops(const Operation& op, const Unit::Loops& loops, std::vector<Index>& map, std::vector<Extent>& sizes) {
  Shape whole;
  for (const int d : loops.whole) whole.Append(op.sizes[d]);
  Shape split;
  for (const Extent e : loops.split) split.Append(e);
  std::vector<Index> ordered(loops.split.size());
  for (const int i : loops.order) {
    ordered[static_cast<size_t>(i)] = Index::Variable(static_cast<int>(sizes.size()));
    sizes.push_back(loops.split[static_cast<size_t>(i)]);
  }
  const std::vector<Index> flat = ReshapeIndices(whole, split);
  for (size_t i = 0; i < loops.whole.size(); ++i) {
    map[static_cast<size_t>(loops.whole[i])] = flat[i].Substitute(ordered, sizes);
  }
}

}  // namespace

Schedule::Schedule(const LoweredGraph& lowered) : graph(lowered) {
  const size_t n = graph.operations.size();
  units.resize(n);
  users.resize(graph.buffers.size());
  std::vector<uint32_t> by_name(graph.buffers.size());
  std::iota(by_name.begin(), by_name.end(), 0U);
  std::ranges::sort(by_name, {}, [&](uint32_t i) { return std::string_view(graph.buffers[BufferId(i)].name); });
  name_rank.resize(by_name.size());
  for (uint32_t i = 0; i < by_name.size(); ++i) name_rank[by_name[i]] = i;
  Renames();
  for (size_t i = 0; i < n; ++i) {
    const Operation& op = graph.operations[OperationId(i)];
    Unit& unit = units[OperationId(i)];
    unit.is_extern =
        op.kind == Operation::Kind::kExtern || op.kind == Operation::Kind::kPart || op.kind == Operation::Kind::kConcat;
    unit.ancestors = OperationSet(n);
    if (!unit.is_extern) {
      // Loops in the order of the strides that are written.
      std::vector<int64_t> strides;
      const Shape& written = graph.buffers[op.result].strides;
      Shape loop_sizes;
      std::vector<int> dims;
      for (int d = 0; d < op.sizes.size(); ++d) {
        if (op.sizes[d].is(1)) continue;
        dims.push_back(d);
        loop_sizes.Append(op.sizes[d]);
        const bool scatter = op.kind == Operation::Kind::kScatter;
        strides.push_back(!scatter ? written[d].hint() : d == op.sizes.size() - 1 ? written.back().hint() : 0);
      }
      const std::vector<int> picked = PickLoopOrder({strides}, loop_sizes);
      for (size_t k = picked.size(); k-- > 0;) unit.loops.order.push_back(dims[static_cast<size_t>(picked[k])]);
    }
    Refresh(OperationId(i));
    order.push_back(OperationId(i));
  }
  FindUsers();
  const auto sort = [&] {
    std::vector<int> items;
    std::vector<std::vector<BufferId>> dependencies(n);
    std::vector<int> owner(graph.buffers.size(), -1);
    for (const OperationId id : order) {
      items.push_back(static_cast<int>(id.index()));
      dependencies[id.index()] = UnmetDependencies(id);
      owner[graph.operations[id].result.index()] = static_cast<int>(id.index());
    }
    order.clear();
    for (const int i : TopologicalOrder(*this, items, dependencies, owner)) order.emplace_back(static_cast<size_t>(i));
  };
  sort();
  RemoveDead();
  FindAncestors();
}

void Schedule::Renames() {
  for (size_t i = 0; i < graph.buffers.size(); ++i) renamed.Add(BufferId(i));
  for (size_t i = 0; i < graph.buffers.size(); ++i) {
    const Buffer& b = graph.buffers[BufferId(i)];
    if (b.kind == Buffer::Kind::kMutation) renamed[b.mutated] = BufferId(i);
  }
}

void Schedule::Refresh(OperationId id) {
  const Operation& op = graph.operations[id];
  Unit& unit = units[id];
  unit.reads.clear();
  unit.writes.clear();
  if (unit.is_extern) {
    for (const BufferView& view : op.operands) AddOnce(unit.reads, {.buffer = view.buffer, .is_whole = true});
    unit.writes.push_back({.buffer = op.result, .is_whole = true});
    return;
  }
  // The operation's variables as loops.
  unit.sizes.clear();
  unit.reduced.clear();
  std::vector<Index> map(static_cast<size_t>(op.sizes.size() + op.reduced.size()));
  const Unit::Loops& loops = unit.loops;
  if (loops.split.empty()) {
    for (const int d : loops.order) {
      map[static_cast<size_t>(d)] = Index::Variable(static_cast<int>(unit.sizes.size()));
      unit.sizes.push_back(op.sizes[d]);
    }
  } else {
    MapSplitLoops(op, loops, map, unit.sizes);
  }
  for (int d = 0; d < op.reduced.size(); ++d) {
    if (op.reduced[d].is(1)) continue;
    map[static_cast<size_t>(op.sizes.size()) + static_cast<size_t>(d)] =
        Index::Variable(static_cast<int>(unit.sizes.size() + unit.reduced.size()));
    unit.reduced.push_back(op.reduced[d]);
  }
  std::vector<Extent> ranges = unit.sizes;
  ranges.insert(ranges.end(), unit.reduced.begin(), unit.reduced.end());
  std::vector<Extent> old_ranges(op.sizes.begin(), op.sizes.end());
  old_ranges.insert(old_ranges.end(), op.reduced.begin(), op.reduced.end());
  unit.results = Product(op.sizes);
  unit.length = Product(op.reduced);

  const auto access = [&](BufferId buffer, const Index& index, bool opaque) {
    Access a = {.buffer = buffer, .is_opaque = opaque, .index = index.Substitute(map, ranges), .sizes = ranges};
    while (!a.sizes.empty() && !a.index.Uses(static_cast<int>(a.sizes.size()) - 1)) a.sizes.pop_back();
    return a;
  };
  for (const ExpressionId root : {op.row, op.body}) {
    if (!root.valid()) continue;
    for (const ExpressionId e : graph.expressions.Nodes(root)) {
      const Expression& load = graph.expressions[e];
      if (load.kind != ExpressionKind::kLoad) continue;
      AddOnce(unit.reads, access(load.buffer, graph.Linear(load, old_ranges), load.is_opaque));
    }
  }
  const Buffer& result = graph.buffers[op.result];
  Index written;
  const bool scatter = op.kind == Operation::Kind::kScatter;
  if (scatter) {
    written = Index::Variable(kIndirectVariable) * result.strides[0];
    const int last = op.sizes.size() - 1;
    if (!op.sizes[last].is(1)) written = written + Index::Variable(last) * result.strides[1];
    AddOnce(unit.reads, {.buffer = result.mutated, .is_whole = true, .is_atomic = true});
  } else {
    written = Index(result.offset);
    const bool is_scan = op.reduction == ReductionKind::kScan;
    for (int d = 0; d < result.sizes.size(); ++d) {
      const bool has_loop = is_scan || d < op.sizes.size();
      if (has_loop && !result.sizes[d].is(1)) written = written + Index::Variable(d) * result.strides[d];
    }
  }
  Access write = access(op.result, written, false);
  write.is_atomic = scatter;
  unit.writes.push_back(std::move(write));
}

std::vector<BufferId> Schedule::UnmetDependencies(OperationId id) const {
  std::vector<BufferId> unmet;
  for (const Access& read : units[id].reads) {
    if (graph.buffers[read.buffer].kind != Buffer::Kind::kInput) AddOnce(unmet, read.buffer);
  }
  return unmet;
}

void Schedule::FindUsers() {
  for (const OperationId id : order) {
    for (const Access& read : units[id].reads) AddOnce(users[read.buffer].operations, id);
  }
  for (const BufferView& output : graph.outputs) {
    if (output.buffer.valid()) users[renamed[output.buffer]].is_output = true;
  }
}

void Schedule::RemoveDead() {
  for (size_t i = order.size(); i-- > 0;) {
    const BufferId result = graph.operations[order[i]].result;
    const auto& readers = users[result].operations;
    const bool needed =
        users[result].is_output || std::ranges::any_of(readers, [&](OperationId id) { return !units[id].is_dead; });
    if (needed) continue;
    units[order[i]].is_dead = true;
    for (const Access& read : units[order[i]].reads) std::erase(users[read.buffer].operations, order[i]);
  }
  std::erase_if(order, [&](OperationId id) { return units[id].is_dead; });
}

void Schedule::FindAncestors() {
  int position = 0;
  for (const OperationId id : order) {
    Unit& unit = units[id];
    unit.order = position++;
    for (const BufferId b : UnmetDependencies(id)) {
      const OperationId writer = graph.buffers[b].operation;
      unit.ancestors.Insert(writer.index());
      unit.ancestors.Add(units[writer].ancestors);
    }
  }
}

std::vector<int> TopologicalOrder(const Schedule& schedule, const std::vector<int>& items,
                                  const std::vector<std::vector<BufferId>>& dependencies,
                                  const std::vector<int>& owner_of_buffer) {
  std::vector<int> result;
  std::vector<bool> seen(dependencies.size());
  struct Visit {
    int item;
    std::vector<BufferId> rest;  // to visit, the next one last
  };
  std::vector<Visit> stack;
  const auto enter = [&](int item) {
    if (seen[static_cast<size_t>(item)]) return;
    seen[static_cast<size_t>(item)] = true;
    std::vector<BufferId> sorted = dependencies[static_cast<size_t>(item)];
    std::ranges::sort(sorted, std::greater<>(), [&](BufferId b) { return schedule.name_rank[b.index()]; });
    stack.push_back({item, std::move(sorted)});
  };
  for (const int item : items) {
    enter(item);
    while (!stack.empty()) {
      if (stack.back().rest.empty()) {
        result.push_back(stack.back().item);
        stack.pop_back();
        continue;
      }
      const BufferId next = stack.back().rest.back();
      stack.back().rest.pop_back();
      const int owner = owner_of_buffer[next.index()];
      if (owner >= 0) enter(owner);
    }
  }
  return result;
}

}  // namespace tidemark::compile
