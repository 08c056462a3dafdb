// SPDX-License-Identifier: Apache-2.0
// The regular expressions of tokenizer.json, which are written for Oniguruma (Ruby syntax), run by PCRE2 with JIT, UTF and UCP.
// `onig_to_pcre` rewrites what the two read differently: \s \S \w \W, and class intersections `[A&&[^B]]`.
// Invariants: immutable after construction, usable from many threads; subjects must be valid UTF-8; a pattern that backtracks
// without end is cut off by a limit and reported as Error(kLimit). Not here: captures.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace shoal::text {

std::string onig_to_pcre(std::string_view pattern);
// `literal` as a pattern that matches exactly it.
std::string escape_regex(std::string_view literal);

struct Match {
  size_t begin, end;
};

class Regex {
 public:
  explicit Regex(const std::string& onig_pattern);

  // Every match from left to right, none overlapping; an empty match at the end of its predecessor is not one.
  void for_each_match(std::string_view text, const std::function<void(Match)>& visit) const;

 private:
  bool find(std::string_view text, size_t from, void* match_data, Match& match) const;

  std::shared_ptr<void> code_;     // pcre2_code
  std::shared_ptr<void> context_;  // pcre2_match_context, only read after construction
};

}  // namespace shoal::text
