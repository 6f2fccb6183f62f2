#include "tools/formats/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sim/output_file.h"

namespace tidemark {
namespace {

constexpr unsigned kChunk = 1U << 18;

Error CantRead(const std::string& path, int code) {
  return InvalidInput(fmt::format("{}: can't be read: {}", path, std::strerror(code)));
}

Result<gzFile> OpenForReading(const std::string& path) {
  const int descriptor = path == "-" ? ::dup(STDIN_FILENO) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return CantRead(path, errno);
  struct stat status {};
  const bool folder = ::fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode);
  gzFile file = folder ? nullptr : ::gzdopen(descriptor, "rb");  // also reads what isn't compressed
  if (file == nullptr) {
    ::close(descriptor);
    return CantRead(path, folder ? EISDIR : ENOMEM);
  }
  ::gzbuffer(file, kChunk);
  return file;
}

}  // namespace

Result<std::string> ReadFile(const std::string& path) {
  ASSIGN_OR_RETURN(const gzFile file, OpenForReading(path));
  std::string content;
  int count = 0;
  do {
    const size_t size = content.size();
    content.resize(size + kChunk);
    count = ::gzread(file, content.data() + size, kChunk);
    content.resize(size + static_cast<size_t>(std::max(count, 0)));
  } while (count > 0);
  const int system_code = errno;
  int code = Z_OK;
  const std::string message = ::gzerror(file, &code);
  ::gzclose(file);
  if (code == Z_ERRNO) return CantRead(path, system_code);
  if (code != Z_OK && code != Z_STREAM_END) {
    return InvalidInput(fmt::format("{}: damaged or truncated gzip data", path));
  }
  return content;
}

Status WriteFile(const std::string& path, std::string_view content) {
  ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(path));
  if (path.ends_with(".gz")) {
    file.WriteGzip(content);
  } else {
    file.Write(content);
  }
  return file.Finish();
}

}  // namespace tidemark
