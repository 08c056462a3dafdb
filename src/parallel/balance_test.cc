// SPDX-License-Identifier: Apache-2.0
#include "parallel/balance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "base/error.h"
#include "parallel/node_layout.h"
#include "parallel/replica_split.h"

namespace shoal {
namespace {

// As DeepSeek-V3's loads are spread: lognormal, log-std 0.665.
std::vector<double> lognormal_loads(int64_t experts, double sigma, std::mt19937_64& rng) {
  std::normal_distribution<double> normal(0, sigma);
  std::vector<double> loads(experts);
  for (double& load : loads) load = std::exp(normal(rng));
  return loads;
}

void expect_no_copy_twice_on_a_rank(const Placement& placement) {
  for (int64_t rank = 0; rank < placement.ep(); ++rank) {
    std::vector<ExpertId> own = placement.on_rank(rank);
    std::erase(own, kNoExpert);
    std::sort(own.begin(), own.end());
    ASSERT_EQ(std::adjacent_find(own.begin(), own.end()), own.end()) << "rank " << rank;
  }
}

TEST(PlanPlacement, EvensOutMeanLoads) {
  std::mt19937_64 rng(1);
  for (const auto& [ep, per_rank] : {std::pair{32, 9}, {36, 8}, {16, 17}, {8, 33}}) {
    for (int layer = 0; layer < 4; ++layer) {
      const std::vector<double> loads = lognormal_loads(256, 0.665, rng);
      const Placement placement = plan_placement({loads, {}}, {.ep = ep, .slots = ep * per_rank});
      EXPECT_LE(even_imbalance(placement, loads), 0.002);
      EXPECT_LE(split_imbalance(placement, scaled_loads(loads)), 0.001) << ep << " x " << per_rank;
    }
  }
}

// 1,024 copies a rank, drawn without over-dispersion: copies that share evenly leave 6 % here.
TEST(PlanPlacement, LetsBatchesFlow) {
  std::mt19937_64 rng(2);
  const std::vector<double> loads = lognormal_loads(256, 0.665, rng);
  const Placement placement = plan_placement({loads, {}}, {.ep = 32, .slots = 288});
  std::discrete_distribution<int64_t> routed(loads.begin(), loads.end());
  double split = 0;
  double even = 0;
  for (int batch = 0; batch < 10; ++batch) {
    std::vector<int64_t> tokens(256);
    for (int i = 0; i < 32 * 1024; ++i) ++tokens[routed(rng)];
    split += split_imbalance(placement, tokens) / 10;
    even += even_imbalance(placement, std::vector<double>(tokens.begin(), tokens.end())) / 10;
  }
  EXPECT_LE(split, 0.02);
  EXPECT_GE(even, 0.04);
}

TEST(PlanPlacement, AnyShape) {
  std::mt19937_64 rng(3);
  for (int round = 0; round < 300; ++round) {
    const int64_t ep = 1 + static_cast<int64_t>(rng() % 20);
    const int64_t experts = 1 + static_cast<int64_t>(rng() % 80);
    const int64_t slots = (experts + ep - 1) / ep * ep + ep * static_cast<int64_t>(rng() % 4);
    std::vector<double> loads = lognormal_loads(experts, static_cast<double>(rng() % 4), rng);
    for (double& load : loads) load *= rng() % 4 == 0 ? 0 : 1;
    if (round % 10 == 0) std::fill(loads.begin(), loads.end(), 0.0);
    const Placement placement =
        plan_placement({loads, {}}, {.ep = ep, .slots = slots});  // holds every expert, or throws
    EXPECT_EQ(placement.slots(), slots);
    expect_no_copy_twice_on_a_rank(placement);
    int64_t filled = 0;
    for (int32_t slot = 0; slot < slots; ++slot) filled += placement.expert({slot}) != kNoExpert;
    EXPECT_EQ(filled, std::min(slots, experts * ep)) << experts << " experts, " << ep << " x " << slots / ep;
  }
}

TEST(PlanPlacement, OneExpertHasNearlyAllTokens) {
  std::vector<double> loads(64, 1.0);
  loads[7] = 1e6;
  const Placement placement = plan_placement({loads, {}}, {.ep = 8, .slots = 72});
  EXPECT_EQ(placement.slots_of({7}).size(), 8u);
  EXPECT_LE(split_imbalance(placement, scaled_loads(loads)), 1e-4);
}

TEST(PlanPlacement, BatchesDecideBetweenPlans) {
  std::mt19937_64 rng(4);
  LayerLoads loads{lognormal_loads(64, 1.0, rng), {}};
  const SlotGrid grid{.ep = 16, .slots = 80};
  const Placement without = plan_placement(loads, grid);
  for (int batch = 0; batch < 8; ++batch) {
    std::vector<int64_t> tokens(64);
    for (size_t e = 0; e < 64; ++e)
      tokens[e] = static_cast<int64_t>(100 * loads.mean[e]) + static_cast<int64_t>(rng() % 60);
    loads.batches.push_back(std::move(tokens));
  }
  const Placement with = plan_placement(loads, grid);
  double sum_with = 0;
  double sum_without = 0;
  for (const auto& tokens : loads.batches) {
    sum_with += split_imbalance(with, tokens);
    sum_without += split_imbalance(without, tokens);
  }
  EXPECT_LE(sum_with, sum_without);
}

TEST(PlanPlacement, NodesBringTokensNearerAndCostNothing) {
  std::mt19937_64 rng(5);
  const std::vector<double> loads = lognormal_loads(256, 0.8, rng);
  const Placement flat = plan_placement({loads, {}}, {.ep = 32, .slots = 320});
  const Placement laid = plan_placement({loads, {}}, {.ep = 32, .slots = 320, .nodes = 4});
  EXPECT_NEAR(even_imbalance(laid, loads), even_imbalance(flat, loads), 1e-12);
  EXPECT_LE(split_imbalance(laid, scaled_loads(loads)), 0.001);
  EXPECT_GT(tokens_near(laid, loads, 4), tokens_near(flat, loads, 4));
}

TEST(PlanPlacement, SaysWhatIsWrongWithAGrid) {
  EXPECT_THAT(slot_grid_problems(256, {.ep = 32, .slots = 288}), testing::IsEmpty());
  EXPECT_THAT(slot_grid_problems(256, {.ep = 36, .slots = 256}),
              testing::ElementsAre(testing::HasSubstr("nearest: 288")));
  EXPECT_THAT(slot_grid_problems(256, {.ep = 32, .slots = 300}),
              testing::ElementsAre(testing::HasSubstr("nearest: 288 or 320")));
  EXPECT_THAT(slot_grid_problems(256, {.ep = 32, .slots = 8}),
              testing::ElementsAre(testing::HasSubstr("nearest: 256")));
  EXPECT_THAT(slot_grid_problems(256, {.ep = 32, .slots = 288, .nodes = 5}),
              testing::ElementsAre(testing::HasSubstr("5 nodes")));
  EXPECT_THROW(plan_placement({std::vector<double>(4, 1.0), {}}, {.ep = 2, .slots = 3}), Error);
}

TEST(Imbalance, OfNothingIsNone) {
  EXPECT_EQ(imbalance(std::vector<int64_t>(4, 0)), 0);
  EXPECT_EQ(imbalance(std::vector<int64_t>{3, 1}), 0.5);
  EXPECT_EQ(even_imbalance(Placement::contiguous(4, 2), std::vector<double>(4, 0.0)), 0);
}

}  // namespace
}  // namespace shoal
