#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/compare/fit.h"

namespace tidemark {
namespace {

using Json = nlohmann::ordered_json;

std::string Row(const FitRow& row, const FitRow& base) {
  const std::string time = row.step_us == 0 ? ""
                                            : fmt::format("{:>11.1f} {:>+8.1f} %", row.step_us / 1e3,
                                                          100 * (row.step_us / base.step_us - 1));
  return fmt::format("{:>10.0f} {:>10.1f} {:>10.1f}{}  {} {}\n", row.process / kMiB, row.reserved / kMiB,
                     row.allocated / kMiB, time, row.fits ? "fits    " : "too much", row.changes);
}

Json RowJson(const FitRow& row) {
  return {{"changes", row.changes},
          {"changes_count", row.count},
          {"fits", row.fits},
          {"allocated_bytes", row.allocated.count()},
          {"reserved_bytes", row.reserved.count()},
          {"process_bytes", row.process.count()},
          {"step_us", row.step_us}};
}

}  // namespace

std::string FitText(const Fit& fit, TextStyle style) {
  const auto bold = [&](const std::string& text) { return style.colour ? kBold + text + kPlain : text; };
  std::string text =
      fmt::format("{}\non {}; budget {:.0f} MiB for the process\n\n", fit.title, fit.device, fit.budget / kMiB);
  if (!fit.choice) {
    const auto least = std::ranges::min_element(fit.front, {}, &FitRow::process);
    text += bold("NOTHING FITS") + fmt::format(": of {} combinations the smallest takes {:.0f} MiB: {}\n",
                                               fit.all.size(), least->process / kMiB, least->changes);
  } else if (fit.choice->count == 0) {
    text += bold("FITS AS GIVEN") + fmt::format(": {:.0f} MiB\n", fit.choice->process / kMiB);
  } else {
    text += bold("FITS WITH " + fit.choice->changes) +
            fmt::format(": {:.0f} MiB instead of {:.0f}", fit.choice->process / kMiB, fit.base.process / kMiB);
    if (fit.choice->step_us > 0) {
      text +=
          fmt::format("; a step takes {:.1f} ms instead of {:.1f}", fit.choice->step_us / 1e3, fit.base.step_us / 1e3);
    }
    text += "\n\n" + bold("Lines for the run file") + "\n";
    for (const std::string& line : fit.lines) text += "  " + line + "\n";
  }
  text +=
      "\n" + bold(fmt::format("{:>10} {:>10} {:>10}{:>22}", "process", "reserved", "allocated", "ms a step")) + "\n";
  text += Row(fit.base, fit.base);
  for (const FitRow& row : fit.front) {
    if (row.count > 0) text += Row(row, fit.base);
  }
  text += fmt::format("(MiB; of {} combinations those that are faster than every smaller one)\n", fit.all.size());
  if (style.verbose) {
    text += "\n" + bold("Every combination") + "\n";
    for (const FitRow& row : fit.all) text += Row(row, fit.base);
  }
  return text;
}

std::string FitJson(const Fit& fit) {
  Json front = Json::array();
  for (const FitRow& row : fit.front) front.push_back(RowJson(row));
  const Json json = {{"schema", "tidemark.fit/1"},
                     {"fits", fit.choice.has_value()},
                     {"budget_bytes", fit.budget.count()},
                     {"base", RowJson(fit.base)},
                     {"choice", fit.choice ? RowJson(*fit.choice) : Json(nullptr)},
                     {"lines", fit.lines},
                     {"front", front},
                     {"tried", fit.all.size()}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tidemark
