#include "tools/compare/explain_variant.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "tools/tape_marks.h"

namespace tidemark {
namespace {

constexpr Bytes kMuch = kMiB * 8;  // a change that is worth a word
constexpr size_t kNamed = 3;       // categories in a sentence

struct Change {
  std::string category;
  Bytes bytes;
};

Bytes BytesOf(const Report& report, const std::string& category) {
  const auto found = std::ranges::find(report.breakdown, category, &CategoryBytes::category);
  return found == report.breakdown.end() ? Bytes() : found->bytes;
}

std::string WithBlanks(std::string words) {
  std::ranges::replace(words, '_', ' ');
  return words;
}

// What is alive at the peak, by category: the largest differences, largest first.
std::string Differences(const Report& base, const Report& variant) {
  std::vector<Change> changes;
  for (const CategoryBytes& entry : variant.breakdown) {
    const Bytes change = entry.bytes - BytesOf(base, entry.category);
    if (std::max(change, -change) >= kMuch) changes.push_back({WithBlanks(entry.category), change});
  }
  std::ranges::stable_sort(changes, [](const Change& a, const Change& b) {
    return std::max(a.bytes, -a.bytes) > std::max(b.bytes, -b.bytes);
  });
  if (changes.size() > kNamed) changes.resize(kNamed);
  std::vector<std::string> words;
  for (const Change& change : changes) words.push_back(fmt::format("{} {:+.0f}", change.category, change.bytes / kMiB));
  return fmt::format("{}", fmt::join(words, ", "));
}

// Whether both peaks lie at the same place of some step.
bool SamePlace(const Moment& a, const Moment& b) { return a.phase == b.phase && a.op == b.op; }

std::string Place(const Moment& at) {
  return at.op.empty() ? DescribeMoment(at) : fmt::format("{}, at {}", DescribeMoment(at), at.op);
}

// The one tensor that counts most at the peak.
std::string Largest(const Report& report) {
  if (report.largest.empty()) return "";
  const TensorReport& tensor = report.largest.front();
  return fmt::format("the largest tensor there is {} ({:.0f} MiB)", tensor.tensor, tensor.bytes / kMiB);
}

bool OnlyMoreMicroSteps(const RunConfig& base, const RunConfig& variant) {
  RunConfig same = variant;
  same.training.gradient_accumulation = base.training.gradient_accumulation;
  return same == base && variant.training.gradient_accumulation != base.training.gradient_accumulation;
}

}  // namespace

std::string ExplainVariant(const Variant& base, const Variant& variant) {
  const Report& from = base.report;
  const Report& to = variant.report;
  const Bytes allocated = to.allocated_peak - from.allocated_peak;
  const Bytes reserved = to.reserved_peak - from.reserved_peak;
  std::string text;
  if (OnlyMoreMicroSteps(base.run, variant.run) && std::max(allocated, -allocated) < kMuch) {
    return fmt::format(
        "a micro-step still runs {} sequences, and gradients are added up in place: how many micro-steps a step has "
        "doesn't enter the peak",
        variant.run.training.micro_batch);
  }
  if (std::max(allocated, -allocated) >= kMuch) {
    text = fmt::format("at the peak: {}", Differences(from, to));
    if (!SamePlace(from.at, to.at)) {
      text += fmt::format("; it moved to {}; {}", Place(to.at), Largest(to));
    } else if (allocated < Bytes(0) && to.largest.size() == from.largest.size() && !to.largest.empty() &&
               to.largest.front().bytes == from.largest.front().bytes) {
      text += fmt::format("; it stays at {}, where {}, untouched", to.at.op, Largest(to).substr(4));
    }
  } else if (std::max(reserved, -reserved) >= kMuch) {
    text =
        fmt::format("as much is alive at the peak; what changes is the packing: reserved {:+.0f} MiB", reserved / kMiB);
  } else {
    text = "the peak is where it was, and as high";
  }
  return text;
}

}  // namespace tidemark
