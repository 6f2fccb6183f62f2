// What the marks of a tape say: phases with their numbers, and the phase and op in force at an event.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "sim/breakdown.h"
#include "sim/tape.h"

namespace tidemark {

// "forward step=1 micro=0" as a moment (without an op).
Moment ParsePhase(std::string_view text);
// "evaluation of step 2, batch 1", "backward of step 1, micro-step 2", "model"; empty for a moment without a phase.
std::string DescribeMoment(const Moment& moment);
// 'f' forward, 'b' backward, 'o' optimizer, 'e' evaluation, …; ' ' for none.
char PhaseLetter(std::string_view phase);

struct PhaseRange {
  uint32_t begin = 0;  // events [begin, end)
  uint32_t end = 0;
  Moment at;
};

// The phases of a tape in order; one without a name where the tape has no phase marks. They cover all events.
std::vector<PhaseRange> PhasesOf(const Tape& tape);

// The moment of an event. O(marks).
Moment MomentOf(const Tape& tape, uint32_t event);

// The text of what an allocation is, split: "gradient h.0.ln_1.weight float32[384]".
struct TensorText {
  std::string_view category;
  std::string_view name;
  std::string_view dtype;
  std::vector<int64_t> shape;
};
TensorText ParseTensorText(std::string_view text);

}  // namespace tidemark
