// SPDX-License-Identifier: Apache-2.0
#include "parallel/moe_load.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace shoal {
namespace {

TEST(MoeLoad, OneRankTakesEverything) {
  const MoeLoad bound = moe_load_bound(1000, 8, 1, 64);
  EXPECT_EQ(bound.rows, 1000);
  EXPECT_EQ(bound.picks, 8000);
}

TEST(MoeLoad, NeverMoreThanThereCanBe) {
  EXPECT_EQ(moe_load_bound(1, 8, 32, 8).rows, 1);
  EXPECT_EQ(moe_load_bound(1, 8, 32, 8).picks, 8);
  EXPECT_EQ(moe_load_bound(2, 8, 4, 3).picks, 6);  // three slots take three of a token's picks
  EXPECT_EQ(moe_load_bound(0, 8, 4, 3).rows, 0);
}

// Worked by hand: of 1,024 tokens with 2 picks, a rank of 4 is missed by 9/16, so 448 rows and 512 picks.
TEST(MoeLoad, AQuarterMoreThanTheShareAndSixteen) {
  const MoeLoad bound = moe_load_bound(1024, 2, 4, 8);
  EXPECT_EQ(bound.rows, 560 + 16);
  EXPECT_EQ(bound.picks, 640 + 16);
}

// Routers that pick at random stay within, long steps and short ones.
TEST(MoeLoad, RandomPicksStayWithin) {
  std::mt19937 random(1);
  for (const int64_t tokens : {4, 32, 256, 4096}) {
    constexpr int64_t kTopK = 8, kEp = 8, kExperts = 64, kSlots = kExperts / kEp;
    std::vector<MoeLoad> loads(kEp);
    for (int64_t token = 0; token < tokens; ++token) {
      std::vector<bool> picked(kExperts), reached(kEp);
      for (int64_t k = 0; k < kTopK;) {
        const size_t expert = random() % kExperts;
        if (picked[expert]) continue;
        picked[expert] = true;
        reached[expert / kSlots] = true;
        ++loads[expert / kSlots].picks;
        ++k;
      }
      for (size_t rank = 0; rank < loads.size(); ++rank) loads[rank].rows += reached[rank];
    }
    const MoeLoad bound = moe_load_bound(tokens, kTopK, kEp, kSlots);
    for (const MoeLoad& load : loads)
      EXPECT_TRUE(load.within(bound)) << tokens << ": " << load.rows << " rows, " << load.picks << " picks";
  }
}

}  // namespace
}  // namespace shoal
