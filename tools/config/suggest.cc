#include "tools/config/suggest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace tidemark {

size_t EditDistance(std::string_view from, std::string_view to) {
  // Damerau-Levenshtein with adjacent swaps; three rows of the table are enough.
  std::vector<size_t> two_ago;
  std::vector<size_t> last(to.size() + 1);
  for (size_t j = 0; j <= to.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= from.size(); ++i) {
    std::vector<size_t> row(to.size() + 1);
    row[0] = i;
    for (size_t j = 1; j <= to.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (from[i - 1] == to[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
      if (swapped) row[j] = std::min(row[j], two_ago[j - 2] + 1);
    }
    two_ago = std::move(last);
    last = std::move(row);
  }
  return last[to.size()];
}

std::string Nearest(std::string_view word, std::span<const std::string> known) {
  constexpr size_t kLongest = 64;  // nobody means a word of 64 letters, and the table is quadratic
  if (word.empty() || word.size() > kLongest) return "";
  std::string best;
  size_t best_distance = std::max<size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  if (!best.empty()) return best;
  const auto is_prefix = [&](const std::string& candidate) {
    const bool part = candidate.starts_with(word) || word.starts_with(candidate);
    return part && std::min(candidate.size(), word.size()) >= 3;
  };
  const auto found = std::ranges::find_if(known, is_prefix);
  return found == known.end() ? "" : *found;
}

std::string KnownWords(std::string_view word, std::span<const std::string> known) {
  const std::string nearest = Nearest(word, known);
  return fmt::format("known: {}{}", fmt::join(known, ", "), nearest.empty() ? "" : "; nearest: " + nearest);
}

}  // namespace tidemark
