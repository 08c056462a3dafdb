// SPDX-License-Identifier: Apache-2.0
#include "text/regex.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"

namespace shoal::text {
namespace {

std::vector<std::string> matches(const std::string& pattern, std::string_view text) {
  std::vector<std::string> result;
  Regex(pattern).for_each_match(text, [&](Match m) { result.emplace_back(text.substr(m.begin, m.end - m.begin)); });
  return result;
}

using Strings = std::vector<std::string>;

TEST(Regex, ReadsWhiteSpaceAsOniguruma) {
  EXPECT_EQ(matches(R"(\s+)", "a\u00A0\u2003b\u180Ec\u0085"),
            (Strings{"\u00A0\u2003", "\u0085"}));  // U+180E is not white space
  EXPECT_EQ(matches(R"([^\s]+)", "a\u3000b\u180Ec"), (Strings{"a", "b\u180Ec"}));
  EXPECT_EQ(matches(R"(\S+)", "a\u3000b\u180Ec"), (Strings{"a", "b\u180Ec"}));
}

TEST(Regex, CountsMarksAndConnectorsAsWordCharacters) {
  EXPECT_EQ(matches(R"(\w+)", "e\u0301_\u203F1-\u00B2"), (Strings{"e\u0301_\u203F1", "\u00B2"}));
}

TEST(Regex, IntersectsClasses) {
  EXPECT_EQ(matches(R"([\p{L}&&[^\p{Han}]]+)", "ab\u4F60cd"), (Strings{"ab", "cd"}));
  EXPECT_EQ(matches(R"([a-z&&[aeiou]]+)", "boat"), (Strings{"oa"}));
  EXPECT_EQ(matches(R"([a[bc]]+)", "xabcx"), (Strings{"abc"}));
  EXPECT_THROW(Regex("[a[^b]]"), Error);
  EXPECT_THROW(Regex("[a"), Error);
}

TEST(Regex, StepsOverEmptyMatches) {
  EXPECT_EQ(matches("x*", "axb"), (Strings{"", "x", ""}));
  EXPECT_EQ(matches("", "\u00E9"), (Strings{"", ""}));
}

TEST(Regex, EscapesLiterals) {
  for (const char* literal : {"a.b", "(x)", "[|]", "\\", "{1}", "^$", "#- ~&"})
    EXPECT_EQ(matches(escape_regex(literal), literal), Strings{literal});
}

}  // namespace
}  // namespace shoal::text
