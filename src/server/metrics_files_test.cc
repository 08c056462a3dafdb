// SPDX-License-Identifier: Apache-2.0
// The dashboards and alerts that we ship, and the page that explains the metrics, against what is emitted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "server/metrics_text.h"
#include "server/test_metric_names.h"
#include "server/test_reading.h"

namespace shoal {
namespace {

std::string everything() {
  ServerMetrics metrics;
  metrics.http_request("GET", "/metrics", 200, 0.001);
  const EngineReading engine = four_ranks();
  return metrics_text(metrics, ServerStatus{}, &engine);
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
  EXPECT_THAT(series_in(everything()), testing::IsSupersetOf(names_used_in(expressions)));
}

TEST(MetricsFiles, EveryNameInTheAlertsIsEmitted) {
  const std::string alerts = contents("deploy/alerts.yml");
  EXPECT_GE(names_used_in(alerts).size(), 10u);
  EXPECT_THAT(series_in(everything()), testing::IsSupersetOf(names_used_in(alerts)));
}

TEST(MetricsFiles, EveryMetricIsExplainedOnce) {
  const std::string page = contents("docs/metrics.md");
  const std::set<std::string> explained = matches(page, "\n\\| `([a-z0-9_:]+)");
  EXPECT_EQ(metrics_in(everything()), explained);
}

}  // namespace
}  // namespace shoal
