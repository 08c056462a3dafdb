// SPDX-License-Identifier: Apache-2.0
#include "base/nearest.h"

#include <algorithm>
#include <array>
#include <limits>

namespace shoal {
namespace {
constexpr size_t kLongest = 64;
}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  a = a.substr(0, kLongest);
  b = b.substr(0, kLongest);
  // rows[i % 3][j]: distance of the first i bytes of a to the first j bytes of b; a swap looks two rows back.
  std::array<std::array<int, kLongest + 1>, 3> rows{};
  for (size_t j = 0; j <= b.size(); ++j) rows[0][j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    auto& row = rows[i % 3];
    const auto& above = rows[(i - 1) % 3];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], rows[(i - 2) % 3][j - 2] + 1);
    }
  }
  return rows[a.size() % 3][b.size()];
}

std::string nearest_word(std::string_view word, const std::vector<KnownWord>& known) {
  std::string shown;
  int least = std::numeric_limits<int>::max();
  for (const KnownWord& candidate : known) {
    // Twice the distance, so that a penalty of one only decides between equals.
    const int distance = 2 * edit_distance(word, candidate.word) + candidate.penalty;
    if (distance >= least) continue;
    least = distance;
    shown = candidate.shown;
  }
  return shown;
}

}  // namespace shoal
