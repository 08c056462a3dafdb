// SPDX-License-Identifier: Apache-2.0
#include "base/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/nearest.h"

namespace shoal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Sample {
  int64_t ranks = 1;
  double share = 0.5;
  bool fast = false;
  std::string mode = "auto";
  std::optional<int64_t> limit;
  std::vector<int64_t> parts;
  int64_t page = 32;
};

OptionTable table_of(Sample& s) {
  return OptionTable({
      {.name = "rank_count", .field = &s.ranks, .help = "ranks", .aliases = {"ranks"}, .min = 1, .max = 8},
      {.name = "cache.share", .field = &s.share, .help = "share", .aliases = {"cache.gpu_share"}, .min = 0, .max = 1},
      {.name = "fast", .field = &s.fast, .help = "speed"},
      {.name = "mode", .field = &s.mode, .help = "mode", .choices = {"auto", "slow"}, .planned = {"quick"}},
      {.name = "limit", .field = &s.limit, .help = "limit", .min = 1, .absent = -1},
      {.name = "parts", .field = &s.parts, .help = "parts", .min = 1},
      {.name = "page", .field = &s.page, .help = "page", .min = 2, .max = 64, .power_of_two = true},
  });
}

// The problem of one assignment, empty if there is none.
std::string assigned(Sample& s, const char* path, const char* text) {
  const OptionTable table = table_of(s);
  return assign(*table.find_path(path), text, "a.yaml:3").value_or("");
}

TEST(Options, ValuesOfEveryTypeAreRead) {
  Sample s;
  EXPECT_EQ(assigned(s, "rank_count", " 8 "), "");
  EXPECT_EQ(assigned(s, "cache.share", "2.5e-1"), "");
  EXPECT_EQ(assigned(s, "fast", "True"), "");
  EXPECT_EQ(assigned(s, "mode", "slow"), "");
  EXPECT_EQ(assigned(s, "limit", "7"), "");
  EXPECT_EQ(assigned(s, "parts", "[3, 2]"), "");
  EXPECT_EQ(assigned(s, "page", "64"), "");
  EXPECT_EQ(s.ranks, 8);
  EXPECT_EQ(s.share, 0.25);
  EXPECT_TRUE(s.fast);
  EXPECT_EQ(s.mode, "slow");
  EXPECT_EQ(s.limit, 7);
  EXPECT_THAT(s.parts, ElementsAre(3, 2));
  EXPECT_EQ(assigned(s, "parts", "4,5,6"), "");
  EXPECT_THAT(s.parts, ElementsAre(4, 5, 6));
  EXPECT_EQ(assigned(s, "parts", "[]"), "");
  EXPECT_TRUE(s.parts.empty());
  EXPECT_EQ(assigned(s, "limit", "-1"), "");
  EXPECT_EQ(s.limit, std::nullopt);
}

TEST(Options, ProblemsNameValuePlaceRuleAndNearest) {
  Sample s;
  EXPECT_EQ(assigned(s, "rank_count", "0"),
            "rank_count is '0' (a.yaml:3), must be a whole number from 1 to 8; nearest: 1");
  EXPECT_EQ(assigned(s, "rank_count", "99"),
            "rank_count is '99' (a.yaml:3), must be a whole number from 1 to 8; nearest: 8");
  EXPECT_EQ(assigned(s, "rank_count", "eight"), "rank_count is 'eight' (a.yaml:3), must be a whole number from 1 to 8");
  EXPECT_THAT(assigned(s, "rank_count", "99999999999999999999"), HasSubstr("must be a whole number"));
  EXPECT_THAT(assigned(s, "rank_count", "4.0"), HasSubstr("must be a whole number"));
  EXPECT_EQ(assigned(s, "cache.share", "1.5"),
            "cache.share is '1.5' (a.yaml:3), must be a number from 0 to 1; nearest: 1");
  EXPECT_THAT(assigned(s, "cache.share", "nan"), HasSubstr("must be a number"));
  EXPECT_EQ(assigned(s, "fast", "maybe"), "fast is 'maybe' (a.yaml:3), must be true or false");
  EXPECT_EQ(assigned(s, "mode", "loud"), "mode is 'loud' (a.yaml:3), must be one of auto, slow");
  EXPECT_EQ(assigned(s, "mode", "quick"), "mode is 'quick' (a.yaml:3): not built yet, must be one of auto, slow");
  EXPECT_EQ(assigned(s, "limit", "0"),
            "limit is '0' (a.yaml:3), must be a whole number of at least 1, or -1 for none; nearest: 1");
  EXPECT_THAT(assigned(s, "parts", "[2, 0]"), HasSubstr("must be a list of whole numbers of at least 1; nearest: 1"));
  EXPECT_THAT(assigned(s, "page", "24"), HasSubstr("a power of two, from 2 to 64; nearest: 16 or 32"));
  EXPECT_THAT(assigned(s, "mode", "a\nb"), HasSubstr("'a?b'"));
  EXPECT_EQ(s.ranks, 1);
  EXPECT_EQ(s.mode, "auto");
  EXPECT_TRUE(s.parts.empty());
}

RC_GTEST_PROP(Options, WholeNumbersAreTakenExactlyWithinBounds, (int value)) {
  Sample s;
  const OptionTable table = table_of(s);
  const bool taken = !assign(*table.find_path("rank_count"), std::to_string(value), "x");
  RC_ASSERT(taken == (value >= 1 && value <= 8));
  RC_ASSERT(s.ranks == (taken ? value : 1));
}

TEST(OptionTable, FindsByPathAndSpelling) {
  Sample s;
  const OptionTable table = table_of(s);
  EXPECT_EQ(table.find_path("cache.gpu_share"), table.find_path("cache.share"));
  EXPECT_EQ(table.find_path("ranks"), nullptr) << "a short spelling is no YAML key";
  for (const char* spelling : {"ranks", "rank-count", "RANK_COUNT"}) {
    ASSERT_NE(table.find_spelling(spelling), nullptr) << spelling;
    EXPECT_EQ(table.find_spelling(spelling)->name, "rank_count");
  }
  EXPECT_EQ(table.find_spelling("CACHE_SHARE")->name, "cache.share");
  EXPECT_TRUE(table.is_section("cache"));
  EXPECT_FALSE(table.is_section("cach"));
}

TEST(OptionTable, NamesTheNearest) {
  Sample s;
  const OptionTable table = table_of(s);
  EXPECT_EQ(table.nearest_path("rank_cuont", {}), "rank_count");
  EXPECT_EQ(table.nearest_path("ranks", {}), "rank_count");
  EXPECT_EQ(table.nearest_path("shar", {}), "cache.share");
  EXPECT_EQ(table.nearest_path("other", {"others"}), "others");
  EXPECT_EQ(table.nearest_flag("--rnk", {"--prompt"}), "--ranks");
  EXPECT_EQ(table.nearest_flag("--promt", {"--prompt"}), "--prompt");
  EXPECT_EQ(table.nearest_variable("SHOAL_LIMITS"), "SHOAL_LIMIT");
}

TEST(OptionTable, HelpAndDocsShowEachRow) {
  Sample s;
  const std::string help = options_help(table_of(s));
  EXPECT_THAT(help, HasSubstr("  --ranks, --rank-count\n      ranks\n      a whole number from 1 to 8; default 1\n"));
  const std::string docs = options_markdown(table_of(s));
  EXPECT_THAT(docs, HasSubstr("| `cache.share` | `--cache-share` | a number from 0 to 1 | 0.5 | share |\n"));
}

TEST(OptionTableDeathTest, OneSpellingBelongsToOneOption) {
  Sample s;
  EXPECT_DEATH(OptionTable({{.name = "a", .field = &s.fast, .help = "", .aliases = {"x-y"}},
                            {.name = "x_y", .field = &s.ranks, .help = ""}}),
               "two options are spelled x_y");
}

TEST(EditDistance, CountsSwapsOnce) {
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("ab", "ba"), 1);
  EXPECT_EQ(edit_distance("abcd", "acbd"), 1);
}

RC_GTEST_PROP(EditDistance, IsSymmetricAndZeroOnlyForEqualWords, ()) {
  const auto word = rc::gen::container<std::string>(rc::gen::inRange<char>('a', 'd'));
  const std::string a = (*word).substr(0, 64);
  const std::string b = (*word).substr(0, 64);
  RC_ASSERT(edit_distance(a, b) == edit_distance(b, a));
  RC_ASSERT((edit_distance(a, b) == 0) == (a == b));
  RC_ASSERT(edit_distance(a, b) <= static_cast<int>(std::max(a.size(), b.size())));
}

}  // namespace
}  // namespace shoal
