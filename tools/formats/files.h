// Whole files in and out.
#pragma once

#include <string>
#include <string_view>

#include "graph/base/result.h"

namespace tidemark {

// The content of a file, or of standard input for "-". A gzip-compressed file is unpacked.
Result<std::string> ReadFile(const std::string& path);

// Writes a file that appears whole or not at all; gzip-compressed where the path ends in .gz, standard output for "-".
Status WriteFile(const std::string& path, std::string_view content);

}  // namespace tidemark
