// Why a variant takes more or less memory than the base, in a sentence or two, from the numbers of both.
#pragma once

#include <string>

#include "tools/compare/variants.h"

namespace tidemark {

std::string ExplainVariant(const Variant& base, const Variant& variant);

}  // namespace tidemark
