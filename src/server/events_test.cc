// SPDX-License-Identifier: Apache-2.0
// What is told of changes: of the engine host, and from sample to sample.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/host_events.h"
#include "server/sample_events.h"
#include "server/test_reading.h"

namespace shoal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(HostEvents, OneForEachChangeAndNoneForProgress) {
  HostEvents events;
  HostStatus status;
  EXPECT_EQ(events.next(status, 1)->kind, "loading");
  status.loaded_bytes = 10;
  EXPECT_FALSE(events.next(status, 2));
  status.state = HostState::kReady;
  EXPECT_EQ(events.next(status, 3)->kind, "ready");
  status.stall = "rank 3 has been in step 9 for 61 s";
  EXPECT_THAT(events.next(status, 4)->text, HasSubstr("rank 3"));
  EXPECT_FALSE(events.next(status, 5));
  status.state = HostState::kFailed;
  status.failure = "rank 2 (dp 0, stage 0, tp 2): out of memory";
  const auto failed = events.next(status, 6);
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->kind, "rank_failed");
  EXPECT_EQ(failed->text, status.failure);
  EXPECT_EQ(failed->time, 6);
  status.state = HostState::kLoading;
  status.restarts = 1;
  EXPECT_EQ(events.next(status, 7)->kind, "restart");
  status.state = HostState::kDraining;
  EXPECT_EQ(events.next(status, 8)->kind, "drain");
  status.state = HostState::kFailed;
  status.failure = "models/x: no config.json";
  EXPECT_EQ(events.next(status, 9)->kind, "error");
}

TEST(SampleEvents, ExpectedLoadsShareAnExpertAmongItsSlots) {
  EXPECT_THAT(expected_loads({0, 1, 1, -1}, {10, 6}, 2), ElementsAre(13, 3));
}

TEST(SampleEvents, ALayerThatWasPlacedAnew) {
  SampleEvents events;
  EngineReading later = four_ranks();
  later.experts.front().by_expert[2] = {40, 8, 8, 8};
  later.experts.front().slots[2] = {0, 1, 0, 3, 2, 0, 3, 0};
  const auto told = events.between(sample_at(1, four_ranks()), sample_at(2, later));
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].kind, "rebalance");
  EXPECT_EQ(told[0].layer, 2);
  EXPECT_EQ(told[0].text, "layer 2: 4 slots hold another expert; max/mean 2.75, expected 1.12");
  EXPECT_TRUE(events.between(sample_at(2, later), sample_at(3, later)).empty());
}

TEST(SampleEvents, ManyLayersAreToldTogether) {
  EngineReading before = four_ranks(), later = four_ranks();
  for (int64_t layer = 1; layer <= 6; ++layer) {
    before.experts.front().slots[layer] = {0, 1, 1, -1, 2, 2, 3, 3};
    later.experts.front().slots[layer] = {0, 1, 1, 0, 2, 2, 3, 3};
  }
  const auto told = SampleEvents{}.between(sample_at(1, before), sample_at(2, later));
  ASSERT_EQ(told.size(), 1u);
  EXPECT_FALSE(told[0].layer);
  EXPECT_THAT(told[0].text, HasSubstr("6 layers: 6 slots hold another expert"));
}

TEST(SampleEvents, OneIsNotSeveral) {
  EngineReading later = four_ranks();
  later.experts.front().slots[2][3] = 0;
  const auto moved = SampleEvents{}.between(sample_at(1, four_ranks()), sample_at(2, later));
  ASSERT_EQ(moved.size(), 1u);
  EXPECT_THAT(moved[0].text, HasSubstr("layer 2: 1 slot holds another expert"));
  Sample before, now;
  now.time = 100;
  now.counts.refused = {{"queue_full", 1}};
  const auto refused = SampleEvents{}.between(before, now);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].text, "1 request was turned away (since the start: 1 queue_full)");
}

TEST(SampleEvents, RefusalsAtMostOnceInTenSeconds) {
  SampleEvents events;
  Sample before, now;
  now.time = 100;
  now.counts.refused = {{"queue_full", 3}, {"draining", 0}};
  const auto told = events.between(before, now);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].text, "3 requests were turned away (since the start: 3 queue_full)");
  now.time = 105;
  now.counts.refused["queue_full"] = 7;
  EXPECT_TRUE(events.between(before, now).empty());
  now.time = 111;
  EXPECT_THAT(events.between(before, now).at(0).text, HasSubstr("4 requests"));
  now.time = 130;
  EXPECT_TRUE(events.between(before, now).empty());
}

}  // namespace
}  // namespace shoal
