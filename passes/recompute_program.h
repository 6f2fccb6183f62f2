// What to keep and what to compute again as a mixed integer program: for a small run, the least time with which live
// bytes stay within a budget, over all plans (recompute_plan.h) that do the same in each micro-step.
//
// A variable of 0 or 1 for each decision; everything else follows from these:
//
//   copied(op, e)   a copy of `op` runs before event e or earlier. Events are ops of backward that read what may be
//                   dropped; a copy runs where the first event needs it, or a copy that reads it.
//   alive(s, t)     the copy of storage s lives at instant t: it was made before, and an op or a copy still reads it.
//   extended(s, t)  a kept storage lives on at t since a copy will read it.
//
//   minimise   sum over ops of time(op) x copied(op, last event)
//   such that  at each instant t (a step of forward or backward; a copy before an event):
//              bytes there in the unchanged run - bytes of what is dropped + bytes alive + bytes extended <= budget
//
// Both sides agree with what ApplyRecompute makes: live bytes and time of a plan are the program's. Instants enter the
// program when a solution breaks them; a solution that breaks none is the optimum.
//
// What it proves: no plan whose live bytes stay within the budget adds less time, and therefore none whose reserved
// bytes do, since an allocator never reserves less than what lives. What the allocator reserves for the optimum is for
// the simulator to say.
#pragma once

#include <memory>
#include <vector>

#include "graph/base/units.h"
#include "graph/device.h"
#include "passes/recompute_plan.h"

namespace tidemark {

// A storage of each micro-step's forward, at the same place in each, and what a plan may do about it.
struct RecomputeDecision {
  std::vector<StorageId> storages;  // by micro-step
  Keep keep = Keep::kDrop;          // instead of kAsItIs
};
// All decisions of plans that do the same in each micro-step. Empty where micro-steps differ.
std::vector<RecomputeDecision> DecisionsOf(const RecomputeAnalysis& analysis);

class RecomputeProgram {
 public:
  // Up to here the program is made. Limits are counts, not seconds: answers don't depend on the machine.
  static constexpr size_t kMostDecisions = 64;
  static constexpr size_t kMostSteps = 1500;  // of the run's program
  static constexpr int kMostNodes = 600;      // of branch and bound in one answer

  struct Answer {
    bool possible = true;     // false: no plan stays within the budget
    bool proven = false;      // `plan` stays within it and adds `at_least`
    Nanos at_least;           // over the run; no plan within the budget adds less
    std::vector<bool> taken;  // by decision, where proven
    int nodes = 0;            // of branch and bound
  };

  // Null where the run is beyond the limits, or has what the program doesn't describe: fused kernels, results that
  // several ops write. `analysis` must outlive it. O(instants x storages).
  static std::unique_ptr<RecomputeProgram> Make(const RecomputeAnalysis& analysis,
                                                std::vector<RecomputeDecision> decisions, const DeviceSpec& device);
  ~RecomputeProgram();

  // `known`: a plan within the budget, if there is one; finding out that nothing is better takes less than finding the
  // best. Not const: it remembers the instants that mattered. One to two milliseconds a node.
  Answer Solve(Bytes budget, int max_nodes = kMostNodes, const std::vector<bool>* known = nullptr);
  // By decision: whether the plan takes it.
  std::vector<bool> TakenBy(const RecomputePlan& plan) const;
  RecomputePlan PlanOf(const std::vector<bool>& taken) const;
  // Live bytes and added time of a plan by the program's own rules.
  Bytes LiveOf(const std::vector<bool>& taken) const;
  Nanos TimeOf(const std::vector<bool>& taken) const;

 private:
  class Model;
  explicit RecomputeProgram(std::unique_ptr<Model> model);
  std::unique_ptr<Model> model_;
};

}  // namespace tidemark
