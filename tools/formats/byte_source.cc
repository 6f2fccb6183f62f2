#include "tools/formats/byte_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace tidemark {
namespace {

constexpr unsigned kChunk = 1U << 18;

Error CantRead(const std::string& path, int code) {
  return InvalidInput(fmt::format("{}: can't be read: {}", path, std::strerror(code)));
}

}  // namespace

struct ByteSource::File {
  explicit File(gzFile opened) : gz(opened) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { ::gzclose(gz); }

  gzFile gz;
  std::string path;
  std::string buffer;
};

ByteSource::ByteSource() = default;
ByteSource::ByteSource(ByteSource&&) noexcept = default;
ByteSource& ByteSource::operator=(ByteSource&&) noexcept = default;
ByteSource::~ByteSource() = default;

Result<ByteSource> ByteSource::Open(const std::string& path) {
  const int descriptor = path == "-" ? ::dup(STDIN_FILENO) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return CantRead(path, errno);
  struct stat status {};
  const bool folder = ::fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode);
  gzFile gz = folder ? nullptr : ::gzdopen(descriptor, "rb");  // also reads what isn't compressed
  if (gz == nullptr) {
    ::close(descriptor);
    return CantRead(path, folder ? EISDIR : ENOMEM);
  }
  ::gzbuffer(gz, kChunk);
  ByteSource source;
  source.file_ = std::make_unique<File>(gz);
  source.file_->path = path;
  return source;
}

ByteSource ByteSource::FromBuffer(std::string_view content) {
  ByteSource source;
  source.view_ = content;
  return source;
}

bool ByteSource::Refill(size_t count) {
  if (file_ == nullptr || !status_.ok()) return false;
  std::string& buffer = file_->buffer;
  std::string rest(view_);
  buffer.resize(rest.size() + kChunk);
  std::ranges::copy(rest, buffer.begin());
  size_t size = rest.size();
  while (size < count) {
    const int read = ::gzread(file_->gz, buffer.data() + size, static_cast<unsigned>(buffer.size() - size));
    if (read <= 0) break;
    size += static_cast<size_t>(read);
  }
  view_ = std::string_view(buffer).substr(0, size);
  if (size >= count) return true;
  const int system_code = errno;
  int code = Z_OK;
  ::gzerror(file_->gz, &code);
  if (code == Z_ERRNO) {
    status_ = CantRead(file_->path, system_code);
  } else if (code != Z_OK && code != Z_STREAM_END) {
    status_ = InvalidInput(fmt::format("{}: damaged or truncated gzip data", file_->path));
  }
  return false;
}

bool ByteSource::TakeText(uint64_t count, std::string* text) {
  text->clear();
  while (text->size() < count) {
    const std::optional<std::string_view> part = Take(std::min<uint64_t>(count - text->size(), kMaxView));
    if (!part) return false;
    text->append(*part);
  }
  return true;
}

std::optional<std::string_view> ByteSource::TakeLine() {
  const size_t end = Peek(kMaxView).find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  const std::optional<std::string_view> line = Take(end + 1);
  return line->substr(0, end);
}

std::string_view ByteSource::Peek(size_t count) {
  if (view_.size() < count) Refill(count);
  return view_.substr(0, count);
}

}  // namespace tidemark
