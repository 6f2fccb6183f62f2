// Amounts of memory as people write them: 12GiB, 12282MiB, 1.5 GB, 512.
#pragma once

#include <string>
#include <string_view>

#include "graph/base/result.h"
#include "graph/base/units.h"

namespace tidemark {

// What a number without a unit means: nothing (an error), or so many of these.
constexpr Bytes kUnitRequired{0};

// B, KiB, MiB, GiB, TiB (powers of 1024) and kB, KB, MB, GB, TB (powers of 1000); fractions allowed, sign not.
// The error says what is wrong with the text, without a place.
Result<Bytes> ParseSize(std::string_view text, Bytes plain_unit);

// "5924.00 MiB", "8.38 GiB", "512 bytes": as PyTorch prints them, with two decimals from KiB on.
std::string FormatSize(Bytes bytes);

}  // namespace tidemark
