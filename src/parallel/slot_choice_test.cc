// SPDX-License-Identifier: Apache-2.0
#include "parallel/slot_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>

namespace shoal {
namespace {

using testing::ElementsAre;

// Picks of every home rank -> their slots, each rank with an object of its own as in a run.
std::vector<std::vector<int32_t>> choose_all(const Placement& placement,
                                             const std::vector<std::vector<int32_t>>& picks) {
  std::vector<int64_t> totals(placement.experts());
  for (const auto& home : picks)
    for (const int32_t expert : home) ++totals[expert];
  std::vector<std::vector<int32_t>> result;
  std::vector<int64_t> before(placement.experts());
  for (const auto& home : picks) {
    SlotChoice choice(placement);
    choice.begin(totals, before);
    result.emplace_back(home.size());
    choice.choose(home, result.back());
    for (const int32_t expert : home) ++before[expert];
  }
  return result;
}

TEST(SlotChoice, PicksUseUpTheQuotasInOrder) {
  // Expert 0 alone on rank 0 beside a copy of 1; expert 1 also on rank 1.
  const Placement placement({{0}, {1}, {1}, {2}}, 3, 2);
  // 4 picks of expert 0 and 1 of 2: the 5 of expert 1 level the ranks at 5 each, 1 and 4.
  EXPECT_THAT(choose_all(placement, {{0, 0, 0, 0, 1, 1}, {1, 2, 1, 1}}),
              ElementsAre(ElementsAre(0, 0, 0, 0, 1, 2), ElementsAre(2, 3, 2, 2)));
}

TEST(SlotChoice, NoPickStaysNone) {
  SlotChoice choice(Placement({{0}, {1}, {1}, {0}}, 2, 2));
  choice.begin(std::vector<int64_t>{0, 2}, std::vector<int64_t>{0, 0});
  std::vector<int32_t> slots(3);
  choice.choose(std::vector<int32_t>{1, -1, 1}, slots);
  EXPECT_EQ(slots[1], -1);
}

// Over all ranks every slot gets exactly its share, holds the expert, and shares are used in slot order.
RC_GTEST_PROP(SlotChoice, RanksThatAgreeOnCountsFillTheSplit, ()) {
  const int64_t experts = *rc::gen::inRange(1, 20), ep = *rc::gen::inRange(1, 6);
  const int64_t per_rank = (experts + ep - 1) / ep + *rc::gen::inRange(0, 4);
  const Placement placement = Placement::wrapped(experts, per_rank * ep, ep);
  std::vector<std::vector<int32_t>> picks;
  const int64_t homes = *rc::gen::inRange(1, 6);
  std::vector<int64_t> totals(experts);
  for (int64_t home = 0; home < homes; ++home) {
    picks.push_back(
        *rc::gen::container<std::vector<int32_t>>(rc::gen::inRange<int32_t>(0, static_cast<int32_t>(experts))));
    for (const int32_t expert : picks.back()) ++totals[expert];
  }
  ReplicaSplit split(placement);
  const auto share = split.split(totals);
  std::vector<int64_t> used(placement.slots());
  std::map<int32_t, int32_t> last;
  const auto slots = choose_all(placement, picks);
  for (size_t home = 0; home < picks.size(); ++home) {
    for (size_t i = 0; i < picks[home].size(); ++i) {
      const int32_t expert = picks[home][i], slot = slots[home][i];
      RC_ASSERT(placement.expert({slot}) == ExpertId{expert});
      RC_ASSERT(last.try_emplace(expert, slot).first->second <= slot);
      last[expert] = slot;
      ++used[slot];
    }
  }
  for (int64_t slot = 0; slot < placement.slots(); ++slot) RC_ASSERT(used[slot] == share[slot]);
}

}  // namespace
}  // namespace shoal
