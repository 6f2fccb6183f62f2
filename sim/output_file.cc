#include "sim/output_file.h"

#include <fmt/format.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace tidemark {

Result<OutputFile> OutputFile::Create(const std::string& path) {
  OutputFile out;
  out.path_ = path;
  if (path == "-") {
    out.file_ = stdout;
    return out;
  }
  // Devices and pipes are written to, never replaced.
  std::error_code unknown;
  const auto status = std::filesystem::status(path, unknown);
  const bool special = std::filesystem::exists(status) && !std::filesystem::is_regular_file(status);
  if (!special) out.temporary_ = fmt::format("{}.{}.tmp", path, getpid());
  out.file_ = std::fopen(special ? path.c_str() : out.temporary_.c_str(), "wb");
  if (out.file_ == nullptr) return InvalidInput(fmt::format("{}: can't be written: {}", path, std::strerror(errno)));
  return out;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      file_(std::exchange(other.file_, nullptr)),
      error_(other.error_) {}

OutputFile::~OutputFile() {
  if (file_ == nullptr || file_ == stdout) return;
  std::fclose(file_);
  if (!temporary_.empty()) std::remove(temporary_.c_str());
}

void OutputFile::Write(std::string_view text) {
  if (error_ == 0 && std::fwrite(text.data(), 1, text.size(), file_) != text.size()) error_ = errno;
}

void OutputFile::WriteGzip(std::string_view text) {
  z_stream z{};
  if (deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    error_ = ENOMEM;
    return;
  }
  std::string out(size_t{1} << 18, '\0');
  int code = Z_OK;
  while (code != Z_STREAM_END) {
    if (z.avail_in == 0 && !text.empty()) {
      const std::string_view part = text.substr(0, size_t{1} << 30);
      z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(part.data()));
      z.avail_in = static_cast<uInt>(part.size());
      text.remove_prefix(part.size());
    }
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    code = deflate(&z, text.empty() ? Z_FINISH : Z_NO_FLUSH);
    Write(std::string_view(out.data(), out.size() - z.avail_out));
  }
  deflateEnd(&z);
}

Status OutputFile::Finish() {
  const bool standard = file_ == stdout;
  std::FILE* const file = std::exchange(file_, nullptr);
  if ((standard ? std::fflush(file) : std::fclose(file)) != 0 && error_ == 0) error_ = errno;
  if (!temporary_.empty() && error_ == 0 && std::rename(temporary_.c_str(), path_.c_str()) != 0) error_ = errno;
  if (error_ == 0) return {};
  if (!temporary_.empty()) std::remove(temporary_.c_str());
  return InvalidInput(
      fmt::format("{}: can't be written: {}", standard ? "standard output" : path_, std::strerror(error_)));
}

}  // namespace tidemark
