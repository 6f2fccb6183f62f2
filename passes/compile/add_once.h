// Small lists that are used as sets.
#pragma once

#include <algorithm>
#include <vector>

namespace tidemark::compile {

// Appends `item` where it isn't there yet. O(n).
template <typename T>
void AddOnce(std::vector<T>& list, const T& item) {
  if (std::ranges::find(list, item) == list.end()) list.push_back(item);
}

}  // namespace tidemark::compile
