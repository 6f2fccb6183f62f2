// A report for people: the verdict first, then how the peak is made up.
#pragma once

#include <string>

#include "tools/report.h"

namespace tidemark {

struct TextStyle {
  bool colour = false;   // ANSI; never the only carrier of a meaning
  bool verbose = false;  // every phase and twice as many tensors, and the statistics
};

std::string ReportText(const Report& report, TextStyle style);

}  // namespace tidemark
