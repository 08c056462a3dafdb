// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/arrivals.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace shoal::bench {
namespace {

double rate_of(const ArrivalOptions& options, int64_t index, int64_t count) {
  if (options.ramp_up_strategy.empty()) return options.request_rate;
  const double progress = static_cast<double>(index) / static_cast<double>(std::max<int64_t>(count - 1, 1));
  const double start = options.ramp_up_start_rps, end = options.ramp_up_end_rps;
  if (options.ramp_up_strategy == "linear") return start + (end - start) * progress;
  return start * std::pow(end / start, progress);
}

}  // namespace

std::vector<std::string> arrival_problems(const ArrivalOptions& options) {
  std::vector<std::string> problems;
  if (!(options.request_rate > 0))
    problems.push_back(fmt::format("--request-rate is {}, must be above 0, or inf", options.request_rate));
  if (!(options.burstiness > 0))
    problems.push_back(
        fmt::format("--burstiness is {}, must be above 0; 1 gives Poisson arrivals", options.burstiness));
  const std::string& ramp = options.ramp_up_strategy;
  if (ramp.empty()) return problems;
  const double start = options.ramp_up_start_rps, end = options.ramp_up_end_rps;
  if (ramp != "linear" && ramp != "exponential")
    problems.push_back(fmt::format("--ramp-up-strategy is {}, must be linear or exponential", ramp));
  if (std::isfinite(options.request_rate))
    problems.emplace_back("--ramp-up-strategy sets the rate; leave --request-rate out");
  if (!(start > 0) || !(end >= start) || !std::isfinite(end))
    problems.push_back(fmt::format(
        "--ramp-up-start-rps {} and --ramp-up-end-rps {} must be above 0, the end not below the start", start, end));
  return problems;
}

std::vector<double> arrival_times(const ArrivalOptions& options, int64_t count) {
  std::mt19937_64 random(options.seed);
  std::vector<double> times;
  double now = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double rate = rate_of(options, i, count);
    if (std::isfinite(rate)) {
      std::gamma_distribution<double> gap(options.burstiness, 1 / (rate * options.burstiness));
      now += std::isfinite(options.burstiness) ? gap(random) : 1 / rate;
    }
    times.push_back(now);
  }
  if (options.ramp_up_strategy.empty() && now > 0) {
    const double factor = static_cast<double>(count) / options.request_rate / now;
    for (double& time : times) time *= factor;
  }
  return times;
}

}  // namespace shoal::bench
