// SPDX-License-Identifier: Apache-2.0
// The syntax of pattern.h: a pattern as a tree. Not here: what it matches (pattern.cc).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace shoal::text {

struct CodeRange {
  char32_t low, high;
};
// Ascending, disjoint, without surrogates.
std::vector<CodeRange> normalised(std::vector<CodeRange> ranges, bool negated);

struct PatternTree {
  enum class Kind : uint8_t { kClass, kBegin, kEnd, kSequence, kChoice, kRepeat };
  static constexpr int32_t kForever = -1;

  Kind kind = Kind::kSequence;
  std::vector<CodeRange> ranges{};   // kClass
  std::vector<PatternTree> parts{};  // kSequence, kChoice; the one of kRepeat
  int32_t least = 0, most = 0;       // kRepeat
};

// Throws Error, with the place in the pattern.
PatternTree parse_pattern(std::string_view pattern);

}  // namespace shoal::text
