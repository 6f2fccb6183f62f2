#include "tools/describe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "tools/tape_marks.h"

namespace tidemark {
namespace {

class GraphDescriber final : public Describer {
 public:
  GraphDescriber(const Graph& graph, const Lowered& lowered) : graph_(graph), lowered_(lowered) {}

  TensorReport Describe(AllocationId allocation) const override {
    return Report(tidemark::Describe(graph_, lowered_, allocation));
  }

  PeakDescription DescribeState(const MemoryState& state, size_t count) const override {
    const Breakdown breakdown = BreakDown(graph_, lowered_, state);
    PeakDescription result;
    for (int i = 0; i < kCategories; ++i) {
      const auto category = static_cast<Category>(i);
      result.breakdown.push_back({std::string(Name(category)), breakdown.categories[static_cast<size_t>(i)]});
    }
    for (const LiveTensor& tensor : breakdown.tensors) {
      if (result.largest.size() == count) break;
      result.largest.push_back(Report(tensor));
    }
    return result;
  }

 private:
  static TensorReport Report(const LiveTensor& tensor) {
    return {.tensor = tensor.tensor,
            .category = std::string(Name(tensor.category)),
            .op = tensor.op,
            .dtype = tensor.dtype,
            .shape = {tensor.sizes.begin(), tensor.sizes.end()},
            .bytes = tensor.bytes,
            .why = tensor.why};
  }

  const Graph& graph_;
  const Lowered& lowered_;
};

// The first word of a tape's tensor text -> a report's category.
constexpr std::pair<std::string_view, Category> kCategoryOfWord[] = {
    {"parameter", Category::kParameters},    {"buffer", Category::kParameters},
    {"gradient", Category::kGradients},      {"optimizer_state", Category::kOptimizerState},
    {"weight_cast", Category::kWeightCasts}, {"input", Category::kInputs},
    {"output", Category::kLogitsAndLoss},
};

class TapeDescriber final : public Describer {
 public:
  // Notes where each allocation is born and freed. O(events).
  explicit TapeDescriber(const Tape& tape) : tape_(tape), lives_(tape.allocations.size()) {
    Site site;
    size_t mark = 0;
    for (size_t event = 0; event < tape.events.size(); ++event) {
      for (; mark < tape.marks.size() && tape.marks[mark].event <= event; ++mark) {
        if (tape.marks[mark].kind == MarkKind::kPhase) {
          site = {tape.marks[mark].text, TextId()};
        } else {
          site.op = tape.marks[mark].text;
        }
      }
      const Event& e = tape.events[event];
      if (e.kind == EventKind::kAlloc) lives_[e.allocation.index()].born = site;
      if (e.kind == EventKind::kFree) {
        lives_[e.allocation.index()].freed = site;
        lives_[e.allocation.index()].ends = true;
      }
    }
  }

  TensorReport Describe(AllocationId allocation) const override {
    TensorReport report;
    const TextId id = tape_.allocations[allocation].text;
    const TensorText text = id.valid() ? ParseTensorText(tape_.texts[id]) : TensorText();
    report.op = TextOf(lives_[allocation.index()].born.op);
    report.category = Name(CategoryOf(text, report.op));
    report.tensor = NameOf(allocation, text, report.op);
    report.dtype = text.dtype;
    report.shape = text.shape;
    report.why = Why(allocation);
    return report;
  }

  PeakDescription DescribeState(const MemoryState& state, size_t count) const override {
    std::array<Bytes, kCategories> categories;
    std::vector<TensorReport> tensors;
    for (const LiveBlock& block : state.live) {
      if (block.pending) continue;  // freed, so not allocated
      TensorReport tensor = block.allocation.valid() ? Describe(block.allocation) : TensorReport();
      const TextId id = block.allocation.valid() ? tape_.allocations[block.allocation].text : TextId();
      const TensorText text = id.valid() ? ParseTensorText(tape_.texts[id]) : TensorText();
      categories[static_cast<size_t>(CategoryOf(text, tensor.op))] += block.requested;
      categories[static_cast<size_t>(Category::kRounding)] += block.block - block.requested;
      tensor.bytes = block.requested;
      tensors.push_back(std::move(tensor));
    }
    PeakDescription result;
    for (int i = 0; i < kCategories; ++i) {
      result.breakdown.push_back({std::string(Name(static_cast<Category>(i))), categories[static_cast<size_t>(i)]});
    }
    std::ranges::stable_sort(tensors, std::ranges::greater(), &TensorReport::bytes);
    tensors.resize(std::min(tensors.size(), count));
    result.largest = std::move(tensors);
    return result;
  }

 private:
  // Where something happened; none: the tape doesn't say.
  struct Site {
    TextId phase, op;
  };
  struct Life {
    Site born, freed;
    bool ends = false;  // freed within the tape
  };

  std::string TextOf(TextId id) const { return id.valid() ? tape_.texts[id] : ""; }

  static Category CategoryOf(const TensorText& text, std::string_view op) {
    for (const auto& [word, category] : kCategoryOfWord) {
      if (text.category == word) return category;
    }
    return op.find("workspace") != std::string_view::npos ? Category::kWorkspace : Category::kOther;
  }

  // A text that doesn't begin with a category (a snapshot's stack) is a name as a whole.
  std::string NameOf(AllocationId allocation, const TensorText& text, const std::string& op) const {
    const bool categorised = CategoryOf(text, "") != Category::kOther;
    if (categorised && !text.name.empty()) return std::string(text.name);
    if (tape_.allocations[allocation].text.valid()) return TextOf(tape_.allocations[allocation].text);
    return op.empty() ? fmt::format("allocation {}", tape_.allocations[allocation].id) : op;
  }

  std::string Why(AllocationId allocation) const {
    const Life& life = lives_[allocation.index()];
    if (!life.ends) return "never freed";
    if (life.freed.phase.valid()) return "until " + DescribeMoment(ParsePhase(TextOf(life.freed.phase)));
    return life.freed.op.valid() ? "until " + TextOf(life.freed.op) : "freed later";
  }

  const Tape& tape_;
  std::vector<Life> lives_;  // by AllocationId
};

}  // namespace

std::unique_ptr<Describer> DescribeGraph(const Graph& graph, const Lowered& lowered) {
  return std::make_unique<GraphDescriber>(graph, lowered);
}

std::unique_ptr<Describer> DescribeTape(const Tape& tape) { return std::make_unique<TapeDescriber>(tape); }

}  // namespace tidemark
