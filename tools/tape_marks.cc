#include "tools/tape_marks.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace tidemark {
namespace {

// Takes the next word, separated by blanks, off `text`.
std::string_view TakeWord(std::string_view& text) {
  const size_t end = std::min(text.find(' '), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

void ReadNumber(std::string_view word, std::string_view key, int64_t* out) {
  if (word.size() <= key.size() || !word.starts_with(key) || word[key.size()] != '=') return;
  std::from_chars(word.data() + key.size() + 1, word.data() + word.size(), *out);
}

}  // namespace

Moment ParsePhase(std::string_view text) {
  Moment moment;
  moment.phase = TakeWord(text);
  while (!text.empty()) {
    const std::string_view word = TakeWord(text);
    ReadNumber(word, "step", &moment.step);
    ReadNumber(word, "micro", &moment.micro_step);
    ReadNumber(word, "batch", &moment.batch);
  }
  return moment;
}

std::string DescribeMoment(const Moment& moment) {
  std::string text = moment.phase;
  if (moment.step >= 0) text += fmt::format(" of step {}", moment.step);
  if (moment.micro_step >= 0) text += fmt::format(", micro-step {}", moment.micro_step);
  if (moment.batch >= 0) text += fmt::format(", batch {}", moment.batch);
  return text;
}

char PhaseLetter(std::string_view phase) { return phase.empty() ? ' ' : phase.front(); }

std::vector<PhaseRange> PhasesOf(const Tape& tape) {
  const auto events = static_cast<uint32_t>(tape.events.size());
  std::vector<PhaseRange> phases;
  for (const Mark& mark : tape.marks) {
    if (mark.kind != MarkKind::kPhase) continue;
    if (phases.empty() && mark.event > 0) phases.push_back({0, mark.event, {}});
    if (!phases.empty()) phases.back().end = mark.event;
    phases.push_back({mark.event, events, ParsePhase(tape.texts[mark.text])});
  }
  if (phases.empty()) phases.push_back({0, events, {}});
  return phases;
}

Moment MomentOf(const Tape& tape, uint32_t event) {
  Moment moment;
  for (const Mark& mark : tape.marks) {
    if (mark.event > event) break;
    if (mark.kind == MarkKind::kPhase) {
      moment = ParsePhase(tape.texts[mark.text]);
    } else {
      moment.op = tape.texts[mark.text];
    }
  }
  return moment;
}

TensorText ParseTensorText(std::string_view text) {
  TensorText parsed;
  parsed.category = TakeWord(text);
  const size_t blank = text.rfind(' ');
  const bool typed = text.ends_with(']') && blank != std::string_view::npos;
  parsed.name = typed ? text.substr(0, blank) : text;
  if (!typed) return parsed;
  std::string_view type = text.substr(blank + 1);
  const size_t bracket = type.find('[');
  if (bracket == std::string_view::npos) return parsed;
  parsed.dtype = type.substr(0, bracket);
  const char* at = type.data() + bracket + 1;
  const char* end = type.data() + type.size();
  for (int64_t size = 0; at < end;) {
    const auto [rest, error] = std::from_chars(at, end, size);
    if (error != std::errc()) break;
    parsed.shape.push_back(size);
    at = rest + 1;
  }
  return parsed;
}

}  // namespace tidemark
