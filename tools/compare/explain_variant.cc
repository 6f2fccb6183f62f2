#include "tools/compare/explain_variant.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "graph/run_program.h"
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

std::string Describe(const Moment& at) {
  return at.op.empty() ? DescribeMoment(at) : fmt::format("{}, at {}", DescribeMoment(at), at.op);
}

// The one tensor that counts most at the peak.
std::string Largest(const TensorReport& tensor) {
  return fmt::format("{} ({:.1f} MiB)", tensor.tensor, tensor.bytes / kMiB);
}

// Where the peak lies now, and what is largest there.
std::string Place(const Report& from, const Report& to) {
  std::string text = SamePlace(from.at, to.at) ? "it stays at " + (to.at.op.empty() ? DescribeMoment(to.at) : to.at.op)
                                               : "it moved to " + Describe(to.at);
  if (to.largest.empty()) return text;
  text += ", where the largest tensor is " + Largest(to.largest.front());
  const bool untouched = SamePlace(from.at, to.at) && !from.largest.empty() &&
                         from.largest.front().bytes == to.largest.front().bytes &&
                         to.allocated_peak < from.allocated_peak;
  return untouched ? text + ", untouched" : text;
}

// Sequences of a micro-step, behind passes that split batches.
int64_t SequencesOf(const RunConfig& run) {
  const Result<RunConfig> resolved = ResolveProgram(run);
  return resolved.ok() ? resolved->training.micro_batch : run.training.micro_batch;
}

bool OnlyMoreMicroSteps(const RunConfig& base, const RunConfig& variant) {
  RunConfig same = variant;
  same.training.gradient_accumulation = base.training.gradient_accumulation;
  return same == base && variant.training.gradient_accumulation != base.training.gradient_accumulation;
}

std::string WhyMicroStepsDoNotCount(const Variant& variant) {
  const Report& report = variant.report;
  const Bytes of_micro_step = BytesOf(report, "activations") + BytesOf(report, "logits_and_loss");
  return fmt::format(
      "a micro-step still runs {} sequences, whose activations, logits and loss are {:.1f} of the {:.1f} MiB at the "
      "peak; gradients ({:.1f} MiB) are added up in place: how many micro-steps a step has doesn't enter the peak",
      SequencesOf(variant.run), of_micro_step / kMiB, report.allocated_peak / kMiB,
      BytesOf(report, "gradients") / kMiB);
}

// What the variant's memory costs in time, where both do the same work.
std::string Worth(const Variant& base, const Variant& variant) {
  const Bytes saved = base.report.reserved_peak - variant.report.reserved_peak;
  if (!base.report.time || !variant.report.time || saved < kMuch) return "";
  if (TokensOfStep(base.run) != TokensOfStep(variant.run)) return "";
  const double added = (variant.report.time->step_us - base.report.time->step_us) / 1e3;
  if (added < 0.05) return "";
  return fmt::format("{:.1f} MiB of reserved for {:.1f} ms a step ({:.1f} MiB a millisecond)", saved / kMiB, added,
                     saved / kMiB / added);
}

}  // namespace

std::string ExplainVariant(const Variant& base, const Variant& variant) {
  const Report& from = base.report;
  const Report& to = variant.report;
  const Bytes allocated = to.allocated_peak - from.allocated_peak;
  const Bytes reserved = to.reserved_peak - from.reserved_peak;
  const bool much = std::max(allocated, -allocated) >= kMuch;
  if (OnlyMoreMicroSteps(base.run, variant.run) && !much) return WhyMicroStepsDoNotCount(variant);
  std::vector<std::string> parts;
  if (const int64_t now = SequencesOf(variant.run), before = SequencesOf(base.run); now != before) {
    parts.push_back(fmt::format("a micro-step runs {} sequences instead of {}", now, before));
  }
  if (much) {
    parts.push_back("at the peak: " + Differences(from, to));
    parts.push_back(Place(from, to));
  } else if (std::max(reserved, -reserved) >= kMuch) {
    parts.push_back(fmt::format("as much is alive at the peak; what changes is the packing: reserved {:+.0f} MiB",
                                reserved / kMiB));
  } else {
    parts.emplace_back("the peak is where it was, and as high");
  }
  if (std::string worth = Worth(base, variant); !worth.empty()) parts.push_back(std::move(worth));
  return fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace tidemark
