// SPDX-License-Identifier: Apache-2.0
// Stop strings over streamed text: text that may be the beginning of a stop string is held back until that is decided.
// The stop string that is complete first wins, the longest if several end there; how the text was cut into pieces changes nothing.
// Invariant: given whole characters, only whole characters come out. Cost: O(bytes * stop strings).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace shoal {

class StopMatcher {
 public:
  // With `include_stop` the stop string itself is the last text that comes out. An empty stop string is an Error.
  StopMatcher(std::vector<std::string> stops, bool include_stop);

  // Adds text; returns what is certain. Text after a stop string is dropped.
  std::string push(std::string_view piece);
  // The generation ended by itself: returns what was held back.
  std::string finish();

  bool stopped() const { return matched_ >= 0; }
  // The stop string that was found; empty before.
  std::string_view matched() const { return stopped() ? patterns_[matched_].text : std::string_view(); }

 private:
  // Knuth, Morris, Pratt 1977: `border[i]` is the longest proper prefix of text[0..i] that is also its suffix.
  struct Pattern {
    std::string text;
    std::vector<size_t> border;
    size_t state = 0;  // how much of `text` the input's end matches
  };
  void advance(Pattern& pattern, char byte) const;

  std::vector<Pattern> patterns_;
  std::string held_;
  bool include_stop_;
  int matched_ = -1;
};

}  // namespace shoal
