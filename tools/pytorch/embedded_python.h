// The files of tools/phantom/python, compiled in (embed_python.cmake writes the source).
#pragma once

#include <span>
#include <string_view>

namespace tidemark {

struct EmbeddedPython {
  std::string_view name;  // of the file
  std::string_view text;
};

std::span<const EmbeddedPython> EmbeddedPythonFiles();

}  // namespace tidemark
