// SPDX-License-Identifier: Apache-2.0
#include "engine/rank_meter.h"

#include <gtest/gtest.h>

#include <thread>

namespace shoal {
namespace {

using std::chrono::milliseconds;

TEST(RankMeter, AStepsTimeIsDividedAmongItsPhases) {
  RankMeter meter(2);
  const auto busy_since = RankMeter::Clock::now();
  std::this_thread::sleep_for(milliseconds(5));
  meter.begin_step(busy_since, 7);
  std::this_thread::sleep_for(milliseconds(2));
  meter.communication.nanoseconds += 1'000'000;
  const RankStats during = meter.stats(1, {});
  EXPECT_GE(during.in_step_seconds, 0.002);
  EXPECT_EQ(during.tokens, 0);
  meter.end_step();
  const RankStats stats = meter.stats(1, {});
  EXPECT_EQ(stats.rank, 1);
  EXPECT_EQ(stats.steps, 1);
  EXPECT_EQ(stats.tokens, 7);
  EXPECT_EQ(stats.in_step_seconds, 0);
  EXPECT_LT(stats.last_step_age_seconds, 60);
  EXPECT_GE(stats.idle_seconds, 0.005);
  EXPECT_DOUBLE_EQ(stats.communication_seconds, 0.001);
  EXPECT_GE(stats.compute_seconds, 0.001);
  EXPECT_GT(stats.bubble(), 0);
}

TEST(RankMeter, KnowsWhetherItsRankWaitsForOthers) {
  RankMeter meter(3);
  EXPECT_FALSE(meter.stats(0, {}).waiting);
  meter.stage.inside = true;
  EXPECT_TRUE(meter.stats(0, {}).waiting);
  meter.sent.add(2, 5);
  EXPECT_EQ(meter.stats(0, {}).sent_bytes, (std::vector<int64_t>{0, 0, 5}));
}

}  // namespace
}  // namespace shoal
