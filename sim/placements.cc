#include "sim/placements.h"

#include <charconv>
#include <utility>

namespace tidemark {
namespace {

constexpr size_t kFlushAt = size_t{1} << 20;

// Appends to a buffer that has room.
struct Row {
  char* at;

  void Put(char c) { *at++ = c; }
  template <typename T>
  void Number(T value) {
    at = std::to_chars(at, at + 24, value).ptr;
  }
  void Field(int64_t value) {
    Put(',');
    Number(value);
  }
};

}  // namespace

PlacementsWriter::PlacementsWriter(OutputFile file) : file_(std::move(file)) {
  buffer_ = "event,kind,id,segment,offset,block_bytes,allocated,reserved,active,inactive_split,requested,segments\n";
}

Result<std::unique_ptr<PlacementsWriter>> PlacementsWriter::Create(const std::string& path) {
  ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(path));
  return std::unique_ptr<PlacementsWriter>(new PlacementsWriter(std::move(file)));
}

void PlacementsWriter::OnEvent(const Observation& o) {
  if (o.kind != EventKind::kAlloc && o.kind != EventKind::kFree && o.kind != EventKind::kEmptyCache) return;
  constexpr size_t kLongestRow = size_t{12} * 24;
  const size_t size = buffer_.size();
  buffer_.resize(size + kLongestRow);
  Row row{buffer_.data() + size};
  const bool block = o.kind != EventKind::kEmptyCache;
  row.Number(rows_++);
  row.Put(',');
  row.Put(o.kind == EventKind::kAlloc ? 'a' : o.kind == EventKind::kFree ? 'f' : 'e');
  row.Put(',');
  if (block) row.Number(o.id);
  row.Put(',');
  if (block && o.outcome == AllocateOutcome::kOutOfMemory) row.Number(-1);
  if (block && o.outcome == AllocateOutcome::kPlaced) {
    row.Number(o.placement.segment);
    row.Field(o.placement.offset.count());
    row.Field(o.placement.block_bytes.count());
  } else {
    row.Put(',');
    row.Put(',');
  }
  for (const Bytes bytes :
       {o.usage.allocated, o.usage.reserved, o.usage.active, o.usage.inactive_split, o.usage.requested}) {
    row.Field(bytes.count());
  }
  row.Field(o.usage.segments);
  row.Put('\n');
  buffer_.resize(static_cast<size_t>(row.at - buffer_.data()));
  if (buffer_.size() >= kFlushAt) {
    file_.Write(buffer_);
    buffer_.clear();
  }
}

Status PlacementsWriter::Finish() {
  file_.Write(buffer_);
  buffer_.clear();
  return file_.Finish();
}

}  // namespace tidemark
