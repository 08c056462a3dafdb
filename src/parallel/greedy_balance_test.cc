// SPDX-License-Identifier: Apache-2.0
#include "parallel/greedy_balance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/error.h"
#include "parallel/batch_draw.h"

namespace shoal {
namespace {

std::vector<double> lognormal_loads(int64_t experts, std::mt19937_64& rng) {
  std::normal_distribution<double> normal(0, 0.665);
  std::vector<double> loads(experts);
  for (double& load : loads) load = std::exp(normal(rng));
  return loads;
}

std::vector<int> experts_of(const Placement& placement, int64_t rank) {
  std::vector<int> list;
  for (const ExpertId expert : placement.on_rank(rank)) list.push_back(expert.value);
  std::sort(list.begin(), list.end());
  return list;
}

TEST(GreedyPlacement, CopiesTheHeaviestAndPacksHeaviestFirst) {
  // Expert 0 gets both further copies: 12 / 3 = 4 each. Then 5, 4, 4, 4, 2, 1 onto two ranks of three: {5, 4, 1} and {4, 4, 2}.
  const Placement placement = greedy_placement(std::vector<double>{12, 5, 2, 1}, {.ep = 2, .slots = 6});
  EXPECT_EQ(experts_of(placement, 0), (std::vector<int>{0, 1, 3}));
  EXPECT_EQ(experts_of(placement, 1), (std::vector<int>{0, 0, 2}));
  EXPECT_NEAR(even_imbalance(placement, std::vector<double>{12, 5, 2, 1}), 0, 1e-12);
}

// What DeepSeek-V3's loads leave at 32 ranks of 9, on the average: 0.7 %.
TEST(GreedyPlacement, LeavesLittleOfMeanLoads) {
  std::mt19937_64 rng(1);
  double sum = 0;
  for (int layer = 0; layer < 20; ++layer) {
    const std::vector<double> loads = lognormal_loads(256, rng);
    sum += even_imbalance(greedy_placement(loads, {.ep = 32, .slots = 288}), loads);
  }
  EXPECT_GT(sum / 20, 0.004);
  EXPECT_LT(sum / 20, 0.010);
}

TEST(HierarchicalPlacement, KeepsGroupsOnNodes) {
  std::mt19937_64 rng(2);
  const std::vector<double> loads = lognormal_loads(64, rng);
  const SlotGrid grid{.ep = 8, .slots = 96, .nodes = 2};
  const Placement placement = hierarchical_placement(loads, grid, 4);
  for (int32_t expert = 0; expert < 64; ++expert) {
    const int64_t group_node = placement.rank_of(placement.slots_of({expert / 16 * 16})[0]) / 4;
    for (const SlotId slot : placement.slots_of({expert})) EXPECT_EQ(placement.rank_of(slot) / 4, group_node);
  }
  EXPECT_GE(even_imbalance(placement, loads), even_imbalance(greedy_placement(loads, grid), loads));
  EXPECT_THROW(hierarchical_placement(loads, grid, 3), Error);
}

// The example that DeepSeek's EPLB is published with: 12 experts in 4 groups, 16 slots, 2 nodes of 4 ranks.
TEST(HierarchicalPlacement, IsThePublishedOne) {
  const std::vector<double> loads{90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86};
  const Placement placement = hierarchical_placement(loads, {.ep = 8, .slots = 16, .nodes = 2}, 4);
  const std::vector<std::vector<int>> published{{5, 6}, {5, 7}, {4, 8}, {3, 4}, {9, 10}, {2, 10}, {0, 1}, {1, 11}};
  for (int64_t rank = 0; rank < 8; ++rank) EXPECT_EQ(experts_of(placement, rank), published[rank]);
}

TEST(CooccurrencePlacement, KeepsCompanionsTogether) {
  // Experts 2i and 2i + 1 are always picked together.
  std::vector<int64_t> pairs(64);
  for (int i = 0; i < 8; ++i) pairs[i * 8 + (i ^ 1)] = 10;
  const std::vector<double> loads(8, 1.0);
  const Placement placement = cooccurrence_placement(loads, pairs, {.ep = 4, .slots = 8}, 1.0);
  for (int64_t rank = 0; rank < 4; ++rank) {
    const std::vector<int> experts = experts_of(placement, rank);
    EXPECT_EQ(experts[0] ^ 1, experts[1]);
  }
  EXPECT_NEAR(even_imbalance(placement, loads), 0, 1e-12);
}

TEST(DrawBatch, KeepsTokensAndMeans) {
  std::mt19937_64 rng(3);
  std::vector<double> loads = lognormal_loads(16, rng);
  loads[5] = 0;
  loads[15] = 0;
  std::vector<double> sums(16);
  for (int round = 0; round < 400; ++round) {
    const std::vector<int64_t> batch = draw_batch(loads, 1000, kMeasuredConcentration, rng);
    ASSERT_EQ(std::accumulate(batch.begin(), batch.end(), int64_t{0}), 1000);
    ASSERT_EQ(batch[5] + batch[15], 0);
    for (size_t i = 0; i < 16; ++i) sums[i] += static_cast<double>(batch[i]);
  }
  const double total = std::accumulate(loads.begin(), loads.end(), 0.0);
  for (size_t i = 0; i < 16; ++i) EXPECT_NEAR(sums[i] / 400, 1000 * loads[i] / total, 2.5);
  const std::vector<int64_t> none = draw_batch(std::vector<double>(4, 0.0), 10, 100, rng);
  EXPECT_EQ(none, std::vector<int64_t>(4, 0));
}

}  // namespace
}  // namespace shoal
