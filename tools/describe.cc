#include "tools/describe.h"

#include <fmt/format.h>

#include <memory>
#include <utility>
#include <vector>

#include "tools/tape_marks.h"

namespace tidemark {
namespace {

// The first word of a tape's tensor text -> a report's category.
constexpr std::pair<std::string_view, std::string_view> kCategoryOfWord[] = {
    {"parameter", "parameters"},     {"buffer", "parameters"},
    {"gradient", "gradients"},       {"optimizer_state", "optimizer_state"},
    {"weight_cast", "weight_casts"}, {"input", "inputs"},
    {"output", "logits_and_loss"},   {"tensor", "activations"},
    {"temporary", "temporaries"},    {"workspace", "workspace"},
};

// Where things happened, as indices into the tape's texts; -1: no mark.
struct Site {
  int32_t phase = -1;
  int32_t op = -1;
};

// The birth and death of each allocation.
struct Lives {
  std::vector<Site> born, freed;
  std::vector<bool> ends;  // freed within the tape
};

std::shared_ptr<const Lives> LivesOf(const Tape& tape) {
  auto lives = std::make_shared<Lives>();
  lives->born.resize(tape.allocations.size());
  lives->freed.resize(tape.allocations.size());
  lives->ends.resize(tape.allocations.size());
  Site site;
  size_t mark = 0;
  for (size_t event = 0; event < tape.events.size(); ++event) {
    for (; mark < tape.marks.size() && tape.marks[mark].event <= event; ++mark) {
      const auto text = static_cast<int32_t>(tape.marks[mark].text.index());
      if (tape.marks[mark].kind == MarkKind::kPhase) {
        site = {text, -1};
      } else {
        site.op = text;
      }
    }
    const Event& e = tape.events[event];
    if (e.kind == EventKind::kAlloc) lives->born[e.allocation.index()] = site;
    if (e.kind == EventKind::kFree) {
      lives->freed[e.allocation.index()] = site;
      lives->ends[e.allocation.index()] = true;
    }
  }
  return lives;
}

std::string TextOf(const Tape& tape, int32_t index) {
  return index < 0 ? "" : tape.texts[TextId(static_cast<size_t>(index))];
}

std::string Why(const Tape& tape, const Lives& lives, AllocationId allocation) {
  const size_t index = allocation.index();
  if (!lives.ends[index]) return "never freed";
  const Site& site = lives.freed[index];
  if (site.phase < 0) return site.op < 0 ? "freed later" : "until " + TextOf(tape, site.op);
  return "until " + DescribeMoment(ParsePhase(TextOf(tape, site.phase)));
}

std::string CategoryOf(const TensorText& text, const std::string& op) {
  for (const auto& [word, category] : kCategoryOfWord) {
    if (text.category == word) return std::string(category);
  }
  if (op.find("workspace") != std::string::npos) return "workspace";
  return "other";
}

}  // namespace

DescribeAllocation DescribeFromTape(const Tape& tape) {
  return [&tape, lives = LivesOf(tape)](AllocationId allocation, uint32_t /*event*/) {
    TensorReport report;
    const TextId id = tape.allocations[allocation].text;
    const TensorText text = id.valid() ? ParseTensorText(tape.texts[id]) : TensorText();
    report.op = TextOf(tape, lives->born[allocation.index()].op);
    report.category = CategoryOf(text, report.op);
    report.tensor =
        text.name.empty()
            ? (report.op.empty() ? fmt::format("allocation {}", tape.allocations[allocation].id) : report.op)
            : std::string(text.name);
    report.dtype = text.dtype;
    report.shape = text.shape;
    report.why = Why(tape, *lives, allocation);
    return report;
  };
}

}  // namespace tidemark
