// A report as JSON (contract, section 4).
#pragma once

#include <string>

#include "graph/run_config.h"
#include "tools/report.h"

namespace tidemark {

// The report, one object, ends with a newline.
std::string ReportJson(const Report& report);

}  // namespace tidemark
