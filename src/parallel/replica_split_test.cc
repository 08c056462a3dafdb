// SPDX-License-Identifier: Apache-2.0
#include "parallel/replica_split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "parallel/balance.h"

namespace shoal {
namespace {

Placement placement_of(const std::vector<int32_t>& experts_of_slots, int64_t experts, int64_t ep) {
  std::vector<ExpertId> slots;
  for (const int32_t expert : experts_of_slots) slots.push_back({expert});
  return Placement(std::move(slots), experts, ep);
}

// Every expert somewhere, the other slots at random, some empty; copies may share a rank.
Placement random_placement(int64_t experts, int64_t ep, int64_t slots_per_rank, std::mt19937& rng) {
  std::vector<int32_t> slots(ep * slots_per_rank, -1);
  for (size_t i = 0; i < slots.size(); ++i) {
    slots[i] =
        static_cast<int64_t>(i) < experts ? static_cast<int32_t>(i) : static_cast<int32_t>(rng() % (experts + 1)) - 1;
  }
  std::shuffle(slots.begin(), slots.end(), rng);
  return placement_of(slots, experts, ep);
}

// Whether rank loads of at most `level` are possible: tokens flow from experts to ranks that hold them (augmenting paths).
class Flow {
 public:
  Flow(const Placement& placement, std::vector<int64_t> tokens, int64_t level)
      : placement_(placement), left_(std::move(tokens)), room_(placement.ep(), level) {
    sent_.assign(placement.experts(), std::vector<int64_t>(placement.ep()));
  }
  bool feasible() {
    for (int64_t expert = 0; expert < placement_.experts(); ++expert) {
      while (left_[expert] > 0) {
        visited_.assign(placement_.experts(), false);
        const int64_t pushed = push(expert, left_[expert]);
        if (pushed == 0) return false;
        left_[expert] -= pushed;
      }
    }
    return true;
  }

 private:
  int64_t push(int64_t expert, int64_t want) {
    visited_[expert] = true;
    for (const SlotId slot : placement_.slots_of({static_cast<int32_t>(expert)})) {
      const int64_t rank = placement_.rank_of(slot);
      const int64_t direct = std::min(want, room_[rank]);
      if (direct > 0) {
        room_[rank] -= direct;
        sent_[expert][rank] += direct;
        return direct;
      }
      for (int64_t other = 0; other < placement_.experts(); ++other) {
        if (visited_[other] || sent_[other][rank] == 0) continue;
        const int64_t freed = push(other, std::min(want, sent_[other][rank]));
        if (freed == 0) continue;
        sent_[other][rank] -= freed;
        sent_[expert][rank] += freed;
        return freed;
      }
    }
    return 0;
  }

  const Placement& placement_;
  std::vector<int64_t> left_;
  std::vector<int64_t> room_;
  std::vector<std::vector<int64_t>> sent_;
  std::vector<bool> visited_;
};

// The lowest possible load of the heaviest rank.
int64_t best_maximum(const Placement& placement, const std::vector<int64_t>& tokens) {
  int64_t low = 0;
  int64_t high = std::accumulate(tokens.begin(), tokens.end(), int64_t{0});
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (Flow(placement, tokens, middle).feasible()) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

int64_t heaviest(std::span<const int64_t> tokens_of_rank) {
  return *std::max_element(tokens_of_rank.begin(), tokens_of_rank.end());
}

TEST(ReplicaSplit, PoursOneExpertOverTheOthers) {
  // Ranks {0, 1}, {0, 2}, {0, 3}: experts 1, 2, 3 weigh 10, 4, 0; the 13 tokens of expert 0 level ranks 1 and 2 at 8 and 9.
  const Placement placement = placement_of({0, 1, 0, 2, 0, 3}, 4, 3);
  ReplicaSplit split(placement);
  const std::vector<int64_t> tokens{13, 10, 4, 0};
  const std::span<const int64_t> result = split.split(tokens);
  EXPECT_EQ(std::vector<int64_t>(result.begin(), result.end()), (std::vector<int64_t>{0, 10, 4, 4, 9, 0}));
  EXPECT_EQ(heaviest(split.tokens_of_rank()), 10);
}

TEST(ReplicaSplit, KeepsEveryTokenWhateverThePlacement) {
  std::mt19937 rng(1);
  for (int round = 0; round < 400; ++round) {
    const int64_t ep = 1 + rng() % 12;
    const int64_t per_rank = 1 + rng() % 5;
    const int64_t experts = 1 + rng() % (ep * per_rank);
    const Placement placement = random_placement(experts, ep, per_rank, rng);
    std::vector<int64_t> tokens(experts);
    for (int64_t& count : tokens) count = rng() % 3 == 0 ? 0 : rng() % (1u << (rng() % 20));
    ReplicaSplit split(placement);
    const std::span<const int64_t> slots = split.split(tokens);
    std::vector<int64_t> of_expert(experts);
    std::vector<int64_t> of_rank(ep);
    for (int32_t slot = 0; slot < placement.slots(); ++slot) {
      ASSERT_GE(slots[slot], 0);
      if (placement.expert({slot}) == kNoExpert) {
        ASSERT_EQ(slots[slot], 0);
        continue;
      }
      of_expert[placement.expert({slot}).value] += slots[slot];
      of_rank[placement.rank_of({slot})] += slots[slot];
    }
    ASSERT_EQ(of_expert, tokens);
    ASSERT_TRUE(std::equal(of_rank.begin(), of_rank.end(), split.tokens_of_rank().begin()));
  }
}

TEST(ReplicaSplit, ReachesTheLowestMaximum) {
  std::mt19937 rng(2);
  for (int round = 0; round < 100; ++round) {
    const int64_t ep = 2 + rng() % 6;
    const int64_t per_rank = 2 + rng() % 3;
    const int64_t experts = ep + rng() % (ep * (per_rank - 1));
    const Placement placement = random_placement(experts, ep, per_rank, rng);
    std::vector<int64_t> tokens(experts);
    for (int64_t& count : tokens) count = rng() % 1000;
    ReplicaSplit split(placement);
    split.split(tokens, 200);
    const int64_t best = best_maximum(placement, tokens);
    ASSERT_GE(heaviest(split.tokens_of_rank()), best);
    // Whole tokens: each rank on the way may keep one too many.
    ASSERT_LE(heaviest(split.tokens_of_rank()), best + ep) << "round " << round;
  }
}

TEST(ReplicaSplit, DependsOnNothingButPlacementAndCounts) {
  std::mt19937 rng(3);
  const Placement placement = random_placement(40, 8, 8, rng);
  std::vector<std::vector<int64_t>> batches(20, std::vector<int64_t>(40));
  for (auto& batch : batches) {
    for (int64_t& count : batch) count = rng() % 50;
  }
  ReplicaSplit used(placement);
  for (const auto& batch : batches) {
    ReplicaSplit fresh(placement);
    const std::span<const int64_t> a = used.split(batch);
    const std::span<const int64_t> b = fresh.split(batch);
    ASSERT_TRUE(std::equal(a.begin(), a.end(), b.begin()));
  }
}

TEST(ReplicaSplit, OneCopyOfTwoOnARankGetsAll) {
  const Placement placement = placement_of({0, 0, 0, 1}, 2, 2);
  ReplicaSplit split(placement);
  const std::vector<int64_t> tokens{10, 4};
  const std::span<const int64_t> result = split.split(tokens);
  EXPECT_EQ(std::vector<int64_t>(result.begin(), result.end()), (std::vector<int64_t>{7, 0, 3, 4}));
}

TEST(ReplicaSplit, EvenSplitSharesByCopy) {
  const Placement placement = placement_of({0, 1, 0, 2, 0, 3}, 4, 3);
  EXPECT_EQ(even_split(placement, std::vector<int64_t>{14, 10, 4, 0}), (std::vector<int64_t>{5, 10, 5, 4, 4, 0}));
}

}  // namespace
}  // namespace shoal
