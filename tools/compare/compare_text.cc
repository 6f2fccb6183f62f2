#include "tools/compare/compare_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/compiled_text.h"
#include "tools/tape_marks.h"

namespace tidemark {
namespace {

constexpr size_t kWidest = 48;  // of the names' column

double InMiB(Bytes bytes) { return bytes / kMiB; }

class Writer {
 public:
  Writer(const VariantTable& table, TextStyle style) : table_(table), style_(style) {
    for (const Variant& variant : table.variants) width_ = std::max(width_, variant.name.size());
    width_ = std::min(width_, kWidest);
  }

  std::string Run() {
    const Report& base = table_.base.report;
    Line("{}", base.title);
    Line("on {} with {:.0f} MiB", base.device_name, InMiB(base.device_memory.value_or(Bytes())));
    Line("");
    Line("{}", Styled(kBold, fmt::format("{:<{}}{:>22}{:>22}{:>10}  {:<12}{:>17}", "MiB", width_, "allocated",
                                         "reserved", "process", "", base.time ? "ms a step (token)" : "")));
    Row(table_.base);
    for (const Variant& variant : table_.variants) Row(variant);
    Why();
    if (style_.verbose) Categories();
    return std::move(text_);
  }

 private:
  template <typename... T>
  void Line(fmt::format_string<T...> format, T&&... values) {
    text_ += fmt::format(format, std::forward<T>(values)...);
    while (text_.ends_with(' ')) text_.pop_back();
    text_ += '\n';
  }
  std::string Styled(const char* code, std::string_view words) const {
    return style_.colour ? fmt::format("{}{}{}", code, words, kPlain) : std::string(words);
  }

  static std::string WithChange(Bytes value, Bytes base) {
    if (value == base) return fmt::format("{:.1f} (=)", InMiB(value));
    return fmt::format("{:.1f} ({:+.1f})", InMiB(value), InMiB(value - base));
  }

  std::string Verdict(const Report& report) const {
    if (report.out_of_memory) return Styled(kRed, fmt::format("{:<12}", "too much"));
    const bool hardly = report.process_peak.value + report.process_peak.above > report.device_memory.value_or(Bytes());
    return hardly ? Styled(kRed, fmt::format("{:<12}", "hardly fits")) : Styled(kGreen, fmt::format("{:<12}", "fits"));
  }

  std::string Time(const Variant& variant) const {
    const Report& report = variant.report;
    if (!report.time) return "";
    const double milliseconds = report.time->step_us / 1e3;
    const Report& base = table_.base.report;
    if (&report == &base || !base.time) return fmt::format("{:.1f}", milliseconds);
    return fmt::format("{:.1f} ({:+.1f} %)", milliseconds, 100 * (AToken(variant) / AToken(table_.base) - 1));
  }
  static double AToken(const Variant& variant) { return variant.report.time->step_us / TokensOfStep(variant.run); }

  void Row(const Variant& variant) {
    const Report& report = variant.report;
    const Report& base = table_.base.report;
    const bool is_base = &report == &base;
    // A long name has a line to itself.
    std::string name = variant.name;
    if (name.size() > width_) {
      Line("{}", name);
      name.clear();
    }
    if (!variant.impossible.empty()) {
      Line("{:<{}}{:>54}  {}", name, width_, "", Styled(kRed, "not possible"));
      return;
    }
    Line("{:<{}}{:>22}{:>22}{:>10.0f}  {}{:>17}", name, width_,
         is_base ? fmt::format("{:.1f}", InMiB(report.allocated_peak))
                 : WithChange(report.allocated_peak, base.allocated_peak),
         is_base ? fmt::format("{:.1f}", InMiB(report.reserved_peak))
                 : WithChange(report.reserved_peak, base.reserved_peak),
         InMiB(report.process_peak.value), Verdict(report), Time(variant));
  }

  void Why() {
    const Report& base = table_.base.report;
    Line("");
    Line("{}", Styled(kBold, "Why"));
    Line("  {}: the peak lies in {}{}", table_.base.name, DescribeMoment(base.at),
         base.at.op.empty() ? "" : ", at " + base.at.op);
    for (const std::string& note : CompiledNotes(base.compiled)) Line("    {}", note);
    for (const Variant& variant : table_.variants) {
      Line("  {}: {}", variant.name, variant.impossible.empty() ? variant.explanation : variant.impossible);
      if (variant.report.out_of_memory) {
        Line("    {}", variant.report.out_of_memory->message);
        Line("    the figures are those of a device that is large enough");
      }
      // Compiled as the base is, it has the same to say.
      if (base.compiled.empty()) {
        for (const std::string& note : CompiledNotes(variant.report.compiled)) Line("    {}", note);
      }
      for (const PassRun& pass : variant.passes) {
        for (const std::string& note : pass.notes) Line("    {}: {}", pass.name, note);
        Line("    {}", Effect(pass));
      }
    }
    if (!base.time) return;
    Line("");
    Line(
        "ms a step: each kernel at the device's peak rates, a lower bound that ranks variants (real kernels reach 60 "
        "to 90 % of it); in brackets the change of time for each token");
  }

  // What is alive at each row's peak, a column for each row.
  void Categories() {
    std::vector<const Variant*> rows = {&table_.base};
    for (const Variant& variant : table_.variants) {
      if (variant.impossible.empty()) rows.push_back(&variant);
    }
    Line("");
    Line("{}", Styled(kBold, "Alive at the peak, MiB"));
    for (size_t i = 0; i < rows.size(); ++i) Line("  ({}) {}", i, rows[i]->name);
    std::string heads;
    for (size_t i = 0; i < rows.size(); ++i) heads += fmt::format("{:>10}", fmt::format("({})", i));
    Line("{:<18}{}", "", heads);
    for (size_t k = 0; k < table_.base.report.breakdown.size(); ++k) {
      std::string cells;
      for (const Variant* row : rows) cells += fmt::format("{:>10.1f}", InMiB(row->report.breakdown[k].bytes));
      Line("{:<18}{}", table_.base.report.breakdown[k].category, cells);
    }
  }

  static std::string Effect(const PassRun& pass) {
    if (!pass.changed) return fmt::format("{}: nothing to change", pass.name);
    return fmt::format("{}: highest live bytes {:.1f} MiB ({:+.1f}), traffic of the run {:.1f} GiB ({:+.1f} %)",
                       pass.name, pass.live_after / kMiB, (pass.live_after - pass.live_before) / kMiB,
                       pass.traffic_after / kGiB, 100 * (pass.traffic_after / pass.traffic_before - 1));
  }

  const VariantTable& table_;
  TextStyle style_;
  size_t width_ = 8;
  std::string text_;
};

}  // namespace

std::string CompareText(const VariantTable& table, TextStyle style) { return Writer(table, style).Run(); }

}  // namespace tidemark
