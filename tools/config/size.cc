#include "tools/config/size.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cmath>
#include <utility>

namespace tidemark {
namespace {

constexpr std::pair<std::string_view, double> kUnits[] = {
    {"B", 1},    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
    {"kB", 1e3}, {"KB", 1e3},     {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},
};
constexpr double kMaxBytes = 0x1p62;

}  // namespace

Result<Bytes> ParseSize(std::string_view text, Bytes plain_unit) {
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number)) {
    return InvalidInput(fmt::format("\"{}\" is not a size; a size is a number with a unit, as in 12GiB", text));
  }
  std::string_view unit(rest, static_cast<size_t>(text.data() + text.size() - rest));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  double scale = static_cast<double>(plain_unit.count());
  if (unit.empty() && plain_unit == kUnitRequired && number != 0) {
    return InvalidInput(fmt::format("\"{}\" lacks a unit; known: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB", text));
  }
  if (!unit.empty()) {
    scale = 0;
    for (const auto& [name, size] : kUnits) {
      if (unit == name) scale = size;
    }
    if (scale == 0) {
      return InvalidInput(
          fmt::format("\"{}\" has an unknown unit \"{}\"; known: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB", text, unit));
    }
  }
  if (number < 0) return InvalidInput(fmt::format("\"{}\" is negative", text));
  if (number * scale > kMaxBytes) return InvalidInput(fmt::format("\"{}\" is more than 4 EiB", text));
  return Bytes(std::llround(number * scale));
}

std::string FormatSize(Bytes bytes) {
  const double count = static_cast<double>(bytes.count());
  const double size = std::abs(count);
  if (size <= 1024) return fmt::format("{} bytes", bytes.count());
  if (size <= 0x1p20) return fmt::format("{:.2f} KiB", count / 0x1p10);
  if (size <= 0x1p30) return fmt::format("{:.2f} MiB", count / 0x1p20);
  return fmt::format("{:.2f} GiB", count / 0x1p30);
}

}  // namespace tidemark
