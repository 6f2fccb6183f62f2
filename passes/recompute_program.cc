#include "passes/recompute_program.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "graph/cost.h"
#include "graph/op.h"
#include "passes/integer_program.h"
#include "passes/logic_program.h"

namespace tidemark {
namespace {

constexpr int64_t kBlockStep = 512;  // bytes are counted in blocks of the allocator's
constexpr int kRounds = 200;         // of solving and adding what the solution breaks
constexpr size_t kInstantsARound = 12;

int64_t BlocksOf(Bytes bytes) { return RoundUp(bytes, Bytes(kBlockStep)).count() / kBlockStep; }

// An op of forward that may run again.
struct Repeat {
  OpId op;
  uint32_t at = 0;  // where the original runs
  double time = 0;  // nanoseconds
  int64_t inside = 0;
  std::vector<StorageId> results;                // that may be computed again
  std::vector<StorageId> reads;                  // each once
  std::vector<std::pair<uint32_t, Bit>> copied;  // by event, rising: whether there is a copy by then

  Bit CopiedBy(uint32_t position) const {
    Bit bit = Constant(0);
    for (const auto& [event, copied_by] : copied) {
      if (event <= position) bit = copied_by;
    }
    return bit;
  }
  const Bit& CopiedAtAll() const { return copied.back().second; }
};

// Bytes that live at an instant if something holds.
struct Load {
  int64_t blocks;
  AnyOf any;
  auto operator<=>(const Load&) const = default;
};
struct Instant {
  int64_t blocks = 0;      // whatever the plan
  Bit runs = Constant(1);  // whether the instant is there: a copy runs
  std::vector<Load> loads;
  bool entered = false;  // into the program: a solution broke it

  int64_t MostBlocks() const {
    int64_t most = blocks;
    for (const Load& load : loads) most += std::max<int64_t>(0, load.blocks);
    return most;
  }
  int64_t BlocksIn(const std::vector<double>& values) const {
    if (!runs.HoldsIn(values)) return 0;
    int64_t sum = blocks;
    for (const Load& load : loads) sum += Holds(load.any, values) ? load.blocks : 0;
    return sum;
  }
};

// Highest bytes that live inside an op, beyond what lived before it.
int64_t BlocksInside(const OpView& op, const Graph& graph, const DeviceSpec& device) {
  std::vector<int64_t> results;
  for (const TensorId result : graph.Results(op.op())) {
    const Storage& storage = graph.storages[graph.tensors[result].storage];
    results.push_back(storage.location == Location::kDevice ? BlocksOf(storage.bytes) : 0);
  }
  int64_t live = 0;
  for (const int64_t blocks : results) live += blocks;
  const OpInfo& info = InfoOf(op.op().kind);
  if (info.memory == nullptr) return live;
  MemoryPlan plan;
  info.memory(op, device, plan);
  std::vector<int64_t> temporaries(static_cast<size_t>(plan.temporaries()));
  live = 0;
  int64_t highest = 0;
  for (const MemoryPlan::Item& item : plan.items()) {
    const auto index = static_cast<size_t>(item.index);
    if (item.kind == MemoryPlan::Kind::kResult) live += results[index];
    if (item.kind == MemoryPlan::Kind::kTemporary) live += temporaries[index] = BlocksOf(item.bytes);
    if (item.kind == MemoryPlan::Kind::kFree) live -= temporaries[index];
    highest = std::max(highest, live);
  }
  return highest;
}

}  // namespace

class RecomputeProgram::Model {
 public:
  Model(const RecomputeAnalysis& analysis, std::vector<RecomputeDecision> decisions, const DeviceSpec& device)
      : analysis_(analysis),
        device_(device),
        decisions_(std::move(decisions)),
        live_(LiveBytesOf(analysis.graph, device)) {
    again_.resize(analysis.graph.storages.size());
    decision_of_.resize(analysis.graph.storages.size());
    std::ranges::fill(decision_of_, -1);
    readers_.resize(analysis.graph.storages.size());
    for (size_t i = 0; i < decisions_.size(); ++i) {
      taken_.push_back(logic_.Choice());
      for (const StorageId storage : decisions_[i].storages) decision_of_[storage] = static_cast<int>(i);
    }
  }

  // False: there is something that isn't described here.
  bool Build() {
    std::vector<bool> inside(analysis_.graph.program.size());
    for (const MicroStep& micro : analysis_.micro_steps) {
      for (int64_t i = micro.forward.begin; i < micro.backward.end; ++i) inside[static_cast<size_t>(i)] = true;
      if (!SaysWhatComesAgain(micro)) return false;
      for (int64_t i = micro.forward.end; i-- > micro.forward.begin;) {
        const Step step = analysis_.graph.program[static_cast<size_t>(i)];
        if (step.kind() == Step::Kind::kOp) AddRepeat(step.op(), micro);
      }
      AddInstants(micro);
    }
    Instant outside;
    for (size_t i = 0; i < inside.size(); ++i) {
      if (!inside[i]) outside.blocks = std::max(outside.blocks, BlocksOf(live_.during[i]));
    }
    AddInstant(outside);
    return true;
  }

  Answer Solve(Bytes budget, int max_nodes, const std::vector<bool>* known);
  std::vector<double> ValuesOf(const std::vector<bool>& taken) const { return logic_.ValuesOf(taken); }
  int64_t BlocksIn(const std::vector<double>& values) const {
    int64_t most = 0;
    for (const Instant& instant : instants_) most = std::max(most, instant.BlocksIn(values));
    return most;
  }
  double TimeIn(const std::vector<double>& values) const {
    double time = 0;
    for (const auto& [bit, cost] : costs_) time += cost * bit.ValueIn(values);
    return time;
  }
  const std::vector<RecomputeDecision>& decisions() const { return decisions_; }
  size_t storages() const { return analysis_.graph.storages.size(); }

 private:
  bool Dropping(StorageId storage) const {
    const int decision = decision_of_[storage];
    return decision >= 0 && decisions_[static_cast<size_t>(decision)].keep == Keep::kDrop;
  }
  uint32_t Dies(StorageId storage) const { return analysis_.lives.dies[storage]; }

  // Whether each storage of the micro-step's forward is computed again for a copy that reads it.
  bool SaysWhatComesAgain(const MicroStep& micro) {
    repeats_.clear();
    std::ranges::fill(readers_, std::vector<size_t>());
    std::ranges::fill(again_, Constant(0));
    for (const StorageId storage : analysis_.ForwardStorages(micro)) {
      const int decision = decision_of_[storage];
      if (decision >= 0) {
        const Bit& taken = taken_[static_cast<size_t>(decision)];
        again_[storage] = Dropping(storage) ? taken : Not(taken);
      } else if (Dies(storage) < micro.backward.begin && analysis_.Repeatable(storage, micro)) {
        again_[storage] = Constant(1);
      } else {
        continue;
      }
      const auto writers = std::ranges::count_if(analysis_.uses.Of(storage), &Use::writes);
      const Op& producer = analysis_.graph.ops[analysis_.graph.storages[storage].producer];
      if (writers != 1 || producer.kernel.valid()) return false;
    }
    return true;
  }

  // First and last op of backward that reads it.
  std::pair<uint32_t, uint32_t> ReadInBackward(StorageId storage, const MicroStep& micro) const {
    uint32_t first = kNever;
    uint32_t last = 0;
    for (const Use& use : analysis_.uses.Of(storage)) {
      if (!use.reads || !analysis_.Within(use.op, micro.backward)) continue;
      first = std::min(first, analysis_.lives.op_at[use.op]);
      last = analysis_.lives.op_at[use.op];
    }
    return {first, last};
  }

  // Those that read its results come before it in repeats_.
  void AddRepeat(OpId op, const MicroStep& micro) {
    const Graph& graph = analysis_.graph;
    Repeat repeat{.op = op, .at = analysis_.lives.op_at[op]};
    for (const TensorId result : graph.Results(graph.ops[op])) {
      const StorageId storage = graph.tensors[result].storage;
      if (graph.storages[storage].producer == op && !again_[storage].always(0)) repeat.results.push_back(storage);
    }
    SayWhenItIsCopied(micro, repeat);
    if (repeat.copied.empty()) return;
    const OpView view(graph, graph.ops[op]);
    repeat.time = tidemark::TimeOf(view, device_).count();
    repeat.inside = BlocksInside(view, graph, device_);
    for (const TensorId input : graph.Inputs(graph.ops[op])) {
      const StorageId storage = graph.tensors[input].storage;
      if (std::ranges::find(repeat.reads, storage) == repeat.reads.end()) repeat.reads.push_back(storage);
    }
    for (const StorageId storage : repeat.reads) readers_[storage].push_back(repeats_.size());
    costs_.emplace_back(repeat.CopiedAtAll(), repeat.time);
    repeats_.push_back(std::move(repeat));
  }

  // By each event that may be the first to need its results.
  void SayWhenItIsCopied(const MicroStep& micro, Repeat& repeat) {
    std::vector<std::pair<uint32_t, All>> reasons;  // from an event on
    for (const StorageId storage : repeat.results) {
      const uint32_t first = ReadInBackward(storage, micro).first;
      if (Dropping(storage) && first != kNever) reasons.push_back({first, {again_[storage]}});
    }
    std::map<uint32_t, AnyOf> by_event;
    for (const auto& [event, all] : reasons) by_event[event];
    ForEachReader(repeat, [&](const Repeat& reader, StorageId) {
      for (const auto& [event, copied] : reader.copied) by_event[event];
    });
    for (auto& [event, any] : by_event) {
      for (const auto& [first, all] : reasons) {
        if (first <= event) AddAlternative(all, any);
      }
      ForEachReader(repeat, [&](const Repeat& reader, StorageId storage) {
        AddAlternative({reader.CopiedBy(event), again_[storage]}, any);
      });
      repeat.copied.emplace_back(event, logic_.Define(any));
    }
  }

  template <typename Function>
  void ForEachReader(const Repeat& repeat, const Function& use) const {
    for (const StorageId storage : repeat.results) {
      for (const size_t reader : readers_[storage]) use(repeats_[reader], storage);
    }
  }

  // Where a dropped storage is let go in forward.
  uint32_t LetGoAt(StorageId storage, const MicroStep& micro) const {
    uint32_t at = 0;
    for (const Use& use : analysis_.uses.Of(storage)) {
      if (analysis_.Within(use.op, micro.forward)) at = analysis_.lives.op_at[use.op];
    }
    for (const HolderId holder : analysis_.holders[storage]) {
      const uint32_t released = analysis_.lives.released_at[holder];
      if (released < micro.backward.begin) at = std::max(at, released);
    }
    return at;
  }

  // A position of the program; with `copying`, right before the copy of that op which comes before the position.
  struct Place {
    uint32_t position;
    const Repeat* copying = nullptr;
  };
  Bit Made(const Repeat& repeat, const Place& place) const {
    const bool earlier = place.copying != nullptr && repeat.at >= place.copying->at;
    return repeat.CopiedBy(earlier ? place.position - 1 : place.position);
  }
  Bit StillToCome(const Repeat& repeat, const Place& place) const {
    return But(repeat.CopiedAtAll(), Made(repeat, place));
  }

  // What lives there because of the plan.
  std::vector<Load> LoadsAt(const Place& place, const MicroStep& micro) const {
    std::vector<Load> loads;
    for (const StorageId storage : dropped_) {
      if (place.position <= LetGoAt(storage, micro) || place.position > Dies(storage)) continue;
      AddLoad(-WeightOf(storage), {{again_[storage]}}, loads);
    }
    for (const Repeat& repeat : repeats_) {
      for (const StorageId storage : repeat.results) {
        AddLoad(WeightOf(storage), WhereCopyLives(repeat, storage, place, micro), loads);
      }
    }
    for (const StorageId storage : read_) {
      if (place.position <= Dies(storage)) continue;
      AnyOf extended;
      for (const size_t reader : readers_[storage]) {
        AddAlternative({Not(again_[storage]), StillToCome(repeats_[reader], place)}, extended);
      }
      AddLoad(WeightOf(storage), std::move(extended), loads);
    }
    return loads;
  }

  AnyOf WhereCopyLives(const Repeat& repeat, StorageId storage, const Place& place, const MicroStep& micro) const {
    const Bit made = Made(repeat, place);
    AnyOf any;
    if (made.always(0)) return any;
    const uint32_t last_read = ReadInBackward(storage, micro).second;
    if (Dropping(storage) && place.position <= std::max(Dies(storage), last_read)) {
      AddAlternative({made, again_[storage]}, any);
    }
    for (const size_t reader : readers_[storage]) {
      AddAlternative({made, again_[storage], StillToCome(repeats_[reader], place)}, any);
    }
    return any;
  }

  static void AddLoad(int64_t blocks, AnyOf any, std::vector<Load>& loads) {
    if (blocks != 0 && !any.empty()) loads.push_back({blocks, std::move(any)});
  }
  int64_t WeightOf(StorageId storage) const {
    const Storage& s = analysis_.graph.storages[storage];
    return s.location == Location::kDevice ? BlocksOf(s.bytes) : 0;
  }

  void AddInstants(const MicroStep& micro) {
    dropped_.clear();
    read_.clear();
    // Between these positions loads don't change: of the steps between two, the one with the most bytes will do.
    std::set<uint32_t> changes = {static_cast<uint32_t>(micro.forward.begin)};
    for (const StorageId storage : analysis_.ForwardStorages(micro)) {
      if (!Dropping(storage)) continue;
      dropped_.push_back(storage);
      changes.insert({LetGoAt(storage, micro) + 1, Dies(storage) + 1, ReadInBackward(storage, micro).second + 1});
    }
    for (const Repeat& repeat : repeats_) {
      for (const auto& [event, copied] : repeat.copied) changes.insert(event);
      for (const StorageId storage : repeat.reads) {
        if (std::ranges::find(read_, storage) == read_.end()) read_.push_back(storage);
        if (Dies(storage) != kNever) changes.insert(Dies(storage) + 1);
      }
    }
    AddSteps(micro, changes);
    for (const Repeat& repeat : repeats_) AddCopiesOf(repeat, micro);
  }

  // Of instants that only differ in what is there anyway, one stays: micro-steps are alike.
  void AddInstant(Instant instant) {
    const auto [known, added] = same_.try_emplace({instant.runs, instant.loads}, instants_.size());
    if (added) {
      instants_.push_back(std::move(instant));
    } else {
      Instant& other = instants_[known->second];
      other.blocks = std::max(other.blocks, instant.blocks);
    }
  }

  void AddSteps(const MicroStep& micro, const std::set<uint32_t>& changes) {
    const auto end = static_cast<uint32_t>(micro.backward.end);
    for (auto change = changes.lower_bound(static_cast<uint32_t>(micro.forward.begin));
         change != changes.end() && *change < end; ++change) {
      const uint32_t next = std::next(change) == changes.end() ? end : std::min(end, *std::next(change));
      Instant instant;
      for (uint32_t p = *change; p < next; ++p) instant.blocks = std::max(instant.blocks, BlocksOf(live_.during[p]));
      instant.loads = LoadsAt({*change}, micro);
      AddInstant(std::move(instant));
    }
  }

  void AddCopiesOf(const Repeat& repeat, const MicroStep& micro) {
    Bit before = Constant(0);
    for (const auto& [event, copied] : repeat.copied) {
      Bit runs = But(copied, before);
      before = copied;
      if (runs.always(0)) continue;
      Instant instant;
      instant.blocks = BlocksOf(live_.after[event - 1]) + repeat.inside;
      instant.runs = std::move(runs);
      instant.loads = LoadsAt({event, &repeat}, micro);
      AddInstant(std::move(instant));
    }
  }

  // The instant's row, and what its loads are.
  static void Enter(const Instant& instant, int64_t budget, IntegerProgram& program) {
    const int64_t beyond = instant.MostBlocks() - budget;
    if (beyond <= 0) return;
    Sum row;
    for (const Load& load : instant.loads) {
      const auto blocks = static_cast<double>(load.blocks);
      if (load.any.size() == 1 && load.any.front().size() == 1) {
        row.Add(load.any.front().front(), blocks);
        continue;
      }
      const int variable = program.AddVariable(0, false);
      for (const All& all : load.any) BoundBelow(variable, all, program);
      row.Add(variable, blocks);
    }
    row.Add(Not(instant.runs), static_cast<double>(-beyond));
    row.Emit(-IntegerProgram::kUnbounded, static_cast<double>(budget - instant.blocks), program);
  }

  IntegerProgram ProgramWithCosts() const;
  // Rows of marked instants that aren't there yet.
  void EnterMarked(int64_t budget, std::vector<bool>& present, IntegerProgram& program) const;

  enum class Broken { kNone, kMarkedBefore, kNew };
  // Marks instants that go beyond the budget, the worst first.
  Broken MarkWhatBreaks(const std::vector<double>& values, int64_t budget) {
    std::vector<std::pair<int64_t, size_t>> broken;
    Broken found = Broken::kNone;
    for (size_t i = 0; i < instants_.size(); ++i) {
      const int64_t blocks = instants_[i].BlocksIn(values);
      if (blocks <= budget) continue;
      found = Broken::kMarkedBefore;
      if (!instants_[i].entered) broken.emplace_back(-blocks, i);
    }
    std::ranges::sort(broken);
    for (size_t i = 0; i < std::min(kInstantsARound, broken.size()); ++i) instants_[broken[i].second].entered = true;
    return broken.empty() ? found : Broken::kNew;
  }

  const RecomputeAnalysis& analysis_;
  const DeviceSpec& device_;
  std::vector<RecomputeDecision> decisions_;
  LiveBytes live_;
  LogicProgram logic_;
  std::vector<Bit> taken_;  // by decision
  std::vector<std::pair<Bit, double>> costs_;
  std::vector<Instant> instants_;
  std::map<std::pair<Bit, std::vector<Load>>, size_t> same_;
  Column<StorageId, int> decision_of_;  // -1: none
  Column<StorageId, Bit> again_;        // computed again for a copy that reads it
  // Of one micro-step, while it is described.
  std::vector<Repeat> repeats_;  // by falling position
  Column<StorageId, std::vector<size_t>> readers_;
  std::vector<StorageId> dropped_, read_;
};

IntegerProgram RecomputeProgram::Model::ProgramWithCosts() const {
  IntegerProgram program = logic_.program();
  for (const auto& [bit, cost] : costs_) {
    for (const auto& [variable, coefficient] : bit.terms) program.AddCost(variable, cost * coefficient);
  }
  return program;
}

void RecomputeProgram::Model::EnterMarked(int64_t budget, std::vector<bool>& present, IntegerProgram& program) const {
  for (size_t i = 0; i < instants_.size(); ++i) {
    if (!instants_[i].entered || present[i]) continue;
    present[i] = true;
    Enter(instants_[i], budget, program);
  }
}

RecomputeProgram::Answer RecomputeProgram::Model::Solve(Bytes budget, int max_nodes, const std::vector<bool>* known) {
  const int64_t blocks = budget.count() / kBlockStep;
  IntegerProgram program = ProgramWithCosts();
  std::vector<bool> present(instants_.size());
  Answer answer;
  double cutoff = IntegerProgram::kUnbounded;
  if (known != nullptr) {
    const std::vector<double> values = logic_.ValuesOf(*known);
    if (BlocksIn(values) <= blocks) cutoff = TimeIn(values);
  }
  for (int round = 0; round < kRounds && answer.nodes < max_nodes; ++round) {
    EnterMarked(blocks, present, program);
    const IntegerProgram::Solution solution = program.Solve(max_nodes - answer.nodes, cutoff);
    answer.nodes += solution.nodes;
    if (solution.outcome == IntegerProgram::Outcome::kInfeasible) {
      answer.possible = answer.proven = cutoff < IntegerProgram::kUnbounded;
      if (answer.proven) answer.at_least = Nanos(cutoff);
      if (answer.proven) answer.taken = *known;
      return answer;
    }
    answer.at_least = std::max(answer.at_least, Nanos(solution.bound));
    if (solution.outcome == IntegerProgram::Outcome::kNodeLimit) return answer;
    std::vector<bool> taken(decisions_.size());
    for (size_t i = 0; i < taken.size(); ++i) taken[i] = taken_[i].HoldsIn(solution.values);
    const std::vector<double> values = logic_.ValuesOf(taken);
    const Broken broken = MarkWhatBreaks(values, blocks);
    if (broken == Broken::kNone) {
      answer.proven = true;
      answer.at_least = Nanos(TimeIn(values));
      answer.taken = std::move(taken);
      return answer;
    }
    if (broken == Broken::kNew) continue;
    Sum other;  // within the solver's tolerance of the budget, yet beyond it: any plan but this one
    for (size_t i = 0; i < taken.size(); ++i) other.Add(taken[i] ? Not(taken_[i]) : taken_[i]);
    other.Emit(1, IntegerProgram::kUnbounded, program);
  }
  return answer;
}

std::vector<RecomputeDecision> DecisionsOf(const RecomputeAnalysis& analysis) {
  std::vector<std::vector<StorageId>> forwards;
  for (const MicroStep& micro : analysis.micro_steps) forwards.push_back(analysis.ForwardStorages(micro));
  const auto differs = [&](const auto& forward) { return forward.size() != forwards.front().size(); };
  if (forwards.empty() || std::ranges::any_of(forwards, differs)) return {};
  std::vector<RecomputeDecision> decisions;
  for (size_t i = 0; i < forwards.front().size(); ++i) {
    RecomputeDecision decision;
    bool droppable = true;
    bool extendable = true;
    for (size_t m = 0; m < forwards.size(); ++m) {
      const StorageId storage = forwards[m][i];
      const MicroStep& micro = analysis.micro_steps[m];
      const bool saved = analysis.lives.dies[storage] >= micro.backward.begin;
      droppable = droppable && analysis.Droppable(storage, micro);
      extendable = extendable && !saved && analysis.Repeatable(storage, micro);
      decision.storages.push_back(storage);
    }
    if (!droppable && !extendable) continue;
    decision.keep = droppable ? Keep::kDrop : Keep::kExtend;
    decisions.push_back(std::move(decision));
  }
  return decisions;
}

RecomputeProgram::RecomputeProgram(std::unique_ptr<Model> model) : model_(std::move(model)) {}
RecomputeProgram::~RecomputeProgram() = default;

std::unique_ptr<RecomputeProgram> RecomputeProgram::Make(const RecomputeAnalysis& analysis,
                                                         std::vector<RecomputeDecision> decisions,
                                                         const DeviceSpec& device) {
  if (decisions.empty() || decisions.size() > kMostDecisions || analysis.graph.program.size() > kMostSteps) return {};
  auto model = std::make_unique<Model>(analysis, std::move(decisions), device);
  if (!model->Build()) return {};
  return std::unique_ptr<RecomputeProgram>(new RecomputeProgram(std::move(model)));
}

RecomputeProgram::Answer RecomputeProgram::Solve(Bytes budget, int max_nodes, const std::vector<bool>* known) {
  return model_->Solve(budget, max_nodes, known);
}

std::vector<bool> RecomputeProgram::TakenBy(const RecomputePlan& plan) const {
  std::vector<bool> taken;
  for (const RecomputeDecision& decision : model_->decisions()) {
    taken.push_back(plan[decision.storages.front()] == decision.keep);
  }
  return taken;
}

RecomputePlan RecomputeProgram::PlanOf(const std::vector<bool>& taken) const {
  RecomputePlan plan;
  plan.resize(model_->storages());
  for (size_t i = 0; i < taken.size(); ++i) {
    if (!taken[i]) continue;
    const RecomputeDecision& decision = model_->decisions()[i];
    for (const StorageId storage : decision.storages) plan[storage] = decision.keep;
  }
  return plan;
}

Bytes RecomputeProgram::LiveOf(const std::vector<bool>& taken) const {
  return Bytes(model_->BlocksIn(model_->ValuesOf(taken)) * kBlockStep);
}

Nanos RecomputeProgram::TimeOf(const std::vector<bool>& taken) const {
  return Nanos(model_->TimeIn(model_->ValuesOf(taken)));
}

}  // namespace tidemark
