// "Did you mean": the nearest of some known words.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark {

// The number of letters to insert, remove, replace or swap with their neighbour to turn `from` into `to`.
size_t EditDistance(std::string_view from, std::string_view to);

// The known word nearest to `word`, if it is near enough to be meant: at most a third of its letters differ (but at
// least one may), or one begins with the other. Empty where none is. The first of several wins.
std::string Nearest(std::string_view word, std::span<const std::string> known);

// "known: a, b, c" with "; nearest: b" where there is one.
std::string KnownWords(std::string_view word, std::span<const std::string> known);

}  // namespace tidemark
