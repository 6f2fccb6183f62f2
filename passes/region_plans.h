// Options of each region for what to keep and what to compute again, and the cheapest mixtures of them: the middle part
// of recompute_budget.h.
#pragma once

#include <vector>

#include "graph/base/units.h"
#include "graph/device.h"
#include "passes/recompute_plan.h"
#include "passes/regions.h"

namespace tidemark {

// An option for each region, by region.
using Choice = std::vector<int>;

class RegionMixer {
 public:
  static constexpr int kMaxOptions = 12;

  // O(options x program) and one cut for each price that is tried. `analysis` must outlive it.
  RegionMixer(const RecomputeAnalysis& analysis, const DeviceSpec& device);

  int regions() const { return regions_.size(); }
  int options() const { return static_cast<int>(options_.size()); }
  RecomputePlan PlanOf(const Choice& choice) const;

  // The cheapest choices for `count` targets of live bytes, evenly spaced from the least that is possible to what the
  // unchanged graph takes; each once.
  std::vector<Choice> Ladder(int count) const;
  // The most thorough option for the first so many regions, or for the last so many: checkpoints around some blocks.
  std::vector<Choice> PartialCheckpoints(int count) const;
  // No choice whose live bytes stay below `target` adds less time to the run; the most that any option adds where there
  // is none.
  Nanos LeastTime(Bytes target) const;

 private:
  // Of one region under one option.
  struct Cell {
    Nanos time;      // of what runs again, over the run
    Bytes kept;      // from its forward to its backward
    Bytes forward;   // highest live bytes in its forward, without what earlier regions keep
    Bytes backward;  // the same in its backward
  };
  struct Option {
    RecomputePlan plan;       // all regions
    std::vector<Cell> cells;  // by region
    Bytes outside;            // highest live bytes outside of forward and backward
  };

  void FindOptions();
  Option Cut(double price) const;
  // Fills in what the plan keeps and what lives while.
  void MeasureOption(Option& option) const;
  // A choice for the first regions. A longer one refers to it.
  struct Label {
    Bytes kept;
    Nanos time;
    int option = 0;
    int before = -1;  // index in the labels of one region less
  };
  // What the dynamic program does with labels when there are too many to go on with.
  enum class Thinning : uint8_t {
    kLeaveOut,  // some: what remains are choices, maybe not the best
    kBound,     // replaces some by one that is as good as the best of them in each respect: none is better
  };
  // Drops labels that another one beats in both; by rising bytes, falling time.
  static void Prune(std::vector<Label>& labels, Thinning thinning);
  // By number of regions, whose live bytes stay below the target. Empty: there is no choice for all.
  std::vector<std::vector<Label>> LabelsWithin(Bytes target, Thinning thinning) const;
  // Empty: none.
  Choice Cheapest(Bytes target) const;
  Bytes LiveOf(const Choice& choice) const;

  const RecomputeAnalysis& analysis_;
  const DeviceSpec& device_;
  Regions regions_;
  Column<StorageId, int> region_of_;    // of storages of forward, -1: of others
  Column<StorageId, uint8_t> crosses_;  // another region's forward reads it
  std::vector<Option> options_;         // by falling bytes kept: the first runs nothing again
};

}  // namespace tidemark
