#include "sim/tape_io.h"

#include <fmt/format.h>
#include <zlib.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <utility>

#include "sim/id_table.h"
#include "sim/output_file.h"
#include "sim/tape_source.h"

namespace tidemark {
namespace {

constexpr uint64_t kMaxStream = std::numeric_limits<int32_t>::max();
constexpr uint64_t kMaxPool = std::numeric_limits<uint32_t>::max() - 1;
constexpr uint64_t kMaxBytes = std::numeric_limits<int64_t>::max();

// What each kind of line looks like; nullptr: no such kind.
const char* FormOf(char kind) {
  switch (kind) {
    case 'a':
      return "a ID BYTES [STREAM]";
    case 'f':
      return "f ID";
    case 's':
      return "s ID STREAM";
    case 'y':
      return "y";
    case 'e':
      return "e";
    case 'r':
      return "r";
    case 'o':
      return "o NAME";
    case 'p':
      return "p NAME";
    case 't':
      return "t ID TEXT";
    case 'B':
      return "B POOL";
    case 'E':
      return "E POOL";
    case 'R':
      return "R POOL";
    case 'X':
      return "X POOL";
    case 'U':
      return "U POOL";
    case 'N':
      return "N POOL";
    case 'C':
      return "C POOL STREAM";
    case 'D':
      return "D POOL";
    default:
      return nullptr;
  }
}

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// The words of a line, one after the other.
struct Words {
  const char* at;
  const char* end;

  void SkipBlanks() {
    while (at < end && IsBlank(*at)) ++at;
  }
  bool AtEnd() {
    SkipBlanks();
    return at == end || *at == '#';
  }
  std::string_view Peek() {
    SkipBlanks();
    const char* stop = at;
    while (stop < end && !IsBlank(*stop)) ++stop;
    return {at, static_cast<size_t>(stop - at)};
  }
  // Reads a number of at most `most`; false, and nothing read, where there is none.
  bool Number(uint64_t most, uint64_t* value) {
    SkipBlanks();
    const char* p = at;
    uint64_t sum = 0;
    for (; p < end && static_cast<unsigned char>(*p - '0') < 10; ++p) {
      const uint64_t digit = static_cast<uint64_t>(*p - '0');
      constexpr std::ptrdiff_t kSafeDigits = 19;  // of them no number is too large
      if (p - at >= kSafeDigits && sum > (std::numeric_limits<uint64_t>::max() - digit) / 10) return false;
      sum = sum * 10 + digit;
    }
    if (p == at || (p < end && !IsBlank(*p) && *p != '#') || sum > most) return false;
    at = p;
    *value = sum;
    return true;
  }
};

std::string BadWord(char kind, std::string_view word, const char* what, uint64_t most) {
  if (word.empty() || word[0] == '#') return fmt::format("{} is missing: wanted \"{}\"", what, FormOf(kind));
  return fmt::format("\"{}\" is no {}: wanted \"{}\" with a whole number from 0 to {}", word.substr(0, 60), what,
                     FormOf(kind), most);
}

// Fills in `line` from the words after its kind. Returns what is wrong, or an empty text.
std::string ParseWords(Words words, TapeLine* line) {
  const auto wrong = [&](const char* what, uint64_t most) { return BadWord(line->kind, words.Peek(), what, most); };
  uint64_t number = 0;
  switch (line->kind) {
    case 'a':
      if (!words.Number(std::numeric_limits<uint64_t>::max(), &line->id)) {
        return wrong("ID", std::numeric_limits<uint64_t>::max());
      }
      if (!words.Number(kMaxBytes, &number)) return wrong("number of bytes", kMaxBytes);
      line->bytes = static_cast<int64_t>(number);
      line->stream = 0;
      if (words.AtEnd()) return {};
      if (!words.Number(kMaxStream, &number)) return wrong("stream", kMaxStream);
      line->stream = static_cast<int32_t>(number);
      break;
    case 'f':
    case 's':
    case 't':
      if (!words.Number(std::numeric_limits<uint64_t>::max(), &line->id)) {
        return wrong("ID", std::numeric_limits<uint64_t>::max());
      }
      if (line->kind == 's') {
        if (!words.Number(kMaxStream, &number)) return wrong("stream", kMaxStream);
        line->stream = static_cast<int32_t>(number);
      }
      break;
    case 'B':
    case 'E':
    case 'R':
    case 'X':
    case 'U':
    case 'N':
    case 'C':
    case 'D':
      if (!words.Number(kMaxPool, &number)) return wrong("pool", kMaxPool);
      line->pool = static_cast<uint32_t>(number);
      if (line->kind == 'C') {
        if (!words.Number(kMaxStream, &number)) return wrong("stream", kMaxStream);
        line->stream = static_cast<int32_t>(number);
      }
      break;
    default:
      break;
  }
  if (line->kind == 'o' || line->kind == 'p' || line->kind == 't') {
    words.SkipBlanks();
    while (words.end > words.at && IsBlank(words.end[-1])) --words.end;
    line->text = std::string_view(words.at, static_cast<size_t>(words.end - words.at));
    return {};
  }
  if (words.AtEnd()) return {};
  return fmt::format("\"{}\" is too much: wanted \"{}\"", words.Peek().substr(0, 60), FormOf(line->kind));
}

}  // namespace

TapeReader::TapeReader(std::string name, std::unique_ptr<LineSource> source)
    : name_(std::move(name)), source_(std::move(source)) {}
TapeReader::TapeReader(TapeReader&&) noexcept = default;
TapeReader& TapeReader::operator=(TapeReader&&) noexcept = default;
TapeReader::~TapeReader() = default;

Result<TapeReader> TapeReader::Open(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<LineSource> source, LineSource::Open(path));
  return TapeReader(path == "-" ? "standard input" : path, std::move(source));
}

TapeReader TapeReader::FromBuffer(std::string name, std::string_view content) {
  return TapeReader(std::move(name), LineSource::FromBuffer(content));
}

Error TapeReader::ErrorHere(std::string_view message) const {
  return InvalidInput(fmt::format("{}:{}: {}", name_, number_, message));
}

Result<bool> TapeReader::Next(TapeLine* line) {
  std::string_view text;
  for (;;) {
    ++number_;
    Result<bool> more = source_->Next(&text);
    if (!more.ok()) return ErrorHere(more.error().message);
    if (!*more) return false;
    Words words{text.data(), text.data() + text.size()};
    if (words.AtEnd()) continue;
    line->number = number_;
    line->kind = *words.at;
    if (FormOf(line->kind) == nullptr || words.Peek().size() != 1) {
      return ErrorHere(
          fmt::format("\"{}\" is no event: known are a f s y e r o p t B E R X U N C D", words.Peek().substr(0, 60)));
    }
    ++words.at;
    if (std::string wrong = ParseWords(words, line); !wrong.empty()) return ErrorHere(wrong);
    return true;
  }
}

namespace {

EventKind KindOf(char kind) {
  switch (kind) {
    case 'a':
      return EventKind::kAlloc;
    case 'f':
      return EventKind::kFree;
    case 's':
      return EventKind::kRecordStream;
    case 'y':
      return EventKind::kSynchronize;
    case 'e':
      return EventKind::kEmptyCache;
    case 'r':
      return EventKind::kResetPeak;
    case 'B':
      return EventKind::kPoolEnter;
    case 'E':
      return EventKind::kPoolLeave;
    case 'R':
      return EventKind::kPoolRelease;
    case 'X':
      return EventKind::kPoolEmpty;
    case 'U':
      return EventKind::kPoolUseOnOom;
    case 'N':
      return EventKind::kPoolNoSplit;
    case 'C':
      return EventKind::kCaptureBegin;
    default:
      return EventKind::kCaptureEnd;
  }
}

char LetterOf(EventKind kind) { return "afsyerBERXUNCD"[static_cast<size_t>(kind)]; }

// Lines -> Tape.
class TapeBuilder {
 public:
  // Returns what is wrong, or an empty text.
  std::string Add(const TapeLine& line) {
    if (line.kind == 'o' || line.kind == 'p') return AddMark(line);
    Event event;
    event.stream = line.stream;
    if (line.kind == 'a') {
      if (!ids_.Insert(line.id, static_cast<uint32_t>(tape_.allocations.size()))) {
        return fmt::format("ID {} was allocated before: IDs are never used again", line.id);
      }
      event.allocation = tape_.allocations.Add({.id = line.id, .text = {}});
      event.bytes = Bytes(line.bytes);
      freed_.push_back(false);
    } else if (line.kind == 'f' || line.kind == 's' || line.kind == 't') {
      const uint32_t number = ids_.Find(line.id);
      if (number == IdTable::kNone) return fmt::format("ID {} wasn't allocated before", line.id);
      event.allocation = AllocationId(number);
      if (line.kind == 't') {
        tape_.allocations[event.allocation].text = Intern(line.text);
        return {};
      }
      if (freed_[number]) return fmt::format("ID {} was freed before", line.id);
      event.kind = KindOf(line.kind);
      freed_[number] = line.kind == 'f';
      if (line.kind == 'f') event.stream = 0;
    } else {
      event.kind = KindOf(line.kind);
      const bool pool = event.kind >= EventKind::kPoolEnter;
      event.pool = pool ? line.pool : 0;
      event.stream = line.kind == 'C' ? line.stream : 0;
    }
    if (tape_.events.size() >= std::numeric_limits<uint32_t>::max() - 1) return "more than 4294967294 events";
    tape_.events.push_back(event);
    return {};
  }

  Tape Finish() && { return std::move(tape_); }

 private:
  std::string AddMark(const TapeLine& line) {
    tape_.marks.push_back({.event = static_cast<uint32_t>(tape_.events.size()),
                           .kind = line.kind == 'p' ? MarkKind::kPhase : MarkKind::kOp,
                           .text = Intern(line.text)});
    return {};
  }

  // Equal texts in a row (and names of ops come again and again) share one entry.
  TextId Intern(std::string_view text) {
    const uint64_t hash = std::hash<std::string_view>()(text);
    for (uint64_t key = hash;; ++key) {
      const uint32_t found = texts_.Find(key | (uint64_t{1} << 63));
      if (found == IdTable::kNone) {
        const TextId id = tape_.texts.Add(std::string(text));
        texts_.Insert(key | (uint64_t{1} << 63), id.index());
        return id;
      }
      if (tape_.texts[TextId(found)] == text) return TextId(found);
    }
  }

  Tape tape_;
  IdTable ids_;
  IdTable texts_;  // by hash
  std::vector<bool> freed_;
};

Result<Tape> ReadAll(TapeReader reader) {
  TapeBuilder builder;
  TapeLine line;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, reader.Next(&line));
    if (!more) return std::move(builder).Finish();
    if (std::string wrong = builder.Add(line); !wrong.empty()) return reader.ErrorHere(wrong);
  }
}

}  // namespace

Result<Tape> ReadTape(const std::string& path) {
  ASSIGN_OR_RETURN(TapeReader reader, TapeReader::Open(path));
  return ReadAll(std::move(reader));
}

Result<Tape> ParseTape(std::string name, std::string_view content) {
  return ReadAll(TapeReader::FromBuffer(std::move(name), content));
}

std::string TapeText(const Tape& tape) {
  fmt::memory_buffer out;
  const auto put = std::back_inserter(out);
  fmt::format_to(put, "# tidemark tape 1\n");
  size_t mark = 0;
  const auto put_marks = [&](size_t event) {
    for (; mark < tape.marks.size() && tape.marks[mark].event <= event; ++mark) {
      const Mark& m = tape.marks[mark];
      fmt::format_to(put, "{} {}\n", m.kind == MarkKind::kPhase ? 'p' : 'o', tape.texts[m.text]);
    }
  };
  for (size_t k = 0; k < tape.events.size(); ++k) {
    put_marks(k);
    const Event& e = tape.events[k];
    const char letter = LetterOf(e.kind);
    const uint64_t id = e.allocation.valid() ? tape.allocations[e.allocation].id : 0;
    switch (e.kind) {
      case EventKind::kAlloc:
        fmt::format_to(put, "a {} {}", id, e.bytes.count());
        if (e.stream != 0) fmt::format_to(put, " {}", e.stream);
        fmt::format_to(put, "\n");
        if (const TextId text = tape.allocations[e.allocation].text; text.valid()) {
          fmt::format_to(put, "t {} {}\n", id, tape.texts[text]);
        }
        break;
      case EventKind::kFree:
        fmt::format_to(put, "f {}\n", id);
        break;
      case EventKind::kRecordStream:
        fmt::format_to(put, "s {} {}\n", id, e.stream);
        break;
      case EventKind::kSynchronize:
      case EventKind::kEmptyCache:
      case EventKind::kResetPeak:
        fmt::format_to(put, "{}\n", letter);
        break;
      case EventKind::kCaptureBegin:
        fmt::format_to(put, "{} {} {}\n", letter, e.pool, e.stream);
        break;
      default:
        fmt::format_to(put, "{} {}\n", letter, e.pool);
        break;
    }
  }
  put_marks(tape.events.size());
  return fmt::to_string(out);
}

Status WriteTape(const Tape& tape, const std::string& path, Compression compression) {
  const std::string text = TapeText(tape);
  ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(path));
  if (compression == Compression::kNone) {
    file.Write(text);
  } else {
    file.WriteGzip(text);
  }
  return file.Finish();
}

}  // namespace tidemark
