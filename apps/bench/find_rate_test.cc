// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/find_rate.h"

#include <gtest/gtest.h>

#include "apps/bench/compare.h"
#include "apps/bench/http_client.h"
#include "apps/bench/serve_run.h"
#include "apps/bench/svg.h"
#include "base/error.h"

namespace shoal::bench {
namespace {

TEST(FindRate, NarrowsDownToTheHighestKept) {
  int tries = 0;
  const auto up_to = [&](double limit) { return [&, limit](double rate) { return ++tries, rate <= limit; }; };
  for (const double limit : {3.0, 17.0, 63.0}) {
    const double found = find_rate({.high = 64, .lowest = 1, .precision = 0.05}, up_to(limit));
    EXPECT_LE(found, limit);
    EXPECT_GE(found, limit / 1.051);
  }
  EXPECT_LT(tries, 40);
  EXPECT_EQ(find_rate({.high = 64, .lowest = 1, .precision = 0.05}, up_to(100)), 64);
  EXPECT_EQ(find_rate({.high = 64, .lowest = 1, .precision = 0.05}, up_to(0.5)), 0);
}

TEST(ParseBounds, FormsAndMistakes) {
  const std::vector<Bound> bounds = parse_bounds("p99_ttft_ms<=500, request_throughput>2");
  ASSERT_EQ(bounds.size(), 2u);
  EXPECT_EQ(bounds[0].key, "p99_ttft_ms");
  EXPECT_TRUE(bounds[0].at_most);
  EXPECT_EQ(bounds[1].key, "request_throughput");
  EXPECT_FALSE(bounds[1].at_most);
  EXPECT_EQ(bounds[1].value, 2);
  for (const char* text : {"", "x", "<=3", "a<=", "a<=x", "a<=1 2", "a<=nan", "a=3"})
    EXPECT_THROW(parse_bounds(text), Error) << text;
  EXPECT_TRUE(keeps({{"failed", 0}, {"p99_ttft_ms", 400.0}, {"request_throughput", 3}}, bounds));
  EXPECT_FALSE(keeps({{"failed", 1}, {"p99_ttft_ms", 400.0}, {"request_throughput", 3}}, bounds));
  EXPECT_FALSE(keeps({{"failed", 0}, {"p99_ttft_ms", 501.0}, {"request_throughput", 3}}, bounds));
  EXPECT_THROW(keeps({{"failed", 0}}, bounds), Error);
}

TEST(ParseBaseUrl, FormsAndMistakes) {
  const ServerAddress plain = parse_base_url("http://localhost:8000/");
  EXPECT_EQ(plain.host, "localhost");
  EXPECT_EQ(plain.port, "8000");
  EXPECT_EQ(plain.path, "");
  EXPECT_EQ(parse_base_url("http://[::1]:9/v").host, "::1");
  EXPECT_EQ(parse_base_url("http://[::1]:9/v").path, "/v");
  EXPECT_EQ(parse_base_url("http://example.com").port, "80");
  EXPECT_FALSE(plain.tls);
  EXPECT_EQ(parse_base_url("https://example.com/v").port, "443");
  EXPECT_TRUE(parse_base_url("https://example.com:8443").tls);
  for (const char* text : {"", "localhost:8000", "ftp://x", "https://", "http://", "http://:80", "http://x:0",
                           "http://x:99999", "http://x:8a"})
    EXPECT_THROW(parse_base_url(text), Error) << text;
}

TEST(ParseMetrics, SumsOverLabels) {
  const auto metrics = parse_metrics("# HELP a b\na{x=\"1 }\"} 2\na{x=\"2\"} 3\nb 1.5e2\nbroken{\nc\n");
  EXPECT_EQ(metrics.at("a"), 5);
  EXPECT_EQ(metrics.at("b"), 150);
  EXPECT_EQ(metrics.size(), 2u);
}

TEST(Compare, SharedFiguresAndIntervals) {
  const std::string text =
      compare_text({{"a", 2}, {"only", 1}, {"deep", {{"x", 4.0}}}, {"list", {1}}}, {{"a", 3}, {"deep", {{"x", 2}}}});
  EXPECT_NE(text.find("deep.x"), std::string::npos);
  EXPECT_NE(text.find("1.500"), std::string::npos);
  EXPECT_NE(text.find("0.500"), std::string::npos);
  EXPECT_EQ(text.find("only"), std::string::npos);
  EXPECT_THROW(compare_text({{"a", 1}}, {{"b", 1}}), Error);
  EXPECT_THROW(compare_text(nlohmann::ordered_json::array(), {{"b", 1}}), Error);
  std::vector<double> a, b;
  for (int i = 0; i < 200; ++i) a.push_back(100 + i % 20), b.push_back(200 + 2 * (i % 20));
  const auto interval = ratio_interval(a, b);
  ASSERT_TRUE(interval);
  EXPECT_LT(interval->first, 2);
  EXPECT_GT(interval->second, 2);
  EXPECT_LT(interval->second - interval->first, 0.1);
  EXPECT_FALSE(ratio_interval({1, 2}, {3}));
}

TEST(Svg, TicksAndEscapes) {
  EXPECT_EQ(axis_ticks(10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(axis_ticks(0, 5), (std::vector<double>{0}));
  EXPECT_EQ(axis_ticks(7, 4).back(), 6);
  EXPECT_EQ(escape_html("<a href=\"x\">&'\n"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;?");
  const std::string svg = line_chart({.title = "<t>", .x_unit = "s", .y_unit = "y", .y_most = 0, .steps = false},
                                     {{.name = "one", .points = {{0, 0}, {1, 2}}}, {.name = "two", .points = {}}});
  EXPECT_NE(svg.find("&lt;t&gt;"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  std::vector<std::pair<double, double>> many;
  for (int i = 0; i < 100000; ++i) many.emplace_back(i, i);
  EXPECT_LT(line_chart({.title = "t", .x_unit = "", .y_unit = "", .y_most = 0, .steps = true},
                       {{.name = "m", .points = many}})
                .size(),
            30000u);
}

}  // namespace
}  // namespace shoal::bench
