// What a report needs of a replay while it runs: peaks by phase and a curve of fixed length, however long the tape.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/replay.h"
#include "tools/report.h"
#include "tools/tape_marks.h"

namespace tidemark {

class RunObserver final : public ReplayObserver {
 public:
  static constexpr size_t kBuckets = 2048;

  // `tape` is read here only.
  explicit RunObserver(const Tape& tape);
  void OnEvent(const Observation& observation) override;

  const std::vector<PhasePeak>& phases() const { return phases_; }
  const Timeline& timeline() const { return timeline_; }

 private:
  std::vector<PhaseRange> ranges_;
  std::vector<PhasePeak> phases_;
  size_t phase_ = 0;
  uint64_t events_;
  Timeline timeline_;
  Usage usage_;  // after the event before
};

}  // namespace tidemark
