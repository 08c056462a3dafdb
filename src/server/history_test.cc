// SPDX-License-Identifier: Apache-2.0
#include "server/history.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "server/advice.h"
#include "server/test_reading.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

History::Watcher watcher(std::function<bool(const std::string&)> send) {
  return {.send = std::move(send), .gone = [] { return false; }};
}

TEST(History, OneThatIsGoneMakesRoomAtOnce) {
  History history;
  bool gone = false;
  int calls = 0;
  EXPECT_TRUE(
      history.watch({}, {.send = [&](const std::string&) { return ++calls > 0; }, .gone = [&] { return gone; }}));
  EXPECT_EQ(history.watchers(), 1u);
  gone = true;
  EXPECT_EQ(history.watchers(), 0u);
  history.add_point({});
  EXPECT_EQ(calls, 1);
}

TEST(History, AWatcherGetsTheHistoryThenWhatComes) {
  History history;
  history.add_point({{"t", 1}});
  history.add_event({.time = 1.5, .kind = "ready", .text = "said \"so\"\xff", .layer = 3});
  std::vector<Json> frames;
  EXPECT_TRUE(history.watch({{"layout", "tp1"}}, watcher([&](const std::string& frame) {
                              frames.push_back(Json::parse(frame));
                              return true;
                            })));
  history.add_point({{"t", 2}});
  history.add_event({.time = 2, .kind = "drain", .text = "bye"});
  history.tell_static({{"layout", "tp2"}});
  ASSERT_EQ(frames.size(), 4u);
  EXPECT_EQ(frames[0].at("type"), "history");
  EXPECT_EQ(frames[0].at("points"), Json::parse(R"([{"t":1}])"));
  EXPECT_EQ(frames[0].at("events").at(0).at("layer"), 3);
  EXPECT_EQ(frames[0].at("static").at("layout"), "tp1");
  EXPECT_EQ(frames[1].dump(), R"({"type":"point","point":{"t":2}})");
  EXPECT_EQ(frames[2].dump(), R"({"type":"event","event":{"t":2.0,"kind":"drain","text":"bye"}})");
  EXPECT_EQ(frames[3].at("static").at("layout"), "tp2");
}

TEST(History, KeepsTenMinutes) {
  History history;
  for (int t = 0; t < 700; ++t) history.add_point({{"t", t}});
  Json first;
  history.watch({}, watcher([&](const std::string& frame) {
                  first = Json::parse(frame);
                  return true;
                }));
  ASSERT_EQ(first.at("points").size(), 600u);
  EXPECT_EQ(first.at("points").at(0).at("t"), 100);
}

TEST(History, EightWatchAndOneThatIsGoneMakesRoom) {
  History history;
  std::vector<bool> here(8, true);
  int calls = 0;
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_TRUE(history.watch({}, watcher([&, i](const std::string&) {
                                ++calls;
                                return static_cast<bool>(here[i]);
                              })));
  }
  EXPECT_FALSE(history.watch({}, watcher([](const std::string&) { return true; })));
  here[3] = false;
  history.add_point({});
  EXPECT_EQ(history.watchers(), 7u);
  EXPECT_EQ(calls, 16);
  history.add_point({});
  EXPECT_EQ(calls, 23);
  EXPECT_TRUE(history.watch({}, watcher([](const std::string&) { return true; })));
}

TEST(Sample, PercentilesAreWithinAClass) {
  const std::vector<double> bounds{1, 2, 4};
  EXPECT_EQ(percentile(bounds, {0, 0, 0, 0}, 0.5), std::nullopt);
  EXPECT_DOUBLE_EQ(*percentile(bounds, {0, 10, 0, 0}, 0.5), 1.5);
  EXPECT_DOUBLE_EQ(*percentile(bounds, {5, 4, 1, 0}, 0.9), 2.0);
  EXPECT_DOUBLE_EQ(*percentile(bounds, {5, 4, 1, 0}, 1.0), 4.0);
  EXPECT_DOUBLE_EQ(*percentile(bounds, {0, 0, 0, 3}, 0.5), 4.0);
}

TEST(Sample, APointIsWhatHappenedBetweenTwo) {
  ServerMetrics metrics;
  Sample before = sample_at(100, four_ranks());
  before.latencies = read_latencies(metrics);
  before.counts = metrics.counts();
  {
    const auto begin = ServerMetrics::Clock::now();
    RequestMeter meter(metrics, 50, 10, begin);
    meter.token(begin + std::chrono::milliseconds(100));
    meter.token(begin + std::chrono::milliseconds(120));
    meter.finished(FinishReason::kStop, 0, begin + std::chrono::milliseconds(200));
  }
  metrics.refused("queue_full");
  EngineReading later = four_ranks();
  later.stats.ranks[0].compute_seconds = 0.5;
  later.stats.ranks[0].communication_seconds = 1.0;
  later.stats.ranks[0].tokens = 40;
  later.stats.ranks[3].compute_seconds = 9;  // of a step that began long before
  later.stats.ranks[3].idle_seconds = 1;
  later.experts.front().moves.bytes += 1000;
  Sample now = sample_at(102, later);
  now.latencies = read_latencies(metrics);
  now.counts = metrics.counts();
  const Json point = point_json(before, now, metrics.fine_total().bounds());
  EXPECT_EQ(point.at("prompt_tokens_per_second"), 25.0);
  EXPECT_EQ(point.at("generated_tokens_per_second"), 1.0);
  EXPECT_EQ(point.at("requests_per_second"), 0.5);
  EXPECT_NEAR(point.at("ttft_ms").at("p50").get<double>(), 100, 5);
  EXPECT_NEAR(point.at("itl_ms").at("p99").get<double>(), 20, 1);
  EXPECT_NEAR(point.at("e2e_ms").at("p90").get<double>(), 200, 10);
  EXPECT_EQ(point.at("queue_refusals"), 1);
  EXPECT_EQ(point.at("moved_bytes"), 1000);
  EXPECT_EQ(point.at("imbalance").at("worst"), 3.0);
  EXPECT_EQ(point.at("ranks").at(0), Json({0.25, 0.5, 0.0, 0.0, 20.0, 0.0}));
  EXPECT_EQ(point.at("ranks").at(3).at(0), 0.9);
  const Json quiet = point_json(now, now, metrics.fine_total().bounds());
  EXPECT_TRUE(quiet.at("ttft_ms").is_null());
}

TEST(Sample, ANewEngineCountsFromZero) {
  EngineReading old = four_ranks();
  old.stats.ranks[0].tokens = 1000;
  EngineReading fresh = four_ranks();
  fresh.stats.ranks[0].tokens = 30;
  EXPECT_EQ(rank_shares(sample_at(1, old), sample_at(2, fresh))[0].tokens_per_second, 30.0);
  EngineReading other = four_ranks();
  other.stats.ranks.pop_back();
  EXPECT_EQ(rank_shares(sample_at(1, old), sample_at(2, other)).size(), 3u);
  Sample none;
  none.time = 3;
  EXPECT_TRUE(point_json(sample_at(2, fresh), none, {1.0}).at("ranks").empty());
}

std::string advice_of(const EngineReading& now) { return advice(sample_at(0, four_ranks()), sample_at(10, now)); }

TEST(Advice, NamesWhatBinds) {
  EXPECT_EQ(advice_of(four_ranks()), "Idle: no request in the last 10 s.");
  EXPECT_TRUE(
      advice_of(working({.compute_seconds = 9, .idle_seconds = 1})).starts_with("Compute-bound: ranks compute 90 %"));
  EXPECT_TRUE(advice_of(working({.compute_seconds = 5, .communication_seconds = 5}))
                  .starts_with("Communication-bound: ranks spend 50 %"));
  EXPECT_TRUE(
      advice_of(working({.compute_seconds = 5, .idle_seconds = 5})).starts_with("Step-bound: ranks are idle 50 %"));

  EngineReading straggler = working({.compute_seconds = 4, .communication_seconds = 5});
  straggler.stats.ranks[2].compute_seconds = 8;
  straggler.stats.ranks[2].communication_seconds = 1;
  EXPECT_TRUE(advice_of(straggler).starts_with("Wait-bound: rank 2 computes 2.00 times"));

  EngineReading uneven = straggler;
  uneven.experts.front().by_ep_rank = {{1, {10, 10, 40, 20}}};
  EXPECT_TRUE(advice_of(uneven).starts_with("Imbalance-bound: the busiest EP rank of a MoE layer computes 2.00 times"));

  EngineReading stages = working({.compute_seconds = 5, .stage_seconds = 4});
  stages.facts.sizes.pipeline = 4;
  EXPECT_TRUE(advice_of(stages).starts_with("Bubble-bound: pipeline stages wait 44 %"));

  EngineReading full = working({.compute_seconds = 9});
  full.stats.requests = {.running = 4, .waiting = 12};
  EXPECT_TRUE(advice_of(full).starts_with("Queue-bound: 12 wait, the oldest"));
  full.stats.cache.total_pages = 100;
  full.stats.cache.used_pages = 97;
  EXPECT_TRUE(advice_of(full).starts_with("KV-bound: 97 % of the KV pages"));

  EngineReading stuck = working({.compute_seconds = 9});
  stuck.stats.ranks[1].in_step_seconds = 45;
  EXPECT_TRUE(advice_of(stuck).starts_with("Stuck: rank 1 has been in one step for 45 s"));
}

TEST(Advice, IsSilentWhereItCannotKnow) {
  Sample loading = sample_at(10, working({.compute_seconds = 9}));
  loading.server.state = "loading";
  EXPECT_EQ(advice(sample_at(0, four_ranks()), loading), "");
  EXPECT_EQ(advice(Sample{}, sample_at(10, four_ranks())), "");
  EXPECT_EQ(
      advice_of(working({.compute_seconds = 5.5, .communication_seconds = 2, .stage_seconds = 0.5, .idle_seconds = 2})),
      "");
}

}  // namespace
}  // namespace shoal
