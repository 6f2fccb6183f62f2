#include "tools/recording.h"

#include "sim/formats/minimalloc.h"
#include "sim/tape_io.h"
#include "tools/formats/byte_source.h"

namespace tidemark {

Result<Recording> ReadRecording(const std::string& path) {
  ASSIGN_OR_RETURN(ByteSource source, ByteSource::Open(path));
  const std::string_view beginning = source.Peek(ByteSource::kMaxView);
  RETURN_IF_ERROR(source.status());
  Recording recording;
  recording.path = path;
  if (LooksLikePickle(beginning) || LooksLikeJson(beginning)) {
    ASSIGN_OR_RETURN(const Snapshot snapshot, ReadSnapshot(source, path));
    recording.snapshot = ReplayOf(snapshot);
    recording.conf = snapshot.conf;
    return recording;
  }
  if (LooksLikeMinimalloc(beginning)) {
    ASSIGN_OR_RETURN(const MinimallocInstance instance, ReadMinimalloc(path));
    recording.own_tape = TapeOfMinimalloc(instance);
    recording.capacity = Bytes(instance.capacity);
    return recording;
  }
  if (path == "-") {  // what was peeked at can't be read again
    std::string content;
    while (const auto byte = source.Take(1))
      content.append(*byte).append(*source.Take(source.Peek(ByteSource::kMaxView).size()));
    RETURN_IF_ERROR(source.status());
    ASSIGN_OR_RETURN(recording.own_tape, ParseTape(path, content));
    return recording;
  }
  ASSIGN_OR_RETURN(recording.own_tape, ReadTape(path));
  return recording;
}

}  // namespace tidemark
