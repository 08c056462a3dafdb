// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace shoal::bench {
namespace {

std::vector<double> gaps_of(const std::vector<double>& times) {
  std::vector<double> gaps;
  for (size_t i = 1; i < times.size(); ++i) gaps.push_back(times[i] - times[i - 1]);
  return gaps;
}

// Deviation over mean: 1 / sqrt(burstiness) for a gamma distribution.
double variation(const std::vector<double>& values) {
  double mean = 0, squares = 0;
  for (const double value : values) mean += value / static_cast<double>(values.size());
  for (const double value : values) squares += (value - mean) * (value - mean) / static_cast<double>(values.size());
  return std::sqrt(squares) / mean;
}

TEST(ArrivalTimes, AllAtOnceWithoutARate) { EXPECT_EQ(arrival_times({}, 3), (std::vector<double>{0, 0, 0})); }

TEST(ArrivalTimes, GammaGapsOfTheGivenRate) {
  for (const double burstiness : {0.25, 1.0, 4.0}) {
    ArrivalOptions options;
    options.request_rate = 50;
    options.burstiness = burstiness;
    options.seed = 7;
    const std::vector<double> times = arrival_times(options, 20000);
    EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
    EXPECT_NEAR(times.back(), 20000 / 50.0, 1e-6) << "scaled to the rate exactly";
    EXPECT_NEAR(variation(gaps_of(times)), 1 / std::sqrt(burstiness), 0.05 / std::sqrt(burstiness)) << burstiness;
    EXPECT_EQ(times, arrival_times(options, 20000)) << "the same seed gives the same times";
  }
}

TEST(ArrivalTimes, EvenGapsWithInfiniteBurstiness) {
  ArrivalOptions options;
  options.request_rate = 4;
  options.burstiness = std::numeric_limits<double>::infinity();
  for (const double gap : gaps_of(arrival_times(options, 100))) EXPECT_NEAR(gap, 0.25, 1e-9);
}

TEST(ArrivalTimes, RatesRise) {
  ArrivalOptions options;
  options.burstiness = std::numeric_limits<double>::infinity();
  options.ramp_up_start_rps = 1;
  options.ramp_up_end_rps = 9;
  options.ramp_up_strategy = "linear";
  std::vector<double> gaps = gaps_of(arrival_times(options, 101));
  EXPECT_NEAR(gaps[49], 1 / 5.0, 1e-3);
  EXPECT_NEAR(gaps.back(), 1 / 9.0, 1e-9);
  options.ramp_up_strategy = "exponential";
  gaps = gaps_of(arrival_times(options, 101));
  EXPECT_NEAR(gaps[49], 1 / 3.0, 1e-3);
}

TEST(ArrivalProblems, AllAtOnce) {
  ArrivalOptions options;
  EXPECT_TRUE(arrival_problems(options).empty());
  options.request_rate = -1;
  options.burstiness = 0;
  EXPECT_EQ(arrival_problems(options).size(), 2u);
  options = {};
  options.request_rate = 3;
  options.ramp_up_strategy = "square";
  EXPECT_EQ(arrival_problems(options).size(), 3u);
}

}  // namespace
}  // namespace shoal::bench
