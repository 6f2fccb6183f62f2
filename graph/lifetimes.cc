#include "graph/lifetimes.h"

#include <algorithm>
#include <array>
#include <utility>

#include "graph/op.h"

namespace tidemark {
namespace {

constexpr Bytes kBlockStep{512};

// Walks a program and keeps count of what is alive.
class Walk {
 public:
  Walk(const Graph& graph, const DeviceSpec& device) : graph_(graph), device_(device) {
    holders_.resize(graph.storages.size());
    for (const Holder& holder : graph.holders) ++holders_[holder.storage];
    allocated_.resize(graph.storages.size());
  }

  void Take(Step step) {
    highest_ = live_;
    switch (step.kind()) {
      case Step::Kind::kOp:
        Run(step.op());
        break;
      case Step::Kind::kRelease:
        Release(graph_.holders[step.holder()].storage);
        break;
      case Step::Kind::kPhase:
        break;
    }
  }
  Bytes live() const { return live_; }
  Bytes highest() const { return highest_; }  // within the last step

 private:
  void Run(OpId id) {
    const Op& op = graph_.ops[id];
    const OpInfo& info = InfoOf(op.kind);
    if (info.memory == nullptr) {
      for (const TensorId result : graph_.Results(op)) AllocateResult(id, result);
      return;
    }
    plan_.Clear();
    info.memory(OpView(graph_, op), device_, plan_);
    temporaries_.assign(static_cast<size_t>(plan_.temporaries()), Bytes());
    for (const MemoryPlan::Item& item : plan_.items()) {
      const auto index = static_cast<size_t>(item.index);
      switch (item.kind) {
        case MemoryPlan::Kind::kResult:
          AllocateResult(id, graph_.Results(op)[index]);
          break;
        case MemoryPlan::Kind::kTemporary:
          Add(temporaries_[index] = RoundUp(item.bytes, kBlockStep));
          break;
        case MemoryPlan::Kind::kFree:
          live_ -= temporaries_[index];
          break;
        case MemoryPlan::Kind::kCublasWorkspace:
          if (std::exchange(has_workspace_[static_cast<size_t>(op.thread)], true)) break;
          Add(RoundUp(CublasWorkspaceBytes(device_), kBlockStep));
          break;
      }
    }
  }

  void AllocateResult(OpId id, TensorId tensor) {
    const StorageId storage = graph_.tensors[tensor].storage;
    const Storage& s = graph_.storages[storage];
    if (s.producer != id) return;  // in place
    Add(allocated_[storage] = RoundUp(s.bytes, kBlockStep));
  }

  void Add(Bytes bytes) {
    live_ += bytes;
    highest_ = std::max(highest_, live_);
  }

  void Release(StorageId storage) {
    if (--holders_[storage] == 0) live_ -= std::exchange(allocated_[storage], Bytes());
  }

  const Graph& graph_;
  const DeviceSpec& device_;
  Column<StorageId, uint32_t> holders_;  // that haven't let go
  Column<StorageId, Bytes> allocated_;
  std::array<bool, 2> has_workspace_{};  // by thread
  MemoryPlan plan_;
  std::vector<Bytes> temporaries_;
  Bytes live_;
  Bytes highest_;
};

}  // namespace

Lifetimes LifetimesOf(const Graph& graph) {
  Lifetimes lives;
  lives.op_at.resize(graph.ops.size());
  lives.released_at.resize(graph.holders.size());
  std::ranges::fill(lives.released_at, kNever);
  for (uint32_t position = 0; position < graph.program.size(); ++position) {
    const Step step = graph.program[position];
    if (step.kind() == Step::Kind::kOp) lives.op_at[step.op()] = position;
    if (step.kind() == Step::Kind::kRelease) lives.released_at[step.holder()] = position;
  }
  lives.born.resize(graph.storages.size());
  lives.dies.resize(graph.storages.size());
  for (size_t i = 0; i < graph.storages.size(); ++i) {
    lives.born[StorageId(i)] = lives.dies[StorageId(i)] = lives.op_at[graph.storages[StorageId(i)].producer];
  }
  for (size_t i = 0; i < graph.holders.size(); ++i) {
    uint32_t& dies = lives.dies[graph.holders[HolderId(i)].storage];
    dies = std::max(dies, lives.released_at[HolderId(i)]);
  }
  return lives;
}

LiveBytes LiveBytesOf(const Graph& graph, const DeviceSpec& device) {
  LiveBytes bytes;
  bytes.after.reserve(graph.program.size());
  bytes.during.reserve(graph.program.size());
  Walk walk(graph, device);
  for (const Step step : graph.program) {
    walk.Take(step);
    bytes.after.push_back(walk.live());
    bytes.during.push_back(walk.highest());
  }
  return bytes;
}

LivePeak LivePeakOf(const Graph& graph, const DeviceSpec& device) {
  LivePeak peak;
  Walk walk(graph, device);
  for (uint32_t position = 0; position < graph.program.size(); ++position) {
    walk.Take(graph.program[position]);
    if (walk.highest() > peak.bytes) peak = {walk.highest(), position};
  }
  return peak;
}

}  // namespace tidemark
