// The bytes of a file (or of standard input, or of a buffer) one after the other, unpacked where they are compressed,
// in constant memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "graph/base/result.h"

namespace tidemark {

class ByteSource {
 public:
  // "-" is standard input.
  static Result<ByteSource> Open(const std::string& path);
  static ByteSource FromBuffer(std::string_view content);  // `content` must outlive the source
  ByteSource(ByteSource&&) noexcept;
  ByteSource& operator=(ByteSource&&) noexcept;
  ~ByteSource();

  // The next `count` bytes, at most kMaxView; valid until the next call. None where the input ends before.
  static constexpr size_t kMaxView = size_t{1} << 16;
  std::optional<std::string_view> Take(size_t count) {
    if (count > view_.size() && !Refill(count)) return std::nullopt;
    const std::string_view taken = view_.substr(0, count);
    view_.remove_prefix(count);
    position_ += count;
    return taken;
  }
  // The next `count` bytes, however many, in `text`; false where the input ends before.
  bool TakeText(uint64_t count, std::string* text);
  // Up to the next '\n', which is taken but not returned; none where the input (or 64 KiB) ends before.
  std::optional<std::string_view> TakeLine();
  // Up to `count` bytes without taking them; fewer at the end of the input.
  std::string_view Peek(size_t count);

  uint64_t position() const { return position_; }
  // What went wrong while reading; ok where the input just ended.
  const Status& status() const { return status_; }

 private:
  struct File;
  ByteSource();
  // Makes view_ at least `count` long; false where the input ends before.
  bool Refill(size_t count);

  std::unique_ptr<File> file_;
  std::string_view view_;  // what is read but not taken
  uint64_t position_ = 0;
  Status status_;
};

}  // namespace tidemark
