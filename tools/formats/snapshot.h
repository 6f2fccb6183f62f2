// Memory snapshots of PyTorch (torch.cuda.memory._dump_snapshot, or the same structure as JSON): the allocator's
// segments and blocks at one moment, and the events that led there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "graph/base/result.h"
#include "graph/base/units.h"
#include "tools/formats/byte_source.h"

namespace tidemark {

enum class SnapshotBlockState : uint8_t { kInactive, kAllocated, kPendingFree };

struct SnapshotBlock {
  Bytes size;
  Bytes requested;
  SnapshotBlockState state = SnapshotBlockState::kInactive;
  uint32_t stack = 0;  // index into Snapshot::stacks
  bool operator==(const SnapshotBlock&) const = default;
};

struct SnapshotSegment {
  int64_t address = 0;
  Bytes size;
  int64_t stream = 0;
  bool large = false;
  bool expandable = false;
  bool private_pool = false;
  std::vector<SnapshotBlock> blocks;  // they tile the segment
  bool operator==(const SnapshotSegment&) const = default;
};

enum class TraceAction : uint8_t {
  kAlloc,          // size: what was requested
  kFreeRequested,  // free() was called
  kFreeCompleted,  // the block is free
  kSegmentAlloc,
  kSegmentFree,
  kSegmentMap,  // pages of an expandable segment
  kSegmentUnmap,
  kOutOfMemory,
  kOther,
};

struct TraceEntry {
  TraceAction action = TraceAction::kOther;
  bool private_pool = false;
  uint32_t stack = 0;
  int64_t address = 0;
  int64_t size = 0;
  int64_t stream = 0;
  int64_t time_us = 0;
  bool operator==(const TraceEntry&) const = default;
};

// What a snapshot says of one device.
struct Snapshot {
  int device = 0;
  std::vector<SnapshotSegment> segments;  // by address
  std::vector<TraceEntry> trace;          // oldest first
  // Where an allocation was made, shortly: "aten::mm @ forward (model.py:57)"; the first is empty: unknown.
  std::vector<std::string> stacks;
  std::string conf;  // PYTORCH_CUDA_ALLOC_CONF of the recorded process
  std::vector<std::string> notes;
};

// Whether a file that begins like this is a pickle, or JSON.
bool LooksLikePickle(std::string_view beginning);
bool LooksLikeJson(std::string_view beginning);

// Reads a snapshot of either form. Of several devices the one with the longest trace is taken (a note says so). Errors:
// what isn't a pickle or JSON, what isn't a snapshot, blocks that don't fit into their segment.
Result<Snapshot> ReadSnapshot(ByteSource& source, const std::string& name);

}  // namespace tidemark
