// The what-if table, as text, as JSON, as a Chrome trace and as a page.
#pragma once

#include <string>

#include "tools/compare/variants.h"
#include "tools/formats/report_text.h"

namespace tidemark {

std::string CompareText(const VariantTable& table, TextStyle style);
// {"schema": "tidemark.compare/1", "base": {…}, "variants": [{…}, …]}; bytes are integers, keys as in reports. A
// variant that isn't possible is {"name": "…", "impossible": "why"}.
std::string CompareJson(const VariantTable& table);
// The curves of allocated and reserved bytes of each variant below each other, with the phases: one process a variant.
// A run's curve is as long as its tape, one microsecond an event.
std::string CompareTrace(const VariantTable& table);
// One HTML page without network: the table, the reasons, and the curves over each other.
std::string CompareHtml(const VariantTable& table);

}  // namespace tidemark
