#include "passes/region_plans.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "graph/cost.h"
#include "graph/op.h"
#include "passes/min_cut.h"

namespace tidemark {
namespace {

constexpr Bytes kBlockStep{512};
constexpr size_t kMaxLabels = 768;  // partial choices that the dynamic program keeps for a region
// Bytes that a nanosecond of running again is worth: far beyond what any kernel's results are, on either side.
constexpr double kCheapest = 1e-2;
constexpr double kDearest = 1e6;

bool SamePlan(const RecomputePlan& a, const RecomputePlan& b) { return std::ranges::equal(a, b); }

}  // namespace

RegionMixer::RegionMixer(const RecomputeAnalysis& analysis, const DeviceSpec& device)
    : analysis_(analysis), device_(device), regions_(RegionsOf(analysis.graph, analysis.micro_steps)) {
  region_of_.resize(analysis.graph.storages.size());
  std::ranges::fill(region_of_, -1);
  crosses_.resize(analysis.graph.storages.size());
  for (const MicroStep& micro : analysis.micro_steps) {
    for (const StorageId storage : analysis.ForwardStorages(micro)) {
      const int region = regions_.of[analysis.graph.storages[storage].producer];
      region_of_[storage] = region;
      for (const Use& use : analysis.uses.Of(storage)) {
        if (!analysis.Within(use.op, micro.forward) || regions_.of[use.op] == region) continue;
        if (crosses_[storage] == 0 && analysis.lives.dies[storage] < micro.backward.begin) {
          region_of_[storage] = regions_.of[use.op];  // whoever needs it again decides whether it stays
        }
        crosses_[storage] = 1;
      }
    }
  }
  FindOptions();
}

RegionMixer::Option RegionMixer::Cut(double price) const {
  Option option;
  option.plan.resize(analysis_.graph.storages.size());
  option.cells.resize(static_cast<size_t>(regions_.size()));
  const CutOptions cut = {.price =
                              [&](OpId op) {
                                const double worth =
                                    price * TimeOf(OpView(analysis_.graph, analysis_.graph.ops[op]), device_).count();
                                return static_cast<int64_t>(std::min(worth, static_cast<double>(kNotAgain) / 4));
                              },
                          .fixed = [&](StorageId storage) { return crosses_[storage] != 0; }};
  for (const MicroStep& micro : analysis_.micro_steps) {
    for (const OpId op : CutMicroStep(analysis_, micro, cut, option.plan)) {
      const auto region = static_cast<size_t>(std::max(0, regions_.of[op]));
      option.cells[region].time += TimeOf(OpView(analysis_.graph, analysis_.graph.ops[op]), device_);
    }
  }
  return option;
}

// Bisects prices between options that differ.
void RegionMixer::FindOptions() {
  struct Range {
    double low, high;
    size_t first, last;  // options at its ends
    int depth;
  };
  Option none;
  none.plan.resize(analysis_.graph.storages.size());
  none.cells.resize(static_cast<size_t>(regions_.size()));
  std::vector<Option> found;
  found.push_back(Cut(0));
  found.push_back(Cut(kCheapest));
  found.push_back(Cut(kDearest));
  found.push_back(std::move(none));
  std::vector<Range> ranges = {{kCheapest, kDearest, 1, 2, 0}};
  for (size_t i = 0; i < ranges.size() && found.size() < static_cast<size_t>(kMaxOptions); ++i) {
    const Range range = ranges[i];
    if (range.depth > 6 || SamePlan(found[range.first].plan, found[range.last].plan)) continue;
    const double middle = std::sqrt(range.low * range.high);
    found.push_back(Cut(middle));
    ranges.push_back({range.low, middle, range.first, found.size() - 1, range.depth + 1});
    ranges.push_back({middle, range.high, found.size() - 1, range.last, range.depth + 1});
  }
  for (Option& option : found) {
    const bool known = std::ranges::any_of(options_, [&](const Option& o) { return SamePlan(o.plan, option.plan); });
    if (known) continue;
    MeasureOption(option);
    options_.push_back(std::move(option));
  }
  std::ranges::stable_sort(options_, [](const Option& a, const Option& b) {
    Nanos time_a, time_b;
    for (const Cell& cell : a.cells) time_a += cell.time;
    for (const Cell& cell : b.cells) time_b += cell.time;
    return time_a < time_b;
  });
}

void RegionMixer::MeasureOption(Option& option) const {
  if (analysis_.micro_steps.empty()) return;
  const MicroStep& first = analysis_.micro_steps.front();
  for (const StorageId storage : analysis_.ForwardStorages(first)) {
    const bool saved = analysis_.lives.dies[storage] >= first.backward.begin;
    const bool kept = saved ? option.plan[storage] != Keep::kDrop : option.plan[storage] == Keep::kExtend;
    if (!kept) continue;
    option.cells[static_cast<size_t>(std::max(0, region_of_[storage]))].kept +=
        RoundUp(analysis_.graph.storages[storage].bytes, kBlockStep);
  }
  std::vector<Bytes> earlier(option.cells.size());  // what regions before this one keep
  for (size_t r = 1; r < earlier.size(); ++r) earlier[r] = earlier[r - 1] + option.cells[r - 1].kept;

  const Graph graph = ApplyRecompute(analysis_, option.plan);
  const std::vector<MicroStep> micro_steps = MicroStepsOf(graph);
  const Regions regions = RegionsOf(graph, micro_steps);
  const LiveBytes live = LiveBytesOf(graph, device_);
  std::vector<uint8_t> inside(graph.program.size());
  const auto visit = [&](const Interval& interval, bool backward) {
    size_t region = backward ? option.cells.size() - 1 : 0;
    for (int64_t i = interval.begin; i < interval.end; ++i) {
      const auto position = static_cast<size_t>(i);
      inside[position] = 1;
      const Step step = graph.program[position];
      if (step.kind() == Step::Kind::kOp && regions.of[step.op()] >= 0) {
        region = static_cast<size_t>(regions.of[step.op()]);
      }
      Bytes& highest = backward ? option.cells[region].backward : option.cells[region].forward;
      highest = std::max(highest, live.during[position] - earlier[region]);
    }
  };
  for (const MicroStep& micro : micro_steps) {
    visit(micro.forward, false);
    visit({micro.forward.end, micro.backward.end}, true);
  }
  for (size_t i = 0; i < inside.size(); ++i) {
    if (inside[i] == 0) option.outside = std::max(option.outside, live.during[i]);
  }
}

RecomputePlan RegionMixer::PlanOf(const Choice& choice) const {
  RecomputePlan plan;
  plan.resize(analysis_.graph.storages.size());
  for (size_t i = 0; i < analysis_.graph.storages.size(); ++i) {
    const StorageId storage(i);
    if (region_of_[storage] < 0) continue;
    const auto option = static_cast<size_t>(choice[static_cast<size_t>(region_of_[storage])]);
    plan[storage] = options_[option].plan[storage];
  }
  return plan;
}

Bytes RegionMixer::LiveOf(const Choice& choice) const {
  Bytes kept;
  Bytes highest;
  for (size_t r = 0; r < choice.size(); ++r) {
    const Option& option = options_[static_cast<size_t>(choice[r])];
    const Cell& cell = option.cells[r];
    highest = std::max({highest, option.outside, kept + cell.forward, kept + cell.backward});
    kept += cell.kept;
  }
  return highest;
}

void RegionMixer::Prune(std::vector<Label>& labels, Thinning thinning) {
  std::ranges::stable_sort(
      labels, [](const Label& a, const Label& b) { return a.kept != b.kept ? a.kept < b.kept : a.time < b.time; });
  std::vector<Label> good;
  for (const Label& label : labels) {
    if (good.empty() || label.time < good.back().time) good.push_back(label);
  }
  if (good.size() > kMaxLabels) {  // evenly thinned out, both ends kept
    std::vector<Label> thin;
    size_t next = 0;
    for (size_t i = 0; i < kMaxLabels; ++i) {
      Label label = good[i * (good.size() - 1) / (kMaxLabels - 1)];
      if (thinning == Thinning::kBound) label.kept = good[next].kept;  // of those from the last one to this one
      next = i * (good.size() - 1) / (kMaxLabels - 1) + 1;
      thin.push_back(label);
    }
    good = std::move(thin);
  }
  labels = std::move(good);
}

std::vector<std::vector<RegionMixer::Label>> RegionMixer::LabelsWithin(Bytes target, Thinning thinning) const {
  std::vector<std::vector<Label>> labels = {{Label{}}};
  for (size_t r = 0; r < static_cast<size_t>(regions_.size()); ++r) {
    std::vector<Label> next;
    for (size_t before = 0; before < labels[r].size(); ++before) {
      const Label& label = labels[r][before];
      for (size_t o = 0; o < options_.size(); ++o) {
        const Cell& cell = options_[o].cells[r];
        if (label.kept + std::max(cell.forward, cell.backward) > target || options_[o].outside > target) continue;
        next.push_back({label.kept + cell.kept, label.time + cell.time, static_cast<int>(o), static_cast<int>(before)});
      }
    }
    if (next.empty()) return {};
    Prune(next, thinning);
    labels.push_back(std::move(next));
  }
  return labels;
}

Choice RegionMixer::Cheapest(Bytes target) const {
  const std::vector<std::vector<Label>> labels = LabelsWithin(target, Thinning::kLeaveOut);
  if (labels.empty()) return {};
  const Label* best = &labels.back().back();  // by falling time
  Choice choice(static_cast<size_t>(regions_.size()));
  for (size_t r = choice.size(); r-- > 0;) {
    choice[r] = best->option;
    best = &labels[r][static_cast<size_t>(best->before)];
  }
  return choice;
}

std::vector<Choice> RegionMixer::Ladder(int count) const {
  const auto all = static_cast<size_t>(regions_.size());
  const Bytes most = LiveOf(Choice(all, 0));
  Bytes least = most;
  for (int o = 0; o < options(); ++o) least = std::min(least, LiveOf(Choice(all, o)));
  std::vector<Choice> choices;
  std::set<Choice> seen;
  for (int i = 0; i <= count; ++i) {
    const Bytes target = least + Bytes((most - least).count() / count * i);
    Choice choice = Cheapest(target);
    if (!choice.empty() && seen.insert(choice).second) choices.push_back(std::move(choice));
  }
  for (int o = 0; o < options(); ++o) {
    if (Choice uniform(all, o); seen.insert(uniform).second) choices.push_back(std::move(uniform));
  }
  return choices;
}

std::vector<Choice> RegionMixer::PartialCheckpoints(int count) const {
  std::vector<Choice> choices;
  const int all = regions_.size();
  const int step = std::max(1, 2 * all / std::max(1, count));
  for (int n = step; n < all; n += step) {
    Choice first(static_cast<size_t>(all), 0);
    Choice last(static_cast<size_t>(all), 0);
    for (int r = 0; r < n; ++r) {
      first[static_cast<size_t>(r)] = options() - 1;
      last[static_cast<size_t>(all - 1 - r)] = options() - 1;
    }
    choices.push_back(std::move(first));
    choices.push_back(std::move(last));
  }
  return choices;
}

Nanos RegionMixer::LeastTime(Bytes target) const {
  const std::vector<std::vector<Label>> labels = LabelsWithin(target, Thinning::kBound);
  if (!labels.empty()) return labels.back().back().time;
  Nanos time;
  for (const Cell& cell : options_.back().cells) time += cell.time;
  return time;
}

}  // namespace tidemark
