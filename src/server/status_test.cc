// SPDX-License-Identifier: Apache-2.0
#include "server/status.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/process_stats.h"
#include "server/test_reading.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

TEST(Status, MaxOverMeanIsOverRanksOfOneLayer) {
  EXPECT_DOUBLE_EQ(max_over_mean({10, 10, 10, 10}), 1.0);
  EXPECT_DOUBLE_EQ(max_over_mean({40, 0, 0, 0}), 4.0);
  EXPECT_DOUBLE_EQ(max_over_mean({0, 0}), 1.0);
  EXPECT_DOUBLE_EQ(max_over_mean({}), 1.0);
}

// Two layers that are uneven in opposite ways are both uneven, however even their sum is.
TEST(Status, ImbalanceDoesNotCancelOverLayers) {
  ExpertStatus status;
  status.by_ep_rank = {{1, {30, 10}}, {2, {10, 30}}, {3, {0, 0}}};
  const auto result = imbalance(std::vector{status});
  ASSERT_TRUE(result);
  EXPECT_DOUBLE_EQ(result->worst, 1.5);
  EXPECT_DOUBLE_EQ(result->mean, 1.5);
  EXPECT_FALSE(imbalance(std::vector<ExpertStatus>{}));
  EXPECT_FALSE(imbalance(std::vector<ExpertStatus>(1)));
}

TEST(Status, LayoutNamesWhatIsMoreThanOne) {
  EXPECT_EQ(layout_text({}, true), "tp1");
  EXPECT_EQ(layout_text({.tensor = 4, .attention_data = 4, .moe_expert = 4}, true), "tp4·ep4·adp4");
  EXPECT_EQ(layout_text({.data = 2, .pipeline = 2, .tensor = 4, .moe_tensor = 2, .moe_expert = 2}, true),
            "dp2·pp2·tp4·ep2·moe_tp2");
  EXPECT_EQ(layout_text({.context = 2, .tensor = 2, .moe_tensor = 4}, false), "cp2·tp2");
}

TEST(Status, ARankThatWaitsForOthersHasNotStalled) {
  RankStats rank;
  EXPECT_STREQ(rank_state(rank, 30), "ok");
  rank.in_step_seconds = 31;
  EXPECT_STREQ(rank_state(rank, 30), "stalled");
  rank.waiting = true;
  EXPECT_STREQ(rank_state(rank, 30), "ok");
  rank.failed = true;
  EXPECT_STREQ(rank_state(rank, 30), "failed");
}

TEST(Status, RanksOfFailures) {
  EXPECT_EQ(rank_of_failure("rank 12 (dp 0, stage 1, tp 1): out of memory"), 12);
  EXPECT_EQ(rank_of_failure("the engine was stopped"), std::nullopt);
  EXPECT_EQ(rank_of_failure("rank "), std::nullopt);
}

TEST(Status, RanksJson) {
  EngineReading engine = four_ranks();
  engine.stats.ranks[1].idle_seconds = 1;
  engine.stats.ranks[1].compute_seconds = 3;
  engine.stats.cache.total_pages = 9;
  ServerStatus server;
  server.model = "m";
  server.state = "ready";
  server.oldest_waiting_seconds = 1.5;
  const Json json = ranks_json(server, &engine);
  EXPECT_EQ(json.at("layout"), "tp4·ep4·adp4");
  EXPECT_EQ(json.at("world_size"), 4);
  EXPECT_EQ(json.at("sizes").at("moe_ep"), 4);
  EXPECT_EQ(json.at("kv").at("total_pages"), 9);
  EXPECT_EQ(json.at("requests").at("oldest_waiting_seconds"), 1.5);
  const Json& rank = json.at("ranks").at(1);
  EXPECT_EQ(rank.at("layers"), Json({0, 7}));
  EXPECT_EQ(rank.at("attn_dp"), 1);
  EXPECT_EQ(rank.at("bubble"), 0.25);
  EXPECT_EQ(rank.at("bytes_sent"), 10);
  EXPECT_EQ(rank.at("state"), "ok");
  EXPECT_EQ(json.at("traffic").at(3), Json({1, 2, 3, 4}));
  EXPECT_FALSE(json.contains("progress"));
}

TEST(Status, RanksOfAnEngineThatIsGone) {
  ServerStatus server;
  server.state = "loading";
  server.progress = 0.5;
  server.failed_rank = 2;
  const EngineReading engine = four_ranks();
  const Json json = ranks_json(server, &engine);
  EXPECT_EQ(json.at("ranks").at(2).at("state"), "failed");
  EXPECT_EQ(json.at("ranks").at(0).at("state"), "loading");
  EXPECT_EQ(json.at("progress"), 0.5);
  EXPECT_EQ(ranks_json(server, nullptr).at("ranks"), Json::array());
}

TEST(Status, ExpertsJson) {
  EngineReading engine = four_ranks();
  const Json json = experts_json(&engine);
  EXPECT_EQ(json.at("experts"), 4);
  EXPECT_EQ(json.at("slots"), 8);
  const Json& replica = json.at("replicas").at(0);
  EXPECT_EQ(replica.at("layers").at(1).at("layer"), 2);
  EXPECT_EQ(replica.at("layers").at(1).at("max_over_mean"), 3.0);
  EXPECT_EQ(replica.at("layers").at(0).at("slots"), Json({0, 1, 1, -1, 2, 2, 3, 3}));
  EXPECT_EQ(replica.at("max_over_mean").at("worst"), 3.0);
  EXPECT_EQ(replica.at("max_over_mean").at("mean"), 2.0);
  EXPECT_EQ(replica.at("moves").at("bytes"), 4096);
  engine.facts.experts = 0;
  EXPECT_EQ(experts_json(&engine).dump(), R"({"experts":0,"replicas":[]})");
  EXPECT_EQ(experts_json(nullptr).dump(), R"({"experts":0,"replicas":[]})");
}

TEST(ProcessStats, AreThisProcess) {
  const ProcessStats stats = read_process_stats();
  EXPECT_GT(stats.resident_bytes, 1 << 20);
  EXPECT_GT(stats.virtual_bytes, stats.resident_bytes);
  EXPECT_GE(stats.open_fds, 3);
  EXPECT_GT(stats.max_fds, stats.open_fds);
  EXPECT_GE(stats.threads, 1);
  const auto now = static_cast<double>(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()));
  EXPECT_NEAR(stats.start_time_seconds, now, 600);
}

}  // namespace
}  // namespace shoal
