// A report for people: the verdict first, then how the peak is made up.
#pragma once

#include <string>

#include "tools/report.h"

namespace tidemark {

// What a terminal understands.
constexpr const char* kBold = "\x1b[1m";
constexpr const char* kGreen = "\x1b[1;32m";
constexpr const char* kRed = "\x1b[1;31m";
constexpr const char* kPlain = "\x1b[0m";

struct TextStyle {
  bool colour = false;   // ANSI; never the only carrier of a meaning
  bool verbose = false;  // every phase and twice as many tensors, and the statistics
};

std::string ReportText(const Report& report, TextStyle style);

}  // namespace tidemark
