// Half-open intervals, everywhere in Tidemark: [begin, end).
#pragma once

#include <cstdint>

namespace tidemark {

struct Interval {
  int64_t begin = 0;  // included
  int64_t end = 0;    // not included

  constexpr int64_t length() const { return end - begin; }
  constexpr bool empty() const { return end <= begin; }
  constexpr bool Contains(int64_t at) const { return begin <= at && at < end; }
  constexpr bool Overlaps(const Interval& other) const { return begin < other.end && other.begin < end; }
  constexpr bool operator==(const Interval&) const = default;
};

}  // namespace tidemark
