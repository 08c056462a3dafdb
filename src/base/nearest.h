// SPDX-License-Identifier: Apache-2.0
// The known word nearest to a mistyped one, for errors that say what was probably meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace shoal {

// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment) that turn one word into the other. Words
// longer than 64 bytes are compared by their first 64, so that hostile input stays cheap.
int edit_distance(std::string_view a, std::string_view b);

// A word that can be written, and what an error shows for it.
struct KnownWord {
  std::string word;
  std::string shown;
  int penalty = 0;  // added to the distance: words that are known elsewhere
};

// `shown` of the word with the least distance; of equals the first. Empty only if there are no words.
std::string nearest_word(std::string_view word, const std::vector<KnownWord>& known);

}  // namespace shoal
