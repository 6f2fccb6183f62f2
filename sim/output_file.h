// A file that appears whole or not at all: written under a temporary name beside its place, and renamed at the end.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include "graph/base/result.h"

namespace tidemark {

class OutputFile {
 public:
  // "-" is standard output. Error: a place that can't be written.
  static Result<OutputFile> Create(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  // What goes wrong is kept for Finish.
  void Write(std::string_view text);
  // Everything that the file is to hold, compressed, without a name or time: the same text gives the same bytes.
  void WriteGzip(std::string_view text);
  // Flushes and renames. Error: what the disk said; then no file is left.
  Status Finish();

 private:
  OutputFile() = default;

  std::string path_;
  std::string temporary_;  // empty: standard output, a device or a pipe
  std::FILE* file_ = nullptr;
  int error_ = 0;
};

}  // namespace tidemark
