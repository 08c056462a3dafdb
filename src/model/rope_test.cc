// SPDX-License-Identifier: Apache-2.0
#include "model/rope.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "backend/factory.h"

namespace shoal {
namespace {

RopeSpec spec_of(RopeType type, double factor) {
  RopeSpec spec;
  spec.type = type;
  spec.rotary_dim = 16;
  spec.factor = factor;
  spec.original_max_positions = 64;
  return spec;
}

TEST(Rope, DefaultFrequencies) {
  const std::vector<float> frequencies = rope_frequencies(spec_of(RopeType::kDefault, 1.0), 0);
  ASSERT_EQ(frequencies.size(), 8u);
  for (int i = 0; i < 8; ++i) EXPECT_FLOAT_EQ(frequencies[i], std::pow(10000.0, -2.0 * i / 16.0));
}

TEST(Rope, LinearDividesEveryFrequency) {
  const std::vector<float> plain = rope_frequencies(spec_of(RopeType::kDefault, 1.0), 0),
                           linear = rope_frequencies(spec_of(RopeType::kLinear, 4.0), 0);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_FLOAT_EQ(linear[i], plain[i] / 4.0f);
}

TEST(Rope, DynamicIsPlainUpToTheTrainedLength) {
  const RopeSpec dynamic = spec_of(RopeType::kDynamic, 2.0);
  EXPECT_EQ(rope_frequencies(dynamic, 64), rope_frequencies(spec_of(RopeType::kDefault, 1.0), 0));
  // Twice the length, factor 2: base * (2*2 - 1)^(16/14).
  const double theta = 10000.0 * std::pow(3.0, 16.0 / 14.0);
  EXPECT_FLOAT_EQ(rope_frequencies(dynamic, 128)[3], std::pow(theta, -6.0 / 16.0));
}

TEST(Rope, YarnKeepsFastPairsAndDividesSlowOnes) {
  RopeSpec yarn = spec_of(RopeType::kYarn, 8.0);
  yarn.original_max_positions = 512;
  const std::vector<float> plain = rope_frequencies(spec_of(RopeType::kDefault, 1.0), 0),
                           scaled = rope_frequencies(yarn, 0);
  EXPECT_FLOAT_EQ(scaled.front(), plain.front());
  EXPECT_FLOAT_EQ(scaled.back(), plain.back() / 8.0f);
}

TEST(Rope, Llama3HasThreeBands) {
  RopeSpec llama3 = spec_of(RopeType::kLlama3, 8.0);
  llama3.original_max_positions = 8192;
  llama3.rotary_dim = 128;
  llama3.theta = 500000.0;
  RopeSpec plain = llama3;
  plain.type = RopeType::kDefault;
  const std::vector<float> scaled = rope_frequencies(llama3, 0), base = rope_frequencies(plain, 0);
  EXPECT_FLOAT_EQ(scaled.front(), base.front());
  EXPECT_FLOAT_EQ(scaled.back(), base.back() / 8.0f);
  bool between = false;
  for (size_t i = 0; i < base.size(); ++i)
    between = between || (scaled[i] < base[i] * 0.99f && scaled[i] > base[i] / 7.9f);
  EXPECT_TRUE(between);
}

TEST(Rope, TableIsRightToTheLastBitOfAFloatAtLongPositions) {
  const std::unique_ptr<Backend> backend = make_backend({.device = "reference", .isa = "", .threads = 1, .cores = {}});
  constexpr int64_t kPositions = int64_t{1} << 20;
  RopeSpec spec;
  spec.rotary_dim = 16;
  const RopeTable table = make_rope_table(spec, kPositions, *backend, 2);
  const std::vector<float> cosines = backend->to_host(table.cos), sines = backend->to_host(table.sin);
  const std::vector<float> frequencies = rope_frequencies(spec, 0);
  const size_t pairs = frequencies.size();
  double worst = 0;
  for (int64_t position = 0; position < kPositions; ++position) {
    for (size_t i = 0; i < pairs; ++i) {
      const double angle = static_cast<float>(position) * frequencies[i];
      worst = std::max({worst, std::abs(cosines[position * pairs + i] - std::cos(angle)),
                        std::abs(sines[position * pairs + i] - std::sin(angle))});
    }
  }
  EXPECT_LE(worst, 0x1.01p-25);  // half a unit in the last place below 1
}

TEST(Rope, TableOfPositionsDoesNotDependOnLengthAhead) {
  const std::unique_ptr<Backend> backend = make_backend({.device = "reference", .isa = "", .threads = 1, .cores = {}});
  const RopeSpec dynamic = spec_of(RopeType::kDynamic, 2.0);
  const std::vector<float> shorter = backend->to_host(make_rope_table(dynamic, 80, *backend).cos);
  const std::vector<float> longer = backend->to_host(make_rope_table(dynamic, 160, *backend).cos);
  for (size_t i = 0; i < shorter.size(); ++i) ASSERT_EQ(shorter[i], longer[i]) << i;
}

}  // namespace
}  // namespace shoal
