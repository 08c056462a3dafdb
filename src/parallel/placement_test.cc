// SPDX-License-Identifier: Apache-2.0
#include "parallel/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/error.h"
#include "parallel/cuts.h"

namespace shoal {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int> values(const std::vector<ExpertId>& experts) {
  std::vector<int> result;
  for (const ExpertId expert : experts) result.push_back(expert.value);
  return result;
}

RC_GTEST_PROP(Placement, ContiguousHoldsEveryExpertOnce, ()) {
  const int64_t experts = *rc::gen::inRange(1, 400);
  const int64_t ep = *rc::gen::inRange(1, 80);
  const Placement placement = Placement::contiguous(experts, ep);
  RC_ASSERT(placement.experts() == experts && placement.ep() == ep);
  RC_ASSERT(placement.slots() == (experts + ep - 1) / ep * ep);
  for (int32_t e = 0; e < experts; ++e) {
    const std::vector<SlotId>& slots = placement.slots_of({e});
    RC_ASSERT(slots.size() == 1u);
    RC_ASSERT(placement.expert(slots[0]) == ExpertId{e});
    RC_ASSERT(front_loaded_part(experts, placement.rank_of(slots[0]), ep).contains(e));
  }
}

TEST(Placement, ExpertsNotDivisibleByRanksLeaveEmptySlotsOnTheLast) {
  const Placement placement = Placement::contiguous(10, 4);
  EXPECT_THAT(values(placement.on_rank(0)), ElementsAre(0, 1, 2));
  EXPECT_THAT(values(placement.on_rank(1)), ElementsAre(3, 4, 5));
  EXPECT_THAT(values(placement.on_rank(2)), ElementsAre(6, 7, -1));
  EXPECT_THAT(values(placement.on_rank(3)), ElementsAre(8, 9, -1));
}

TEST(Placement, RedundantCopiesAreListedInSlotOrder) {
  const Placement placement({{0}, {1}, {2}, {1}, {1}, kNoExpert}, 3, 2);
  EXPECT_THAT(placement.slots_of({1}), ElementsAre(SlotId{1}, SlotId{3}, SlotId{4}));
  EXPECT_EQ(placement.rank_of({3}), 1);
  EXPECT_THAT(values(placement.on_rank(1)), ElementsAre(1, 1, -1));
}

TEST(Placement, WrappedIsTheReferencesDefault) {
  const Placement placement = Placement::wrapped(8, 12, 4);
  EXPECT_THAT(values(placement.on_rank(0)), ElementsAre(0, 1, 2));
  EXPECT_THAT(values(placement.on_rank(1)), ElementsAre(2, 3, 4));
  EXPECT_THAT(values(placement.on_rank(3)), ElementsAre(6, 7, 0));
  EXPECT_TRUE(placement.replicated());
  EXPECT_FALSE(Placement::wrapped(8, 8, 4).replicated());
  EXPECT_EQ(Placement::wrapped(8, 8, 4), Placement::contiguous(8, 4));
}

// Every expert is somewhere, and no rank holds one twice unless it has more slots than there are experts.
RC_GTEST_PROP(Placement, WrappedHoldsEveryExpert, ()) {
  const int64_t experts = *rc::gen::inRange(1, 65), ep = *rc::gen::inRange(1, 17);
  const int64_t per_rank = (experts + ep - 1) / ep + *rc::gen::inRange(0, 5);
  const Placement placement = Placement::wrapped(experts, per_rank * ep, ep);
  for (int64_t rank = 0; rank < ep; ++rank) {
    std::vector<int32_t> held = values(placement.on_rank(rank));
    std::sort(held.begin(), held.end());
    if (per_rank <= experts) RC_ASSERT(std::adjacent_find(held.begin(), held.end()) == held.end());
  }
}

TEST(Placement, EveryProblemOfAGivenOneIsListed) {
  try {
    Placement({{0}, {7}, {-2}, {0}, {2}}, 3, 2);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("5 slots cannot be shared evenly by 2"), HasSubstr("nearest: 4 or 6"),
                                    HasSubstr("slot 1 holds expert 7"), HasSubstr("slot 2 holds expert -2"),
                                    HasSubstr("expert 1 is in no slot")));
  }
  EXPECT_THROW(Placement({}, 1, 1), Error);
}

}  // namespace
}  // namespace shoal
