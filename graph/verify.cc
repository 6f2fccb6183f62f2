#include "graph/verify.h"

#include <fmt/format.h>

#include <set>
#include <string>
#include <vector>

#include "graph/op.h"

namespace tidemark {
namespace {

class Verifier {
 public:
  explicit Verifier(const Graph& graph) : graph_(graph) {
    produced_.resize(graph.storages.size());
    holding_.resize(graph.storages.size());
    state_.resize(graph.holders.size());
  }

  Status Run() {
    RETURN_IF_ERROR(CheckColumns());
    RETURN_IF_ERROR(TakeHold());
    for (position_ = 0; position_ < graph_.program.size(); ++position_) {
      const Step step = graph_.program[position_];
      switch (step.kind()) {
        case Step::Kind::kOp:
          RETURN_IF_ERROR(Run(step.op()));
          break;
        case Step::Kind::kRelease:
          RETURN_IF_ERROR(Release(step.holder()));
          break;
        case Step::Kind::kPhase:
          if (step.phase().index() != phases_ || phases_ >= graph_.phases.size())
            return Wrong("phases are out of order");
          RETURN_IF_ERROR(CheckProbes(step.phase()));
          ++phases_;
          break;
      }
    }
    if (next_probe_ != graph_.probes.size()) return Wrong("probes are out of order");
    if (ops_ != graph_.ops.size()) return Wrong(fmt::format("op {} isn't in the program", ops_));
    if (phases_ != graph_.phases.size()) return Wrong(fmt::format("phase {} isn't in the program", phases_));
    for (size_t i = 0; i < graph_.storages.size(); ++i) {
      if (!produced_[StorageId(i)]) return Wrong(fmt::format("storage {} has no producer", i));
    }
    return {};
  }

 private:
  enum class State : uint8_t { kWaits, kHolds, kGone };

  Status Wrong(const std::string& what) const {
    return InvalidInput(fmt::format("graph, step {}: {}", position_, what));
  }

  Status CheckColumns() {
    for (size_t i = 0; i < graph_.tensors.size(); ++i) {
      const TensorInfo& t = graph_.tensors[TensorId(i)];
      if (t.storage.index() >= graph_.storages.size()) return Wrong(fmt::format("tensor {} has no storage", i));
      if (!LiesWithin(t)) return Wrong(fmt::format("tensor {} reaches beyond its storage", i));
    }
    for (size_t i = 0; i < graph_.holders.size(); ++i) {
      const Holder& holder = graph_.holders[HolderId(i)];
      if (holder.storage.index() >= graph_.storages.size()) return Wrong(fmt::format("holder {} holds nothing", i));
      const bool late = holder.since.valid() && holder.since.index() > graph_.ops.size();
      const bool unordered = i > 0 && Since(i) < Since(i - 1);
      if (late || unordered) return Wrong(fmt::format("holder {} takes hold out of order", i));
    }
    return {};
  }

  bool LiesWithin(const TensorInfo& t) const {
    if (t.sizes.size() != t.strides.size() || t.offset < 0) return false;
    int64_t last = t.offset;
    for (int i = 0; i < t.sizes.size(); ++i) {
      if (t.sizes[i] < 0 || t.strides[i] < 0) return false;
      if (t.sizes[i] == 0) return true;
      last += (t.sizes[i] - 1) * t.strides[i];
    }
    return SizeOf(t.dtype) * (last + 1) <= graph_.storages[t.storage].bytes;
  }

  size_t Since(size_t holder) const {
    const OpId since = graph_.holders[HolderId(holder)].since;
    return since.valid() ? since.index() : 0;
  }

  // Holders that do so before the next op.
  Status TakeHold() {
    for (; next_holder_ < graph_.holders.size() && Since(next_holder_) <= ops_; ++next_holder_) {
      const HolderId id(next_holder_);
      const StorageId storage = graph_.holders[id].storage;
      if (!produced_[storage]) return Wrong(fmt::format("holder {} takes hold of what isn't there yet", next_holder_));
      const bool is_new = graph_.storages[storage].producer.index() + 1 == ops_;
      if (holding_[storage] == 0 && !is_new)
        return Wrong(fmt::format("holder {} takes hold of what has died", next_holder_));
      ++holding_[storage];
      state_[id] = State::kHolds;
    }
    return {};
  }

  Status Release(HolderId id) {
    if (id.index() >= graph_.holders.size()) return Wrong("a release of no holder");
    if (state_[id] != State::kHolds) return Wrong(fmt::format("holder {} lets go of what it doesn't hold", id.index()));
    state_[id] = State::kGone;
    --holding_[graph_.holders[id].storage];
    return {};
  }

  Status Run(OpId id) {
    if (id.index() != ops_ || ops_ >= graph_.ops.size()) return Wrong("ops are out of order");
    const Op& op = graph_.ops[id];
    if (size_t{op.first_operand} + op.inputs + op.results > graph_.operands.size())
      return Wrong("operands are missing");
    for (const TensorId tensor : graph_.Inputs(op)) {
      if (tensor.index() >= graph_.tensors.size()) return Wrong("an operand is no tensor");
      const StorageId storage = graph_.tensors[tensor].storage;
      if (!produced_[storage])
        return Wrong(fmt::format("{} reads storage {} before it is there", Label(op), storage.index()));
      if (holding_[storage] == 0)
        return Wrong(fmt::format("{} reads storage {}, which nobody holds", Label(op), storage.index()));
    }
    RETURN_IF_ERROR(CheckKernel(id, op));
    RETURN_IF_ERROR(Produce(id, op));
    ++ops_;
    RETURN_IF_ERROR(TakeHold());
    for (const TensorId tensor : graph_.Results(op)) {
      const StorageId storage = graph_.tensors[tensor].storage;
      if (holding_[storage] == 0)
        return Wrong(fmt::format("nobody holds storage {}, a result of {}", storage.index(), Label(op)));
    }
    return {};
  }

  Status CheckKernel(OpId id, const Op& op) {
    const bool goes_on = ops_ > 0 && graph_.ops[OpId(ops_ - 1)].kernel == op.kernel;
    if (op.kernel.valid() && !goes_on && !kernels_.insert(op.kernel).second) {
      return Wrong(fmt::format("{} belongs to a kernel that has ended", Label(op)));
    }
    for (const TensorId tensor : graph_.Inputs(op)) {
      const Storage& storage = graph_.storages[graph_.tensors[tensor].storage];
      if (storage.location != Location::kKernel) continue;
      if (!op.kernel.valid() || graph_.ops[storage.producer].kernel != op.kernel) {
        return Wrong(fmt::format("{} (op {}) reads what is inside another kernel", Label(op), id.index()));
      }
    }
    return {};
  }

  Status Produce(OpId id, const Op& op) {
    uint16_t index = 0;
    for (const TensorId tensor : graph_.Results(op)) {
      if (tensor.index() >= graph_.tensors.size()) return Wrong("a result is no tensor");
      const StorageId storage = graph_.tensors[tensor].storage;
      const Storage& s = graph_.storages[storage];
      if (s.producer == id && !produced_[storage]) {
        if (s.result != index)
          return Wrong(fmt::format("storage {} is another result of its producer", storage.index()));
        produced_[storage] = true;
      } else if (!IsInput(op, storage) && !(MayTakeOver(op) && produced_[storage] && holding_[storage] > 0)) {
        return Wrong(fmt::format("{} has a result that is neither new nor an operand", Label(op)));
      }
      ++index;
    }
    return {};
  }

  bool MayTakeOver(const Op& op) const { return op.kind == OpKind::kFusedKernel || !graph_.fused.empty(); }

  Status CheckProbes(PhaseId phase) {
    for (; next_probe_ < graph_.probes.size() && graph_.probes[next_probe_].phase == phase; ++next_probe_) {
      const TensorId tensor = graph_.probes[next_probe_].tensor;
      if (tensor.index() >= graph_.tensors.size()) return Wrong("a probe of no tensor");
      if (holding_[graph_.tensors[tensor].storage] == 0) {
        return Wrong(
            fmt::format("a probe looks at storage {}, which nobody holds", graph_.tensors[tensor].storage.index()));
      }
    }
    return {};
  }

  bool IsInput(const Op& op, StorageId storage) const {
    for (const TensorId tensor : graph_.Inputs(op)) {
      if (graph_.tensors[tensor].storage == storage) return true;
    }
    return false;
  }

  std::string Label(const Op& op) const {
    return fmt::format("{}{}", IdentifierOf(op.kind), op.scope.valid() ? " @" + graph_.scopes[op.scope] : "");
  }

  const Graph& graph_;
  size_t position_ = 0;
  size_t ops_ = 0;     // that have run
  size_t phases_ = 0;  // that have begun
  size_t next_holder_ = 0;
  size_t next_probe_ = 0;
  std::set<KernelId> kernels_;
  Column<StorageId, uint8_t> produced_;
  Column<StorageId, uint32_t> holding_;
  Column<HolderId, State> state_;
};

}  // namespace

Status VerifyGraph(const Graph& graph) { return Verifier(graph).Run(); }

}  // namespace tidemark
