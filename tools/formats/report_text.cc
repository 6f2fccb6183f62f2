#include "tools/formats/report_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "tools/compiled_text.h"
#include "tools/config/size.h"
#include "tools/tape_marks.h"

namespace tidemark {
namespace {

constexpr size_t kTensors = 10;
constexpr size_t kColumns = 72;  // of the timeline
constexpr int kRows = 8;
constexpr size_t kSegments = 4;  // partly free ones
constexpr size_t kPins = 3;      // tensors that keep one

double InMiB(Bytes bytes) { return bytes / kMiB; }

int64_t StatisticOf(const Report& report, std::string_view key) {
  const auto found = std::ranges::find(report.statistics, key, &Statistic::key);
  return found == report.statistics.end() ? 0 : found->value;
}

// Appends the sections one after the other.
class Writer {
 public:
  Writer(const Report& report, TextStyle style) : report_(report), style_(style) {}

  std::string Run() {
    Verdict();
    Ladder();
    Curve();
    Phases();
    Categories();
    Largest();
    Fragmentation();
    Compiled();
    Statistics();
    return std::move(text_);
  }

 private:
  template <typename... T>
  void Line(fmt::format_string<T...> format, T&&... values) {
    text_ += fmt::format(format, std::forward<T>(values)...);
    while (text_.ends_with(' ')) text_.pop_back();
    text_ += '\n';
  }
  void Heading(std::string_view heading) {
    Line("");
    Line("{}", Styled(kBold, heading));
  }
  std::string Styled(const char* code, std::string_view words) const {
    return style_.colour ? fmt::format("{}{}{}", code, words, kPlain) : std::string(words);
  }

  void Verdict() {
    if (!report_.title.empty()) Line("{}", report_.title);
    if (!report_.device_name.empty()) Line("on {} with {:.0f} MiB", report_.device_name, InMiB(*report_.device_memory));
    Line("");
    if (report_.out_of_memory) {
      Failure();
    } else if (report_.device_memory) {
      Fits(*report_.device_memory);
    } else {
      Line("peak: {:.1f} MiB allocated, {:.1f} MiB reserved", InMiB(report_.allocated_peak),
           InMiB(report_.reserved_peak));
    }
    if (report_.addresses) Line("{}", *report_.addresses);
    Range();
  }

  void Range() {
    if (!report_.address_range) return;
    const AddressRange& range = *report_.address_range;
    const auto verdict = [](bool fits) { return fits ? "" : " (doesn't fit)"; };
    Line("reserved by which way the addresses of segments go: rising {:.1f} MiB{}, falling {:.1f} MiB{}",
         InMiB(range.rising), verdict(range.rising_fits), InMiB(range.falling), verdict(range.falling_fits));
  }

  void Fits(Bytes memory) {
    const Bytes likely = report_.process_peak.value;
    const Bytes worst = likely + report_.process_peak.above;
    if (worst > memory) {
      Line("{}: {:.0f} MiB of {:.0f} MiB; with what the process may take beside its tensors up to {:.0f} MiB",
           Styled(kRed, "FITS, BUT HARDLY"), InMiB(likely), InMiB(memory), InMiB(worst));
    } else {
      Line("{}: {:.0f} MiB of {:.0f} MiB, {:.0f} MiB left", Styled(kGreen, "FITS"), InMiB(likely), InMiB(memory),
           InMiB(memory - likely));
    }
    if (const int64_t retries = StatisticOf(report_, "num_alloc_retries"); retries > 0) {
      Line("but only because cached memory was given back to the device {} ({} segments freed)",
           retries == 1 ? "once" : fmt::format("{} times", retries), StatisticOf(report_, "num_device_free"));
    }
  }

  void Failure() {
    const OutOfMemoryReport& failure = *report_.out_of_memory;
    const std::string moment = DescribeMoment(failure.at);
    Line("{} {}", Styled(kRed, "DOES NOT FIT"),
         moment.empty() ? fmt::format("at event {}", failure.event) : "in " + moment);
    Line("  tensor  {} ({})", failure.tensor, FormatSize(failure.requested));
    if (!failure.op.empty()) Line("  op      {}", failure.op);
    Line("  {}", failure.message);
    if (report_.failures > 1) Line("  and {} more requests after it", report_.failures - 1);
  }

  void Ladder() {
    const Estimate& process = report_.process_peak;
    Heading(fmt::format("Peak, MiB{:>28}", "what comes on top"));
    Bytes below;
    const auto step = [&](const char* name, Bytes bytes, std::string_view what) {
      Line("  {:<12}{:>10.1f}   {:>+10.1f}  {}", name, InMiB(bytes), InMiB(bytes - below), what);
      below = bytes;
    };
    step("requested", report_.requested_peak, "what the tensors hold");
    step("allocated", report_.allocated_peak, "rounding to blocks");
    step("active", report_.active_peak, "freed, but still in use on another stream");
    step("reserved", report_.reserved_peak, "cached, free and in pieces");
    const std::string range = fmt::format(": an estimate, {:.0f} to {:.0f} in all",
                                          InMiB(process.value - process.below), InMiB(process.value + process.above));
    if (report_.context != Estimate()) {
      step("process", process.value, "context, modules, libraries" + (process.above > Bytes(0) ? range : ""));
    }
    if (report_.device_memory) step("device", *report_.device_memory, report_.out_of_memory ? "too little" : "left");
    if (!report_.at.phase.empty()) {
      Line("  allocated is highest in {}{}", DescribeMoment(report_.at),
           report_.at.op.empty() ? "" : ", at " + report_.at.op);
    }
    if (report_.time) {
      Line(
          "  a step takes at least {:.1f} ms: forward {:.1f}, backward {:.1f}, optimizer {:.1f} at the device's peak "
          "rates",
          report_.time->step_us / 1e3, report_.time->forward_us / 1e3, report_.time->backward_us / 1e3,
          report_.time->optimizer_us / 1e3);
    }
    if (report_.without_evaluation) {
      const Bytes added = report_.reserved_peak - report_.without_evaluation->reserved;
      Line("  evaluation alone costs {:.1f} MiB of reserved: without it {:.1f} ({:.1f} allocated)", InMiB(added),
           InMiB(report_.without_evaluation->reserved), InMiB(report_.without_evaluation->allocated));
    }
  }

  // '#' allocated, '.' reserved but not allocated, and below it the phases.
  void Curve() {
    const Timeline& curve = report_.timeline;
    if (curve.allocated.empty() || report_.reserved_peak == Bytes(0)) return;
    const size_t columns = std::min(kColumns, curve.allocated.size());
    std::vector<Bytes> allocated(columns);
    std::vector<Bytes> reserved(columns);
    std::string phases(columns, ' ');
    for (size_t column = 0; column < columns; ++column) {
      const size_t begin = column * curve.allocated.size() / columns;
      const size_t end = (column + 1) * curve.allocated.size() / columns;
      allocated[column] = *std::max_element(curve.allocated.begin() + static_cast<std::ptrdiff_t>(begin),
                                            curve.allocated.begin() + static_cast<std::ptrdiff_t>(end));
      reserved[column] = *std::max_element(curve.reserved.begin() + static_cast<std::ptrdiff_t>(begin),
                                           curve.reserved.begin() + static_cast<std::ptrdiff_t>(end));
      phases[column] = curve.phase[begin];
    }
    Heading("Memory over the run: # allocated, . reserved");
    for (int row = kRows; row > 0; --row) {
      const Bytes level = Bytes(report_.reserved_peak.count() / kRows * row);
      std::string line(columns, ' ');
      for (size_t column = 0; column < columns; ++column) {
        const Bytes middle = level - Bytes(report_.reserved_peak.count() / (int64_t{2} * kRows));
        line[column] = allocated[column] >= middle ? '#' : reserved[column] >= middle ? '.' : ' ';
      }
      Line("{:>8.0f} |{}", InMiB(level), line);
    }
    Line("         +{}", std::string(columns, '-'));
    if (phases.find_first_not_of(' ') != std::string::npos) {
      Line("          {}  {}", phases, PhaseLegend(phases));
    }
  }

  std::string PhaseLegend(const std::string& letters) const {
    std::vector<std::string> seen;
    for (const PhasePeak& phase : report_.phases) {
      const std::string& name = phase.at.phase;
      const bool shown = !name.empty() && letters.find(name.front()) != std::string::npos;
      if (shown && std::ranges::find(seen, name) == seen.end()) seen.push_back(name);
    }
    return fmt::format("{}", fmt::join(seen, " "));
  }

  // Consecutive phases with the same name in one step are a row.
  void Phases() {
    if (report_.phases.size() < 2) return;
    std::vector<PhasePeak> rows;
    for (const PhasePeak& phase : report_.phases) {
      if (!phase.at.phase.empty()) AddPhase(phase, rows);
    }
    Heading(fmt::format("Phases, MiB{:>22}{:>12}{:>12}", "allocated", "reserved", "added"));
    for (const PhasePeak& row : rows) {
      const Bytes added = row.reserved_after - row.reserved_before;
      const bool dull = added == Bytes(0) && row.allocated < report_.allocated_peak;
      if (dull && !style_.verbose) continue;
      Line("  {:<20}{:>11.1f}{:>12.1f}{:>12}", DescribeMoment(row.at), InMiB(row.allocated), InMiB(row.reserved),
           added == Bytes(0) ? "" : fmt::format("{:+.1f}", InMiB(added)));
    }
    if (!style_.verbose) Line("  (those that add to reserved, or reach the peak; -v shows all)");
  }

  static void AddPhase(const PhasePeak& phase, std::vector<PhasePeak>& rows) {
    Moment key = phase.at;
    key.batch = -1;
    key.micro_step = -1;
    // Within a step, phases take turns: data, forward, data, backward, …; one row for each of them.
    for (size_t i = rows.size(); i > 0; --i) {
      PhasePeak& row = rows[i - 1];
      if (row.at.step != key.step) break;
      if (row.at != key) continue;
      row.requested = std::max(row.requested, phase.requested);
      row.allocated = std::max(row.allocated, phase.allocated);
      row.active = std::max(row.active, phase.active);
      row.reserved = std::max(row.reserved, phase.reserved);
      row.reserved_after += phase.reserved_after - phase.reserved_before;
      return;
    }
    rows.push_back(phase);
    rows.back().at = key;
  }

  void Categories() {
    if (report_.breakdown.empty()) return;
    Heading("Alive at the peak of allocated, MiB");
    for (const CategoryBytes& entry : report_.breakdown) {
      if (entry.bytes == Bytes(0)) continue;
      const double share = entry.bytes / report_.allocated_peak;
      Line("  {:<18}{:>10.1f}  {:>5.1f} %  {}", entry.category, InMiB(entry.bytes), 100 * share,
           std::string(static_cast<size_t>(std::llround(share * 40)), '#'));
    }
  }

  void Largest() {
    if (report_.largest.empty()) return;
    Heading("Largest tensors then, MiB");
    const size_t count = std::min(report_.largest.size(), style_.verbose ? 2 * kTensors : kTensors);
    for (const TensorReport& tensor : std::span(report_.largest).first(count)) {
      const std::string type =
          tensor.dtype.empty() ? "" : fmt::format(" {}[{}]", tensor.dtype, fmt::join(tensor.shape, ", "));
      Line("  {:>8.1f}  {}{}", InMiB(tensor.bytes), tensor.tensor, type);
      const bool told = !tensor.op.empty() && tensor.op != tensor.tensor;
      Line("            {}{}; {}", tensor.category, told ? ", " + tensor.op : "", tensor.why);
    }
  }

  void Fragmentation() {
    const FragmentationReport& f = report_.fragmentation;
    if (report_.reserved_peak == Bytes(0)) return;
    Heading("Reserved but free at the peak of reserved, MiB");
    Line("  {:<34}{:>10.1f}", "cached and free", InMiB(f.cached_free));
    Line("  {:<34}{:>10.1f}", "of it in segments that are in use", InMiB(f.inactive_split));
    Line("  {:<34}{:>10.1f}", "of it in segments that could go", InMiB(f.free_whole_segments));
    Line("  {:<34}{:>10.1f}   {} free blocks", "the largest free block", InMiB(f.largest_free), f.free_blocks);
    Pinned();
    Possible();
  }

  // Which segments are half empty, and what keeps them.
  void Pinned() {
    const FragmentationReport& f = report_.fragmentation;
    if (f.pinned.empty()) return;
    Heading("Segments that hold the most free memory then, MiB");
    const size_t count = std::min(f.pinned.size(), style_.verbose ? f.pinned.size() : kSegments);
    for (const PinnedSegmentReport& segment : std::span(f.pinned).first(count)) {
      std::vector<std::string> names;
      for (const PinningTensor& pin : std::span(segment.pinned_by).first(std::min(segment.pinned_by.size(), kPins))) {
        names.push_back(fmt::format("{} ({:.1f})", pin.tensor.empty() ? "unknown" : pin.tensor, InMiB(pin.bytes)));
      }
      const int64_t more = segment.blocks - static_cast<int64_t>(names.size());
      Line("  {:>8.1f} of {:.1f} free in segment {}, kept by {}{}", InMiB(segment.free), InMiB(segment.size),
           segment.segment, fmt::join(names, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
    }
    if (f.pinned_segments > static_cast<int64_t>(count))
      Line("  and {} more segments", f.pinned_segments - static_cast<int64_t>(count));
  }

  // The distance to what a plan with foresight takes.
  void Possible() {
    const StaticPlanReport& plan = report_.static_plan;
    if (plan.bytes == Bytes(0)) return;
    Heading("What could be had with foresight, MiB");
    Line("  {:<34}{:>10.1f}   the tensors alive at once, in blocks of 512 bytes", "no plan takes less than",
         InMiB(plan.lower_bound));
    Line("  {:<34}{:>10.1f}   {}",
         plan.bytes == plan.lower_bound ? "the best static plan takes" : "a static plan found takes", InMiB(plan.bytes),
         plan.method);
    Line("  {:<34}{:>10.1f}   {:+.1f} %", "reserved is above it by", InMiB(report_.reserved_peak - plan.bytes),
         100 * (report_.reserved_peak / plan.bytes - 1));
  }

  void Compiled() {
    if (report_.compiled.empty()) return;
    Heading("Compiled");
    for (const std::string& note : CompiledNotes(report_.compiled)) Line("  {}", note);
    if (!style_.verbose) {
      Line("  (-v lists kernels with what is fused into each, and what is saved)");
      return;
    }
    for (const std::string& line : CompiledLines(report_.compiled)) Line("  {}", line);
  }

  void Statistics() {
    if (!style_.verbose) return;
    Heading("Statistics, as torch.cuda.memory_stats() names them");
    for (const Statistic& statistic : report_.statistics) Line("  {:<44}{:>20}", statistic.key, statistic.value);
  }

  const Report& report_;
  TextStyle style_;
  std::string text_;
};

}  // namespace

std::string ReportText(const Report& report, TextStyle style) { return Writer(report, style).Run(); }

}  // namespace tidemark
