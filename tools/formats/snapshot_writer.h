// A replay as a PyTorch memory snapshot, for torch.cuda._memory_viz and its web page.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/base/result.h"
#include "sim/replay.h"
#include "sim/tape.h"
#include "tools/describe.h"

namespace tidemark {

enum class SnapshotForm : uint8_t { kJson, kPickle };

// Keeps what a snapshot's trace needs of a replay.
class SnapshotObserver final : public ReplayObserver {
 public:
  void OnEvent(const Observation& observation) override;

  struct Step {
    uint32_t event = 0;
    EventKind kind = EventKind::kAlloc;
    AllocationId allocation;
    int64_t address = 0;
    bool placed = false;
    bool deferred = false;          // a free that waits for another stream
    bool segments_changed = false;  // in this event
  };
  const std::vector<Step>& steps() const { return steps_; }

 private:
  std::vector<Step> steps_;
  Usage usage_;
};

// The snapshot at the end of the replay that `observed` saw. Its trace and its segments agree, as the web page needs
// it: walking the one backwards gives the other. Phases and ops are the frames, categories colour the blocks.
// O(events x changes of the segments). Errors: what StateAt says.
Result<std::string> SnapshotOf(const Tape& tape, const AllocatorOptions& options, const SnapshotObserver& observed,
                               const Describer& describer, SnapshotForm form);

}  // namespace tidemark
