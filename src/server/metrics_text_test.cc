// SPDX-License-Identifier: Apache-2.0
#include "server/metrics_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "server/test_reading.h"

namespace shoal {
namespace {

using testing::HasSubstr;
using testing::Not;

ServerStatus ready() {
  ServerStatus server;
  server.model = "shoal \"tiny\"\\\n";
  server.version = "1.2.3";
  server.state = "ready";
  return server;
}

std::vector<std::string> lines(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> result;
  for (std::string line; std::getline(in, line);) result.push_back(line);
  return result;
}

TEST(MetricsText, IsPrometheusFormat) {
  ServerMetrics metrics;
  metrics.http_request("GET", "/metrics", 200, 0.001);
  metrics.http_request("POST", "/tokenize", 200, 0.001);
  const EngineReading engine = four_ranks();
  std::set<std::string> typed, series;
  std::string current;
  for (const std::string& line : lines(metrics_text(metrics, ready(), &engine))) {
    if (line.starts_with("# TYPE ")) {
      current = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(typed.insert(current).second) << current << " has two groups";
      continue;
    }
    if (line.starts_with("#")) continue;
    EXPECT_TRUE(line.starts_with(current)) << line << " stands under " << current;
    const std::string name = line.substr(0, line.rfind(' '));
    EXPECT_TRUE(series.insert(name).second) << name << " comes twice";
    EXPECT_EQ(line.find('\r'), std::string::npos);
  }
  EXPECT_GT(typed.size(), 50u);
}

TEST(MetricsText, VllmsLabelsEscapedAndAggregated) {
  ServerMetrics metrics;
  RequestMeter(metrics, 7, 9).token();
  EngineReading engine = four_ranks();
  engine.stats.requests = {.running = 5, .waiting = 2};
  engine.stats.cache.total_pages = 8;
  engine.stats.cache.used_pages = 2;
  engine.stats.cache.stats.queried_tokens = 20;
  engine.stats.cache.stats.reused_tokens = 15;
  const std::string text = metrics_text(metrics, ready(), &engine);
  const std::string labels = R"({model_name="shoal \"tiny\"\\\n",engine="0"})";
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_running" + labels + " 5\n"));
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_waiting" + labels + " 2\n"));
  EXPECT_THAT(text, HasSubstr("vllm:kv_cache_usage_perc" + labels + " 0.25\n"));
  EXPECT_THAT(text, HasSubstr("vllm:prefix_cache_queries_total" + labels + " 20\n"));
  EXPECT_THAT(text, HasSubstr("vllm:prefix_cache_hits_total" + labels + " 15\n"));
  EXPECT_THAT(text, HasSubstr("vllm:prompt_tokens_total" + labels + " 7\n"));
  EXPECT_THAT(text, HasSubstr("vllm:time_to_first_token_seconds_count" + labels + " 1\n"));
  EXPECT_THAT(
      text,
      HasSubstr(R"(vllm:request_success_total{model_name="shoal \"tiny\"\\\n",engine="0",finished_reason="error"} 1)"));
}

TEST(MetricsText, VllmsBucketsEndAtTheLongestSequence) {
  ServerMetrics metrics;
  RequestMeter(metrics, 5000, 9).finished(FinishReason::kStop, 0);
  const EngineReading engine = four_ranks();  // 1000 tokens
  const std::string text = metrics_text(metrics, ready(), &engine);
  EXPECT_THAT(
      text, HasSubstr(R"(vllm:request_prompt_tokens_bucket{model_name="shoal \"tiny\"\\\n",engine="0",le="1000"} 0)"));
  EXPECT_THAT(
      text, HasSubstr(R"(vllm:request_prompt_tokens_bucket{model_name="shoal \"tiny\"\\\n",engine="0",le="+Inf"} 1)"));
  EXPECT_THAT(text, Not(HasSubstr(R"(le="2000")")));
}

TEST(MetricsText, IterationTokensInVllmsBuckets) {
  EngineReading engine = four_ranks();
  engine.stats.steps.tokens = 20001;
  engine.stats.steps.by_tokens[0] = 1;      // of 1
  engine.stats.steps.by_tokens.back() = 1;  // of 20,000
  const std::string text = metrics_text(ServerMetrics{}, ready(), &engine);
  EXPECT_THAT(text,
              HasSubstr(R"(vllm:iteration_tokens_total_bucket{model_name="shoal \"tiny\"\\\n",engine="0",le="1"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(le="16384"} 1)"));
  EXPECT_THAT(
      text,
      HasSubstr("vllm:iteration_tokens_total_sum{model_name=\"shoal \\\"tiny\\\"\\\\\\n\",engine=\"0\"} 20001\n"));
}

TEST(MetricsText, OursByRankAndLayer) {
  EngineReading engine = four_ranks();
  engine.stats.ranks[2].tokens = 77;
  engine.stats.ranks[2].compute_seconds = 1.5;
  engine.stats.ranks[3].failed = true;
  const std::string text = metrics_text(ServerMetrics{}, ready(), &engine);
  for (const char* line :
       {"shoal_state{state=\"ready\"} 1\n", "shoal_rank_up{rank=\"2\"} 1\n", "shoal_rank_up{rank=\"3\"} 0\n",
        "shoal_rank_tokens_total{rank=\"2\"} 77\n", "shoal_rank_step_seconds_total{rank=\"2\",phase=\"compute\"} 1.5\n",
        "shoal_rank_bytes_total{rank=\"0\"} 10\n", "shoal_rank_memory_bytes{rank=\"1\",kind=\"weights\"} 400\n",
        "shoal_rank_memory_bytes{rank=\"1\",kind=\"experts\"} 600\n", "shoal_moe_rank_tokens_total{rank=\"1\"} 202\n",
        "shoal_moe_layer_max_over_mean{layer=\"2\",dp=\"0\"} 3\n", "shoal_moe_max_over_mean{layers=\"worst\"} 3\n",
        "shoal_moe_max_over_mean{layers=\"mean\"} 2\n", "shoal_eplb_moved_bytes_total 4096\n",
        "shoal_eplb_rebalances_total{result=\"given_up\"} 1\n"})
    EXPECT_THAT(text, HasSubstr(line));
  EXPECT_THAT(text, HasSubstr("moe_expert_parallel_size=\"4\""));
}

TEST(MetricsText, BeforeThereIsAnEngineTheServersOwn) {
  ServerStatus server = ready();
  server.state = "loading";
  const std::string text = metrics_text(ServerMetrics{}, server, nullptr);
  EXPECT_THAT(text, HasSubstr("shoal_state{state=\"loading\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("process_start_time_seconds"));
  EXPECT_THAT(text, HasSubstr("vllm:generation_tokens_total"));
  EXPECT_THAT(text, Not(HasSubstr("shoal_rank_")));
}

}  // namespace
}  // namespace shoal
