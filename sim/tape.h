// The tape: what a process asked of its allocator, in order. It is the waist of Tidemark: graphs are lowered to tapes,
// recordings are read as tapes, and every allocator replays tapes. Text form: contract, section 5.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "graph/base/id.h"
#include "graph/base/units.h"

namespace tidemark {

struct AllocationTag;
using AllocationId = Id<AllocationTag>;  // ordinal of an `a` event in its tape, from 0

struct TextTag;
using TextId = Id<TextTag>;  // a text of the tape (op, phase, tensor description)

enum class EventKind : uint8_t {
  kAlloc,         // a: allocation `allocation` of `bytes` on `stream`
  kFree,          // f: the last reference to `allocation` is gone
  kRecordStream,  // s: `allocation` is also used on `stream`
  kSynchronize,   // y: the device is synchronised
  kEmptyCache,    // e
  kResetPeak,     // r
  kPoolEnter,     // B: allocations from here on go to private pool `bytes` …
  kPoolLeave,     // E
  kPoolRelease,   // R: one user of the pool fewer
  kPoolEmpty,     // X: empty_cache of the pool alone
  kPoolUseOnOom,  // U
  kPoolNoSplit,   // N
  kCaptureBegin,  // C: stream capture on `stream` with the pool
  kCaptureEnd,    // D
};

// 24 bytes. Events of pools and captures carry the pool's number in `pool`.
struct Event {
  EventKind kind = EventKind::kAlloc;
  int32_t stream = 0;
  AllocationId allocation{};
  uint32_t pool = 0;
  Bytes bytes{};
  bool operator==(const Event&) const = default;
};

enum class MarkKind : uint8_t { kPhase, kOp };

// From event `event` on, `text` names the phase or the op. A phase mark ends the op.
struct Mark {
  uint32_t event = 0;
  MarkKind kind = MarkKind::kOp;
  TextId text{};
  bool operator==(const Mark&) const = default;
};

// One allocation of the tape.
struct Allocation {
  uint64_t id = 0;  // the number that the tape's text uses for it
  TextId text{};    // what it is: "category name dtype[shape]" (t line); none where unknown
  bool operator==(const Allocation&) const = default;
};

struct Tape {
  std::vector<Event> events;
  Column<AllocationId, Allocation> allocations;
  std::vector<Mark> marks;  // by event
  Column<TextId, std::string> texts;

  bool operator==(const Tape&) const = default;
};

}  // namespace tidemark
