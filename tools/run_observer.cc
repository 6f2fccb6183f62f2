#include "tools/run_observer.h"

#include <algorithm>

namespace tidemark {

RunObserver::RunObserver(const Tape& tape) : ranges_(PhasesOf(tape)), events_(tape.events.size()) {
  for (const PhaseRange& range : ranges_) {
    PhasePeak peak;
    peak.at = range.at;
    peak.event = range.begin;
    phases_.push_back(peak);
  }
  const size_t buckets = std::min<size_t>(kBuckets, tape.events.size());
  timeline_.allocated.resize(buckets);
  timeline_.reserved.resize(buckets);
  timeline_.phase.resize(buckets, ' ');
  size_t phase = 0;
  for (size_t bucket = 0; bucket < buckets; ++bucket) {
    const uint64_t event = bucket * events_ / buckets;
    while (phase + 1 < ranges_.size() && ranges_[phase].end <= event) ++phase;
    timeline_.phase[bucket] = PhaseLetter(ranges_[phase].at.phase);
  }
}

void RunObserver::OnEvent(const Observation& observation) {
  const Usage& usage = observation.usage;
  while (phase_ + 1 < ranges_.size() && ranges_[phase_].end <= observation.event) {
    ++phase_;
    PhasePeak& next = phases_[phase_];
    next.requested = usage_.requested;
    next.allocated = usage_.allocated;
    next.active = usage_.active;
    next.reserved = next.reserved_before = next.reserved_after = usage_.reserved;
  }
  PhasePeak& peak = phases_[phase_];
  peak.requested = std::max(peak.requested, usage.requested);
  peak.allocated = std::max(peak.allocated, usage.allocated);
  peak.active = std::max(peak.active, usage.active);
  peak.reserved = std::max(peak.reserved, usage.reserved);
  peak.reserved_after = usage.reserved;
  const size_t bucket = observation.event * timeline_.allocated.size() / events_;
  timeline_.allocated[bucket] = std::max(timeline_.allocated[bucket], usage.allocated);
  timeline_.reserved[bucket] = std::max(timeline_.reserved[bucket], usage.reserved);
  usage_ = usage;
}

}  // namespace tidemark
