// Reading and writing tapes (contract, section 5), plain or gzip-compressed. Which of the two is told by the first two
// bytes. Nothing here trusts its input: every word that isn't what the format allows is an error with its place.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "graph/base/result.h"
#include "sim/tape.h"

namespace tidemark {

class LineSource;

// One line of a tape that isn't empty or a comment. Numbers are as written: `id` is the tape's own.
struct TapeLine {
  char kind = 0;          // 'a', 'f', 's', 'y', 'e', 'r', 'o', 'p', 't', or a pool's B E R X U N C D
  int32_t stream = 0;     // a, s, C
  uint32_t pool = 0;      // B E R X U N C D
  uint64_t id = 0;        // a, f, s, t
  int64_t bytes = 0;      // a
  std::string_view text;  // o, p, t; valid until the next call
  uint64_t number = 0;    // of the line, from 1
};

// Reads a tape line by line in constant memory (a buffer of 1 MiB, which a longer line makes grow up to 64 MiB). Checks
// the form of each line and its numbers; whether an id is known or already free is for the reader of the lines: see
// IdTracker.
class TapeReader {
 public:
  // A file, or standard input if the path is "-".
  static Result<TapeReader> Open(const std::string& path);
  // `content` must outlive the reader; `name` is what errors call it.
  static TapeReader FromBuffer(std::string name, std::string_view content);

  TapeReader(TapeReader&&) noexcept;
  TapeReader& operator=(TapeReader&&) noexcept;
  ~TapeReader();

  // The next line; false at the end.
  Result<bool> Next(TapeLine* line);
  // An error at the line read last: "name:line: message".
  Error ErrorHere(std::string_view message) const;

 private:
  TapeReader(std::string name, std::unique_ptr<LineSource> source);

  std::string name_;
  std::unique_ptr<LineSource> source_;
  uint64_t number_ = 0;
};

// A whole tape. O(bytes). Errors: what TapeReader says, an id allocated twice, an id that wasn't allocated before, an
// id freed twice or used after its free, more than 2^32 - 2 events.
Result<Tape> ReadTape(const std::string& path);
Result<Tape> ParseTape(std::string name, std::string_view content);

enum class Compression : uint8_t { kNone, kGzip };

// The text of a tape. ParseTape gives back an equal tape.
std::string TapeText(const Tape& tape);
// Writes to a temporary file beside `path` and renames it, so that nobody ever sees half a tape; "-" is standard
// output.
Status WriteTape(const Tape& tape, const std::string& path, Compression compression);

}  // namespace tidemark
