// SPDX-License-Identifier: Apache-2.0
#include "engine/logit_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace shoal {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(size_t count, float spread, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

double exact_log_sum_exp(const std::vector<float>& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum);
}

TEST(LogitBlocks, LogSumExpIsAccurate) {
  for (const size_t count : {1, 15, 16, 17, 511, 512, 513, 4096, 151'936})
    for (const float spread : {0.01f, 1.0f, 12.0f}) {
      const std::vector<float> logits = random_logits(count, spread, count);
      LogitBlocks blocks;
      blocks.scan(logits, 0.0f);
      const double exact = exact_log_sum_exp(logits);
      EXPECT_NEAR(blocks.log_sum_exp(), exact, 1e-6 * std::max(1.0, std::abs(exact))) << count << " " << spread;
    }
}

TEST(LogitBlocks, EveryPathGivesTheSameBits) {
  for (const size_t count : {7, 1000, 50'257}) {
    std::vector<float> logits = random_logits(count, 6.0f, 3);
    logits[count / 2] = -kInfinity;
    logits[0] = -200.0f;
    LogitBlocks plain("plain");
    plain.scan(logits, 0.7f);
    for (const std::string& isa : LogitBlocks::available_isas()) {
      LogitBlocks other(isa);
      other.scan(logits, 0.7f);
      EXPECT_EQ(std::bit_cast<uint64_t>(other.log_sum_exp()), std::bit_cast<uint64_t>(plain.log_sum_exp())) << isa;
      EXPECT_EQ(std::bit_cast<uint64_t>(other.scaled_mass()), std::bit_cast<uint64_t>(plain.scaled_mass())) << isa;
      for (int i = 0; i < 200; ++i) ASSERT_EQ(other.draw(i / 200.0), plain.draw(i / 200.0)) << isa;
    }
  }
}

TEST(LogitBlocks, TiesGoToTheLowestId) {
  std::vector<float> logits(2000, 1.0f);
  logits[700] = logits[1300] = logits[1301] = 2.0f;
  LogitBlocks blocks;
  blocks.scan(logits, 0.0f);
  EXPECT_EQ(blocks.argmax(), 700);
  std::vector<int32_t> ids;
  blocks.likeliest(5, ids);
  EXPECT_THAT(ids, testing::ElementsAre(700, 1300, 1301, 0, 1));
}

TEST(LogitBlocks, LikeliestIsASortsBeginning) {
  std::vector<float> logits = random_logits(9000, 2.0f, 11);
  for (size_t i = 0; i < logits.size(); i += 3) logits[i] = std::round(logits[i]);  // ties
  std::vector<int32_t> sorted(logits.size()), ids;
  std::iota(sorted.begin(), sorted.end(), 0);
  std::sort(sorted.begin(), sorted.end(), Likelier{logits});
  LogitBlocks blocks;
  blocks.scan(logits, 0.0f);
  for (const int64_t count : {1, 5, 17, 18, 500, 8999, 9000, 20'000}) {
    blocks.likeliest(count, ids);
    ASSERT_EQ(ids, std::vector<int32_t>(sorted.begin(), sorted.begin() + std::min<int64_t>(count, 9000))) << count;
  }
}

TEST(LogitBlocks, DrawsAreTheInverseOfTheDistribution) {
  const std::vector<float> logits = random_logits(1500, 1.5f, 5);
  LogitBlocks blocks;
  blocks.scan(logits, 1.25f);
  double total = 0.0;
  for (const float logit : logits) total += std::exp(1.25 * static_cast<double>(logit));
  double below = 0.0;
  for (int32_t id = 0; id < std::ssize(logits); ++id) {
    const double mass = std::exp(1.25 * static_cast<double>(logits[id])) / total;
    if (mass > 1e-4) {
      EXPECT_EQ(blocks.draw(below + 0.5 * mass), id);
    }
    below += mass;
  }
  EXPECT_EQ(blocks.draw(0.0), 0);
}

TEST(LogitBlocks, WhatIsMaskedIsNeverDrawn) {
  std::vector<float> logits(3000, -kInfinity);
  logits[5] = 0.0f;
  logits[2999] = 0.0f;
  LogitBlocks blocks;
  blocks.scan(logits, 1.0f);
  EXPECT_EQ(blocks.draw(0.0), 5);
  EXPECT_EQ(blocks.draw(0.4999), 5);
  EXPECT_EQ(blocks.draw(0.5001), 2999);
  EXPECT_EQ(blocks.draw(std::nextafter(1.0, 0.0)), 2999);
  const std::vector<float> none(600, -kInfinity);
  blocks.scan(none, 1.0f);
  EXPECT_EQ(blocks.argmax(), -1);
  EXPECT_EQ(blocks.draw(0.5), -1);
}

TEST(LogitBlocks, NotANumberAndInfinityAreSeen) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity})
    for (const size_t at : {0, 600, 999}) {
      std::vector<float> logits = random_logits(1000, 1.0f, 1);
      logits[at] = bad;
      for (const std::string& isa : LogitBlocks::available_isas()) {
        LogitBlocks blocks(isa);
        blocks.scan(logits, 1.0f);
        EXPECT_FALSE(std::isfinite(blocks.log_sum_exp())) << isa << " " << bad << " at " << at;
      }
    }
}

}  // namespace
}  // namespace shoal
