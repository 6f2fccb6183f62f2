// A lifetime that ends one op too early, or a placement on top of a live neighbour, must show: by the poison that is
// read, or by a value that isn't what it was.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "kernels/host_backend.h"
#include "tests/kernels/execution.h"
#include "tests/support/cases.h"
#include "tests/support/tapes.h"

namespace tidemark {
namespace {

// For each of two models. Fewer under sanitizers, which make a run ten times as long and look for something else.
constexpr int kMutations = kSanitized ? 25 : 500;
constexpr double kNoticed = 0.99;

// Whether the op looks at the numbers of its input (not only at its shape).
bool Reads(const Op& op, size_t input, const Attributes& a) {
  if (op.kind == OpKind::kOnesLike) return false;
  if (op.kind == OpKind::kNllLossBackward) return input != 1;
  if (op.kind == OpKind::kCopyInto) return input != 0;
  if (op.kind == OpKind::kSgdStep && a.integer[0] != 0) return input < op.inputs / size_t{3} * 2;
  return true;
}

// When which storage is written and read, in steps of the program; reads count only where what is computed from them
// reaches a loss, a gradient or the final state.
struct Uses {
  std::vector<std::vector<size_t>> reads, writes;  // by storage, rising
};

Uses UsesOf(const Graph& graph) {
  Uses uses;
  uses.reads.resize(graph.storages.size());
  uses.writes.resize(graph.storages.size());
  std::vector<bool> matters(graph.storages.size());
  std::vector<size_t> phase_step(graph.phases.size());
  for (size_t i = 0; i < graph.program.size(); ++i) {
    if (graph.program[i].kind() == Step::Kind::kPhase) phase_step[graph.program[i].phase().index()] = i;
  }
  std::vector<std::pair<size_t, StorageId>> probes;
  for (const Probe& p : graph.probes) probes.emplace_back(phase_step[p.phase.index()], graph.tensors[p.tensor].storage);
  for (size_t i = 0; i < graph.storages.size(); ++i) {
    const Role role = graph.storages[StorageId(i)].role;
    if (role != Role::kParameter && role != Role::kOptimizerState) continue;
    matters[i] = true;
    uses.reads[i].push_back(graph.program.size());
  }
  for (size_t i = graph.program.size(); i-- > 0;) {
    for (; !probes.empty() && probes.back().first == i; probes.pop_back()) {
      matters[probes.back().second.index()] = true;
      uses.reads[probes.back().second.index()].push_back(i);
    }
    if (graph.program[i].kind() != Step::Kind::kOp) continue;
    const Op& op = graph.ops[graph.program[i].op()];
    bool wanted = false;
    for (const TensorId t : graph.Results(op)) {
      const size_t storage = graph.tensors[t].storage.index();
      uses.writes[storage].push_back(i);
      wanted = wanted || matters[storage];
    }
    if (!wanted) continue;
    const Attributes a = op.attributes.valid() ? graph.attributes[op.attributes] : Attributes{};
    for (size_t k = 0; k < op.inputs; ++k) {
      if (!Reads(op, k, a)) continue;
      const size_t storage = graph.tensors[graph.Inputs(op)[k]].storage.index();
      matters[storage] = true;
      uses.reads[storage].push_back(i);
    }
  }
  for (auto* lists : {&uses.reads, &uses.writes}) {
    for (auto& list : *lists) std::ranges::reverse(list);
  }
  return uses;
}

class Mutator {
 public:
  Mutator(const Prepared& run, uint64_t seed) : run_(run), uses_(UsesOf(run.graph)), random_(seed) {
    const Tape& tape = run.lowered.tape;
    step_of_event_.resize(tape.events.size());
    for (size_t i = 0, step = 0; i < tape.events.size(); ++i) {
      while (step + 1 < run.lowered.first_event.size() && run.lowered.first_event[step + 1] <= i) ++step;
      step_of_event_[i] = step;
    }
    born_.resize(tape.allocations.size());
    freed_.resize(tape.allocations.size(), tape.events.size());
    for (uint32_t i = 0; i < tape.events.size(); ++i) {
      const Event& event = tape.events[i];
      (event.kind == EventKind::kAlloc ? born_ : freed_)[event.allocation.index()] = i;
    }
  }

  // A run whose one lifetime ends before the last op that reads it.
  std::optional<Prepared> Shorten() {
    const AllocationId allocation = Any();
    const StorageId storage = run_.lowered.origins[allocation].storage;
    const size_t freed = freed_[allocation.index()];
    if (!storage.valid() || freed == run_.lowered.tape.events.size()) return std::nullopt;
    const std::vector<size_t>& reads = uses_.reads[storage.index()];
    if (reads.empty()) return std::nullopt;
    const size_t last = reads.back();
    if (run_.graph.program[last].kind() != Step::Kind::kOp) return std::nullopt;
    Prepared mutant = run_;
    const uint32_t to = run_.lowered.first_event[last];
    auto& events = mutant.lowered.tape.events;
    std::rotate(events.begin() + to, events.begin() + static_cast<int64_t>(freed),
                events.begin() + static_cast<int64_t>(freed) + 1);
    for (size_t i = last; i < mutant.lowered.first_event.size() && mutant.lowered.first_event[i] <= freed; ++i) {
      ++mutant.lowered.first_event[i];
    }
    for (SegmentChange& change : mutant.placed.segment_changes) {
      if (change.event >= to && change.event < freed) ++change.event;
    }
    return mutant;
  }

  // A run with one placement moved onto a neighbour that is alive and whose numbers, or its own, are read afterwards.
  std::optional<Prepared> Shift() {
    const AllocationId moved = Any();
    const AllocationId other = Any();
    const StorageId a = run_.lowered.origins[moved].storage;
    const StorageId b = run_.lowered.origins[other].storage;
    if (moved == other || !a.valid() || !b.valid()) return std::nullopt;
    const uint64_t born = born_[moved.index()];
    if (born_[other.index()] > born || freed_[other.index()] < born) return std::nullopt;  // not alive then
    Placement p = run_.placed.placements[moved];
    const Placement& q = run_.placed.placements[other];
    const int64_t size = run_.lowered.tape.events[born].bytes.count();
    const int64_t neighbour = run_.lowered.tape.events[born_[other.index()]].bytes.count();
    const int64_t lowest = std::max<int64_t>(0, (q.offset.count() - size) / 512 * 512 + 512);
    const int64_t highest = q.offset.count() + (neighbour - 1) / 512 * 512;
    p.segment = q.segment;
    p.offset =
        Bytes(lowest + static_cast<int64_t>(random_.Below(static_cast<uint64_t>((highest - lowest) / 512 + 1))) * 512);
    if (p.offset + p.block_bytes > run_.placed.segments[static_cast<size_t>(p.segment)].most) return std::nullopt;
    if (!TouchesLiveData(a, b, moved, other)) return std::nullopt;
    Prepared mutant = run_;
    mutant.placed.placements[moved] = p;
    return mutant;
  }

 private:
  AllocationId Any() { return AllocationId(random_.Below(run_.lowered.tape.allocations.size())); }

  bool TouchesLiveData(StorageId a, StorageId b, AllocationId moved, AllocationId other) const {
    const size_t begin = step_of_event_[born_[moved.index()]];
    const auto end_of = [&](AllocationId id) {
      const size_t event = freed_[id.index()];
      return event < step_of_event_.size() ? step_of_event_[event] : run_.graph.program.size();
    };
    // The neighbour is read after the moved one was written …
    for (const size_t read : uses_.reads[b.index()]) {
      if (read > begin && !WrittenAgain(b, begin, read)) return true;
    }
    // … or the moved one is read after the neighbour was written, or freed and poisoned.
    std::vector<size_t> harms = uses_.writes[b.index()];
    harms.push_back(end_of(other));
    for (const size_t harm : harms) {
      if (harm <= begin || harm >= end_of(moved)) continue;
      for (const size_t read : uses_.reads[a.index()]) {
        if (read > harm && !WrittenAgain(a, harm, read)) return true;
      }
    }
    return false;
  }

  // Whether an op that doesn't read the storage writes it in (after, before).
  bool WrittenAgain(StorageId storage, size_t after, size_t before) const {
    for (const size_t write : uses_.writes[storage.index()]) {
      if (write <= after || write >= before) continue;
      if (!std::ranges::binary_search(uses_.reads[storage.index()], write)) return true;
    }
    return false;
  }

  const Prepared& run_;
  Uses uses_;
  Random random_;
  std::vector<size_t> step_of_event_;
  std::vector<size_t> born_, freed_;  // events, by allocation
};

bool SameValues(const Execution& a, const Execution& b) {
  if (a.observed.size() != b.observed.size() || a.final_state != b.final_state) return false;
  for (size_t i = 0; i < a.observed.size(); ++i) {
    if (a.observed[i].values != b.observed[i].values) return false;
  }
  return true;
}

class MutationTest : public testing::TestWithParam<const char*> {};

TEST_P(MutationTest, IsNoticed) {
  const Prepared run =
      PrepareRun(GetParam(), {"model.layers=1", "model.vocab=96", "training.micro_batch=2", "training.steps=2"});
  const ExecuteOptions options = {.check_alive = false, .stop_at_finding = true};
  const Execution right = ExecuteOnHost(run, options);
  ASSERT_TRUE(right.findings.empty());
  Mutator mutator(run, 20260);
  int noticed = 0;
  int by_poison = 0;
  for (int made = 0; made < kMutations;) {
    const bool shorten = made % 2 == 0;
    const std::optional<Prepared> mutant = shorten ? mutator.Shorten() : mutator.Shift();
    if (!mutant) continue;
    ++made;
    const Execution wrong = ExecuteOnHost(*mutant, options);
    by_poison += wrong.findings.empty() ? 0 : 1;
    noticed += !wrong.findings.empty() || !SameValues(right, wrong) ? 1 : 0;
  }
  RecordProperty("noticed", noticed);
  RecordProperty("by_poison", by_poison);
  std::printf("%d of %d noticed, %d by the poison\n", noticed, kMutations, by_poison);
  EXPECT_GE(noticed, kNoticed * kMutations);
}

INSTANTIATE_TEST_SUITE_P(Models, MutationTest,
                         testing::Values("configs/runs/nanogpt-tiny.yaml", "configs/runs/llama-tiny.yaml"));

}  // namespace
}  // namespace tidemark
