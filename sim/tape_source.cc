#include "sim/tape_source.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace tidemark {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr size_t kLongestLine = size_t{64} << 20;

}  // namespace

Result<std::unique_ptr<LineSource>> LineSource::Open(const std::string& path) {
  std::unique_ptr<LineSource> source(new LineSource());
  source->file_ = path == "-" ? stdin : std::fopen(path.c_str(), "rb");
  if (source->file_ == nullptr) return InvalidInput(fmt::format("{}: can't be read: {}", path, std::strerror(errno)));
  return source;
}

std::unique_ptr<LineSource> LineSource::FromBuffer(std::string_view content) {
  std::unique_ptr<LineSource> source(new LineSource());
  source->content_ = content;
  return source;
}

LineSource::~LineSource() {
  if (gzip_ != nullptr) inflateEnd(gzip_.get());
  if (file_ != nullptr && file_ != stdin) std::fclose(file_);
}

Result<bool> LineSource::Next(std::string_view* line) {
  size_t searched = 0;
  for (;;) {
    const char* const start = buffer_.data() + begin_;
    const void* found = std::memchr(start + searched, '\n', end_ - begin_ - searched);
    if (found != nullptr) {
      *line = std::string_view(start, static_cast<size_t>(static_cast<const char*>(found) - start));
      begin_ += line->size() + 1;
      return true;
    }
    searched = end_ - begin_;
    if (ended_) {
      if (searched == 0) return false;
      *line = std::string_view(start, searched);
      begin_ = end_;
      return true;
    }
    if (searched > kLongestLine) return InvalidInput("a line of more than 64 MiB");
    RETURN_IF_ERROR(Fill());
  }
}

// Reads at least one more byte, or sets ended_.
Status LineSource::Fill() {
  if (begin_ > 0) std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (buffer_.size() < end_ + kBufferBytes) buffer_.resize(end_ + kBufferBytes);
  if (!started_) {
    RETURN_IF_ERROR(StartGzip());
    if (end_ > begin_) return {};
  }
  Result<size_t> count = gzip_ != nullptr ? Inflate(buffer_.data() + end_, buffer_.size() - end_)
                                          : ReadRaw(buffer_.data() + end_, buffer_.size() - end_);
  if (!count.ok()) return count.error();
  ended_ = *count == 0;
  end_ += *count;
  return {};
}

// Looks at the first two bytes: 1f 8b begin a gzip file.
Status LineSource::StartGzip() {
  started_ = true;
  raw_.resize(kBufferBytes);
  size_t have = 0;
  while (have < 2) {
    ASSIGN_OR_RETURN(const size_t count, ReadRaw(raw_.data() + have, kBufferBytes - have));
    if (count == 0) break;
    have += count;
  }
  if (have < 2 || raw_[0] != '\x1f' || raw_[1] != '\x8b') {
    std::memcpy(buffer_.data() + end_, raw_.data(), have);
    end_ += have;
    std::string().swap(raw_);
    return {};
  }
  gzip_ = std::make_unique<z_stream>();
  gzip_->next_in = reinterpret_cast<Bytef*>(raw_.data());
  gzip_->avail_in = static_cast<uInt>(have);
  if (inflateInit2(gzip_.get(), 15 + 16) != Z_OK) return InvalidInput("zlib can't start");
  return {};
}

Result<size_t> LineSource::ReadRaw(char* to, size_t size) {
  if (file_ == nullptr) {
    const size_t count = std::min(size, content_.size());
    std::memcpy(to, content_.data(), count);
    content_.remove_prefix(count);
    return count;
  }
  const size_t count = std::fread(to, 1, size, file_);
  if (count == 0 && std::ferror(file_) != 0)
    return InvalidInput(fmt::format("can't be read: {}", std::strerror(errno)));
  return count;
}

Result<size_t> LineSource::Inflate(char* to, size_t size) {
  gzip_->next_out = reinterpret_cast<Bytef*>(to);
  gzip_->avail_out = static_cast<uInt>(size);
  while (gzip_->avail_out == size) {
    if (gzip_->avail_in == 0) {
      ASSIGN_OR_RETURN(const size_t count, ReadRaw(raw_.data(), raw_.size()));
      if (count == 0) {
        if (member_ended_) return size_t{0};
        return InvalidInput("the gzip stream is truncated");
      }
      gzip_->next_in = reinterpret_cast<Bytef*>(raw_.data());
      gzip_->avail_in = static_cast<uInt>(count);
    }
    if (member_ended_) {
      if (gzip_->next_in[0] == 0) {  // padding, as tar writes it
        ++gzip_->next_in;
        --gzip_->avail_in;
        continue;
      }
      if (inflateReset(gzip_.get()) != Z_OK) return InvalidInput("zlib can't go on");
      member_ended_ = false;
    }
    const int code = inflate(gzip_.get(), Z_NO_FLUSH);
    if (code == Z_STREAM_END) {
      member_ended_ = true;
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      return InvalidInput("the gzip stream is damaged");
    }
  }
  return size - gzip_->avail_out;
}

}  // namespace tidemark
