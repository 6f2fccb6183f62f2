#include "passes/compile/order.h"

#include <algorithm>
#include <map>
#include <queue>
#include <set>
#include <string_view>

#include "graph/base/check.h"
#include "passes/compile/add_once.h"

namespace tidemark::compile {
namespace {

// A buffer, or an input that is freed after its last use.
struct Item {
  int64_t allocated = 0;
  int64_t freed = 0;
  std::vector<int> readers;  // kernels, each once
  bool is_output = false;
  int writer = -1;  // -1: an input
};

struct Node {
  int64_t size = 0;              // bytes that its buffers take
  std::vector<size_t> results;   // items that it writes
  std::vector<size_t> operands;  // items that others write, and inputs
  std::vector<int> before;       // kernels
  std::vector<int> after;
};

// Parameters, arguments and tangents belong to the caller.
bool IsHeldByCaller(std::string_view input) {
  return input.starts_with("primals_") || input.starts_with("arg") || input.starts_with("tangents");
}

class Ordering {
 public:
  Ordering(const Schedule& schedule, std::vector<Kernel> kernels)
      : s_(schedule),
        g_(schedule.graph),
        kernels_(std::move(kernels)),
        nodes_(kernels_.size()),
        item_of_(g_.buffers.size(), kNone),
        kernel_of_(g_.operations.size(), -1) {
    for (size_t k = 0; k < kernels_.size(); ++k) {
      for (const OperationId id : kernels_[k].operations) kernel_of_[id.index()] = static_cast<int>(k);
    }
    AddInputs();
    AddBuffers();
    Link();
  }

  std::vector<Kernel> Run(MemoryEstimate* estimate) {
    std::vector<int> best(kernels_.size());
    for (size_t i = 0; i < best.size(); ++i) best[i] = static_cast<int>(i);
    MemoryEstimate lowest = Estimate(best);
    for (const auto& candidate : {LeastPeakFirst(), BreadthFirst(), DepthFirst()}) {
      MemoryEstimate of_candidate = Estimate(candidate);
      if (of_candidate.peak >= lowest.peak) continue;
      lowest = std::move(of_candidate);
      best = candidate;
    }
    std::vector<Kernel> ordered;
    for (const int i : best) ordered.push_back(std::move(kernels_[static_cast<size_t>(i)]));
    *estimate = std::move(lowest);
    return ordered;
  }

 private:
  static constexpr size_t kNone = SIZE_MAX;

  void AddInputs() {
    for (size_t k = 0; k < kernels_.size(); ++k) {
      for (const OperationId id : kernels_[k].operations) {
        for (const Access& read : s_.units[id].reads) {
          const Buffer& b = g_.buffers[read.buffer];
          if (b.kind != Buffer::Kind::kInput || IsHeldByCaller(b.name)) continue;
          size_t& item = item_of_[read.buffer.index()];
          if (item == kNone) {
            item = items_.size();
            items_.emplace_back();
          }
          items_[item].freed = items_[item].allocated = HintBytesOf(read, g_);
          AddOnce(items_[item].readers, static_cast<int>(k));
        }
      }
    }
    for (const BufferView& output : g_.outputs) {
      if (!output.buffer.valid() || item_of_[output.buffer.index()] == kNone) continue;
      items_[item_of_[output.buffer.index()]].is_output = true;
    }
    inputs_ = items_.size();
  }

  int64_t BytesOf(BufferId id) const {
    const Buffer& b = g_.buffers[id];
    return (SizeOf(b.dtype) * Product(b.sizes).hint()).count();
  }

  void AddBuffers() {
    std::vector<bool> returned(g_.buffers.size());
    for (const BufferView& output : g_.outputs) {
      if (!output.buffer.valid()) continue;
      const Buffer& b = g_.buffers[output.buffer];
      returned[(b.kind == Buffer::Kind::kMutation ? b.mutated : output.buffer).index()] = true;
    }
    for (size_t k = 0; k < kernels_.size(); ++k) {
      for (const OperationId id : kernels_[k].operations) {
        const BufferId b = g_.operations[id].result;
        const Buffer& buffer = g_.buffers[b];
        Item item;
        item.writer = static_cast<int>(k);
        item.is_output = returned[b.index()];
        if (buffer.kind == Buffer::Kind::kTuple) {
          for (const OperationId user : s_.users[b].operations) item.allocated += BytesOf(g_.operations[user].result);
        } else if (buffer.kind != Buffer::Kind::kMutation) {
          item.freed = BytesOf(b);
          if (buffer.kind != Buffer::Kind::kPart) item.allocated = item.freed;
        }
        item_of_[b.index()] = items_.size();
        nodes_[k].results.push_back(items_.size());
        nodes_[k].size += item.allocated;
        items_.push_back(std::move(item));
      }
    }
  }

  // Readers of buffers; those of a mutated buffer are those of the mutation, too.
  void Link() {
    for (size_t k = 0; k < kernels_.size(); ++k) {
      for (const BufferId b : UnmetBy(static_cast<int>(k))) {
        AddOnce(items_[item_of_[b.index()]].readers, static_cast<int>(k));
      }
    }
    for (size_t i = g_.buffers.size(); i-- > 0;) {
      const Buffer& b = g_.buffers[BufferId(i)];
      if (b.kind != Buffer::Kind::kMutation || item_of_[i] == kNone || item_of_[b.mutated.index()] == kNone) continue;
      for (const int reader : items_[item_of_[i]].readers) AddOnce(items_[item_of_[b.mutated.index()]].readers, reader);
    }
    for (size_t item = 0; item < items_.size(); ++item) {
      const int writer = items_[item].writer;
      for (const int reader : items_[item].readers) {
        AddOnce(nodes_[static_cast<size_t>(reader)].operands, item);
        if (writer < 0 || writer == reader) continue;
        AddOnce(nodes_[static_cast<size_t>(writer)].after, reader);
        AddOnce(nodes_[static_cast<size_t>(reader)].before, writer);
      }
    }
  }

  std::vector<BufferId> UnmetBy(int k) const {
    std::vector<BufferId> unmet;
    for (const OperationId id : kernels_[static_cast<size_t>(k)].operations) {
      for (const BufferId b : s_.UnmetDependencies(id)) {
        if (kernel_of_[g_.buffers[b].operation.index()] != k) AddOnce(unmet, b);
      }
    }
    return unmet;
  }

  MemoryEstimate Estimate(const std::vector<int>& order) const {
    std::vector<int> step(order.size());
    for (size_t i = 0; i < order.size(); ++i) step[static_cast<size_t>(order[i])] = static_cast<int>(i);
    std::vector<int64_t> change(order.size() + 1);
    for (const Item& item : items_) {
      const int begin = item.writer < 0 ? 0 : step[static_cast<size_t>(item.writer)];
      change[static_cast<size_t>(begin)] += item.allocated;
      if (item.is_output) continue;
      int end = item.readers.empty() ? begin : -1;
      for (const int reader : item.readers) end = std::max(end, step[static_cast<size_t>(reader)]);
      change[static_cast<size_t>(end) + 1] -= item.freed;
    }
    MemoryEstimate estimate;
    int64_t live = 0;
    for (const int64_t c : change) {
      live += c;
      estimate.at.push_back(live);
      estimate.peak = std::max(estimate.peak, live);
    }
    return estimate;
  }

  // Greedily: of the ready kernels the one that needs no new peak and frees most.
  std::vector<int> LeastPeakFirst() const {
    std::vector<int> missing(nodes_.size());
    std::vector<int64_t> to_free(nodes_.size());
    std::vector<int> uses(items_.size());
    std::set<int> ready;
    int64_t live = 0;
    int64_t outputs = 0;
    for (size_t i = 0; i < items_.size(); ++i) {
      uses[i] = static_cast<int>(items_[i].readers.size()) + (items_[i].is_output ? 1 : 0);
      if (i < inputs_) live += items_[i].freed;
      if (items_[i].is_output) outputs += items_[i].freed;
    }
    int64_t highest = std::max(live, outputs);
    for (size_t k = 0; k < nodes_.size(); ++k) {
      missing[k] = static_cast<int>(nodes_[k].before.size());
      if (missing[k] == 0) ready.insert(static_cast<int>(k));
      for (const size_t item : nodes_[k].operands) {
        if (uses[item] == 1) to_free[k] += items_[item].freed;
      }
      for (const size_t item : nodes_[k].results) {
        if (uses[item] == 0) to_free[k] += items_[item].freed;
      }
    }
    std::vector<int> order;
    while (!ready.empty()) {
      const int64_t room = highest - live;
      const auto key = [&](int k) {
        const int64_t size = nodes_[static_cast<size_t>(k)].size;
        return std::tuple(size > room ? size : 0, size - to_free[static_cast<size_t>(k)], k);
      };
      const int chosen = *std::ranges::min_element(ready, {}, key);
      ready.erase(chosen);
      order.push_back(chosen);
      const Node& node = nodes_[static_cast<size_t>(chosen)];
      live += node.size;
      highest = std::max(highest, live);
      live -= to_free[static_cast<size_t>(chosen)];
      for (const int next : node.after) {
        if (--missing[static_cast<size_t>(next)] == 0) ready.insert(next);
      }
      for (const size_t item : node.operands) {
        if (--uses[item] != 1) continue;
        for (const int reader : items_[item].readers) to_free[static_cast<size_t>(reader)] += items_[item].freed;
      }
    }
    CHECK(order.size() == nodes_.size());
    return order;
  }

  // First come, first served: by the places of those before.
  std::vector<int> BreadthFirst() const {
    std::vector<int> missing(nodes_.size());
    std::vector<int> place(nodes_.size(), -1);
    using Waiting = std::pair<std::vector<int>, int>;
    std::priority_queue<Waiting, std::vector<Waiting>, std::greater<>> ready;
    const auto enter = [&](int k) {
      std::set<int> places;
      for (const int before : nodes_[static_cast<size_t>(k)].before) places.insert(place[static_cast<size_t>(before)]);
      ready.emplace(std::vector<int>(places.begin(), places.end()), k);
    };
    for (size_t k = 0; k < nodes_.size(); ++k) {
      missing[k] = static_cast<int>(nodes_[k].before.size());
      if (missing[k] == 0) enter(static_cast<int>(k));
    }
    std::vector<int> order;
    while (!ready.empty()) {
      const int chosen = ready.top().second;
      ready.pop();
      place[static_cast<size_t>(chosen)] = static_cast<int>(order.size());
      order.push_back(chosen);
      for (const int next : nodes_[static_cast<size_t>(chosen)].after) {
        if (--missing[static_cast<size_t>(next)] == 0) enter(next);
      }
    }
    return order;
  }

  // Small ones first, each after what it depends on.
  std::vector<int> DepthFirst() const {
    std::vector<int64_t> size(nodes_.size());
    std::vector<int> by_size(nodes_.size());
    for (size_t k = 0; k < nodes_.size(); ++k) {
      size[k] = nodes_[k].size;
      for (const size_t item : nodes_[k].operands) size[k] += items_[item].freed;
      by_size[k] = static_cast<int>(k);
    }
    const auto key = [&](int k) { return std::pair(size[static_cast<size_t>(k)], k); };
    std::ranges::sort(by_size, {}, key);
    std::vector<bool> seen(nodes_.size());
    std::vector<int> order;
    struct Visit {
      int node;
      std::vector<int> rest;
    };
    std::vector<Visit> stack;
    const auto enter = [&](int k) {
      if (seen[static_cast<size_t>(k)]) return;
      seen[static_cast<size_t>(k)] = true;
      std::vector<int> rest;
      for (const BufferId b : UnmetBy(k)) AddOnce(rest, kernel_of_[g_.buffers[b].operation.index()]);
      std::ranges::sort(rest, std::greater<>(), key);
      stack.push_back({k, std::move(rest)});
    };
    for (const int k : by_size) {
      enter(k);
      while (!stack.empty()) {
        if (stack.back().rest.empty()) {
          order.push_back(stack.back().node);
          stack.pop_back();
          continue;
        }
        const int next = stack.back().rest.back();
        stack.back().rest.pop_back();
        enter(next);
      }
    }
    return order;
  }

  const Schedule& s_;
  const LoweredGraph& g_;
  std::vector<Kernel> kernels_;
  std::vector<Node> nodes_;
  std::vector<Item> items_;      // inputs first
  std::vector<size_t> item_of_;  // by buffer
  std::vector<int> kernel_of_;   // by operation
  size_t inputs_ = 0;
};

}  // namespace

std::vector<Kernel> OrderForMemory(const Schedule& schedule, std::vector<Kernel> kernels, MemoryEstimate* estimate) {
  return Ordering(schedule, std::move(kernels)).Run(estimate);
}

}  // namespace tidemark::compile
