// SPDX-License-Identifier: Apache-2.0
// The dashboards and alerts that we ship, and the page that explains the metrics, against what is emitted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "server/metrics_text.h"
#include "server/test_reading.h"

namespace shoal {
namespace {

std::string contents(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::set<std::string> matches(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::set<std::string> found;
  for (std::sregex_iterator match(text.begin(), text.end(), regex), end; match != end; ++match)
    found.insert((*match)[1]);
  return found;
}

// Names of metrics, and of the series that histograms are made of.
std::set<std::string> emitted() {
  ServerMetrics metrics;
  metrics.http_request("GET", "/metrics", 200, 0.001);
  const EngineReading engine = four_ranks();
  const std::string text = metrics_text(metrics, ServerStatus{}, &engine);
  std::set<std::string> names = matches(text, "# TYPE ([^ ]+) ");
  names.merge(matches(text, "\n([a-z_:0-9]+)[{ ]"));
  return names;
}

std::set<std::string> used_in(const std::string& text) {
  return matches(text, "\\b((?:shoal_|vllm:|http_request|process_)[a-z0-9_:]+)");
}

TEST(MetricsFiles, EveryNameInTheDashboardIsEmitted) {
  const auto dashboard = nlohmann::json::parse(contents("deploy/grafana.json"));
  std::string expressions;
  int panels = 0;
  std::set<int> ids;
  for (const auto& panel : dashboard.at("panels")) {
    EXPECT_TRUE(ids.insert(panel.at("id").get<int>()).second);
    if (panel.at("type") == "row") continue;
    ++panels;
    ASSERT_FALSE(panel.at("targets").empty()) << panel.at("title");
    for (const auto& target : panel.at("targets")) expressions += target.at("expr").get<std::string>() + "\n";
  }
  expressions += dashboard.at("templating").dump();
  EXPECT_GE(panels, 25);
  EXPECT_THAT(emitted(), testing::IsSupersetOf(used_in(expressions)));
}

TEST(MetricsFiles, EveryNameInTheAlertsIsEmitted) {
  const std::string alerts = contents("deploy/alerts.yml");
  EXPECT_GE(used_in(alerts).size(), 10u);
  EXPECT_THAT(emitted(), testing::IsSupersetOf(used_in(alerts)));
}

TEST(MetricsFiles, EveryMetricIsExplainedOnce) {
  const std::string page = contents("docs/metrics.md");
  const std::set<std::string> explained = matches(page, "\n\\| `([a-z0-9_:]+)");
  ServerMetrics metrics;
  metrics.http_request("GET", "/metrics", 200, 0.001);
  const EngineReading engine = four_ranks();
  EXPECT_EQ(matches(metrics_text(metrics, ServerStatus{}, &engine), "# TYPE ([^ ]+) "), explained);
}

}  // namespace
}  // namespace shoal
