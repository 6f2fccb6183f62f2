// Lines of a file or a buffer, plain or gzip-compressed, in constant memory.
#pragma once

#include <zlib.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "graph/base/result.h"

namespace tidemark {

// Cuts its input into lines. Concatenated gzip members count as one, as gzip itself reads them.
class LineSource {
 public:
  // "-" is standard input.
  static Result<std::unique_ptr<LineSource>> Open(const std::string& path);
  static std::unique_ptr<LineSource> FromBuffer(std::string_view content);
  ~LineSource();
  LineSource(const LineSource&) = delete;
  LineSource& operator=(const LineSource&) = delete;

  // The next line without its '\n'; false at the end. Errors (without a place): unreadable, truncated or damaged input,
  // a line of more than 64 MiB.
  Result<bool> Next(std::string_view* line);

 private:
  LineSource() = default;
  Status Fill();
  Result<size_t> ReadRaw(char* to, size_t size);
  Result<size_t> Inflate(char* to, size_t size);
  Status StartGzip();

  std::FILE* file_ = nullptr;
  std::string_view content_;
  std::string raw_;  // input of a gzip stream
  std::unique_ptr<z_stream> gzip_;
  bool member_ended_ = false;
  bool started_ = false;
  bool ended_ = false;
  std::string buffer_;
  size_t begin_ = 0;  // what isn't handed out yet: buffer_[begin_, end_)
  size_t end_ = 0;
};

}  // namespace tidemark
