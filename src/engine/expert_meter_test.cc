// SPDX-License-Identifier: Apache-2.0
#include "engine/expert_meter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal {
namespace {

using testing::ElementsAre;

std::map<int64_t, LayerPicks> totals(std::vector<int64_t> by_expert, int64_t computed) {
  return {{3, {.by_expert = std::move(by_expert), .computed = computed}}};
}

TEST(ExpertMeter, AStepIsWhatAllRanksAddedInIt) {
  ExpertMeter meter(Mesh({.tensor = 2, .moe_expert = 2}));
  meter.record(0, 100);
  EXPECT_FALSE(meter.add({.rank = 0, .step = 0, .totals = totals({3, 1}, 6), .flip_seconds = 0.5}));
  EXPECT_FALSE(meter.add({.rank = 0, .step = 1, .totals = totals({4, 1}, 6)}));
  const auto first = meter.add({.rank = 1, .step = 0, .totals = totals({1, 3}, 2), .flip_seconds = 0.1});
  ASSERT_TRUE(first);
  EXPECT_EQ(first->step, 0);
  EXPECT_EQ(first->picks, 8);
  EXPECT_DOUBLE_EQ(first->imbalance(), 6.0 / 4.0 - 1);
  EXPECT_DOUBLE_EQ(first->wait_seconds, 0.5);
  EXPECT_THAT(meter.recent().at(3), ElementsAre(4.0, 4.0));
  const auto second = meter.add({.rank = 1, .step = 1, .totals = totals({1, 5}, 5)});
  ASSERT_TRUE(second);
  EXPECT_EQ(second->picks, 3);
  EXPECT_DOUBLE_EQ(second->imbalance(), 3.0 / 1.5 - 1);
  EXPECT_EQ(meter.picks(3), 11);
  EXPECT_THAT(meter.picks_by_rank().at(3), ElementsAre(6, 5));
  const auto recorded = meter.take_recorded();
  ASSERT_EQ(recorded.size(), 2u);
  EXPECT_THAT(recorded[0].by_home[0].at(3), ElementsAre(3, 1));
  EXPECT_THAT(recorded[0].by_home[1].at(3), ElementsAre(1, 3));
  EXPECT_THAT(recorded[1].by_home[1].at(3), ElementsAre(0, 2));
}

TEST(ExpertMeter, KeepsSelectionsOfRecordedSteps) {
  ExpertMeter meter(Mesh({.tensor = 2, .moe_expert = 2}));
  const auto report = [&](int rank, int64_t step, std::vector<int32_t> selections) {
    std::map<int64_t, LayerPicks> picks = totals({1, 1}, 1);
    picks.at(3).selections = std::move(selections);
    meter.add({.rank = rank, .step = step, .totals = picks});
  };
  meter.record(1, 2);
  for (int64_t step = 0; step < 3; ++step) {
    report(1, step, {});
    report(0, step, {static_cast<int32_t>(step), 1});
  }
  const auto recorded = meter.take_recorded();
  ASSERT_EQ(recorded.size(), 1u);
  EXPECT_THAT(recorded[0].selections.at(3).at(0), ElementsAre(1, 1));
  EXPECT_THAT(recorded[0].selections.at(3).at(1), testing::IsEmpty());
}

TEST(ExpertMeter, BatchesAreStepsWithEnoughPicks) {
  ExpertMeter meter(Mesh({.tensor = 1}));
  int64_t step = 0, one = 0, other = 0;
  const auto add = [&](int64_t a, int64_t b) {
    meter.add({.rank = 0, .step = step++, .totals = totals({one += a, other += b}, 0)});
  };
  EXPECT_TRUE(meter.batches(3).empty());
  add(ExpertMeter::kPicksOfBatch, 0);
  EXPECT_TRUE(meter.batches(3).empty());
  add(1, ExpertMeter::kPicksOfBatch);
  EXPECT_THAT(meter.batches(3), ElementsAre(ElementsAre(ExpertMeter::kPicksOfBatch + 1, ExpertMeter::kPicksOfBatch)));
  for (int64_t i = 0; i < 20; ++i) add(100 + i, 0);
  ASSERT_EQ(meter.batches(3).size(), ExpertMeter::kBatches);
  EXPECT_THAT(meter.batches(3).front(), ElementsAre(112, 0));
  EXPECT_THAT(meter.batches(3).back(), ElementsAre(119, 0));
}

TEST(ExpertMeter, OldPicksFade) {
  ExpertMeter meter(Mesh({.tensor = 1}));
  int64_t step = 0, one = 0, other = 0;
  for (int i = 0; i < 10; ++i) meter.add({.rank = 0, .step = step++, .totals = totals({one += 100, other}, 0)});
  for (int i = 0; i < 30; ++i) meter.add({.rank = 0, .step = step++, .totals = totals({one, other += 100}, 0)});
  EXPECT_LT(meter.recent().at(3)[0], 0.01 * meter.recent().at(3)[1]);
}

}  // namespace
}  // namespace shoal
