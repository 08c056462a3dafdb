// SPDX-License-Identifier: Apache-2.0
#include "text/stop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/error.h"
#include "text/utf8.h"

namespace shoal {
namespace {

struct Outcome {
  std::string text, matched;
  bool operator==(const Outcome&) const = default;
};

// Cuts `text` into pieces of at most `longest` characters.
Outcome run(const std::vector<std::string>& stops, const std::string& text, bool include, std::mt19937& random,
            int longest) {
  StopMatcher matcher(stops, include);
  Outcome outcome;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    for (int left = 1 + static_cast<int>(random() % longest); left > 0 && at < text.size(); --left)
      text::next_code_point(text, at);
    const std::string piece = matcher.push(std::string_view(text).substr(begin, at - begin));
    EXPECT_TRUE(text::is_valid_utf8(piece));
    outcome.text += piece;
  }
  outcome.matched = matcher.matched();
  outcome.text += matcher.finish();
  return outcome;
}

// The definition, slowly: the first end of any stop string, the longest that ends there.
Outcome expected(const std::vector<std::string>& stops, const std::string& text, bool include) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string best;
    for (const std::string& stop : stops)
      if (std::string_view(text).substr(0, end).ends_with(stop) && stop.size() > best.size()) best = stop;
    if (!best.empty()) return {text.substr(0, include ? end : end - best.size()), best};
  }
  return {text, ""};
}

TEST(StopMatcher, HoldsBackWhatMayBecomeAStopString) {
  StopMatcher matcher({"<|end|>"}, false);
  EXPECT_EQ(matcher.push("hi <|"), "hi ");
  EXPECT_EQ(matcher.push("en"), "");
  EXPECT_EQ(matcher.push("t"), "<|ent");
  EXPECT_EQ(matcher.push("<|end|>more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.matched(), "<|end|>");
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, GivesBackWhatItHeldAtTheEnd) {
  StopMatcher matcher({"abc"}, false);
  EXPECT_EQ(matcher.push("xab"), "x");
  EXPECT_EQ(matcher.finish(), "ab");
}

TEST(StopMatcher, RefusesAnEmptyStopString) { EXPECT_THROW(StopMatcher({"a", ""}, false), Error); }

TEST(StopMatcher, EqualsItsDefinitionHoweverTheTextIsCut) {
  std::mt19937 random(7);
  const std::vector<std::string> letters = {"a", "b", "\u00e9", "\u4F60"};
  const auto word = [&](size_t longest) {
    std::string result;
    for (size_t left = 1 + random() % longest; left > 0; --left) result += letters[random() % letters.size()];
    return result;
  };
  int found = 0;
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::string> stops(random() % 4);
    for (std::string& stop : stops) stop = word(5);
    const std::string text = word(30);
    const bool include = random() % 2 == 0;
    const Outcome want = expected(stops, text, include);
    EXPECT_EQ(run(stops, text, include, random, 1 + static_cast<int>(random() % 6)), want) << text;
    found += !want.matched.empty();
  }
  EXPECT_GT(found, 300);
}

}  // namespace
}  // namespace shoal
