// SPDX-License-Identifier: Apache-2.0
// The "normalizer" of tokenizer.json: a list of steps that rewrite a stretch of text before it is split into words.
// Known steps: NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, Replace, Sequence; others are refused by name.
// Immutable after construction, usable from many threads.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_read.h"

namespace shoal::text {

class Normalizer {
 public:
  Normalizer() = default;  // changes nothing
  explicit Normalizer(Json json) { add(json); }

  std::string operator()(std::string_view text) const;

 private:
  using Step = std::function<std::string(std::string)>;
  void add(Json json);
  std::vector<Step> steps_;
};

// Replaces every match of a "pattern" ({"String": …} or {"Regex": …}); the content is taken literally.
std::function<std::string(std::string)> make_replace(Json json);
// The "pattern" member as a regex: a "String" is escaped.
std::string pattern_of(Json json);

}  // namespace shoal::text
