// SPDX-License-Identifier: Apache-2.0
#include "beside_peaks.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace shoal::bench {
namespace {

constexpr double kRoundSeconds = 4e-3;  // of calls, like a sample's

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double seconds_of_calls(int64_t calls, const std::function<void()>& op) {
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < calls; ++i) op();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / static_cast<double>(calls);
}

struct Rounds {
  std::vector<double> seconds, read, dot, bound;
};

}  // namespace

void run_beside_peaks(benchmark::State& state, int threads, const std::vector<Work>& parts, bool bf16,
                      const std::function<void()>& op) {
  PeakMeter meter(threads);
  Work all;
  for (const Work& part : parts) {
    all.bytes += part.bytes;
    all.flops += part.flops;
  }
  op();
  const auto calls = static_cast<int64_t>(std::ceil(kRoundSeconds / seconds_of_calls(1, op)));
  Rounds rounds;
  Peaks before = meter.sample();
  for (auto _ : state) {
    const double seconds = seconds_of_calls(calls, op);
    const Peaks after = meter.sample();
    const double read = 0.5e9 * (before.read_gb_s + after.read_gb_s);
    const double dot =
        0.5e9 * (bf16 ? before.bf16_gflop_s + after.bf16_gflop_s : before.f32_gflop_s + after.f32_gflop_s);
    double bound = 0;
    for (const Work& part : parts) bound += std::max(part.bytes / read, part.flops / dot);
    rounds.seconds.push_back(seconds);
    rounds.read.push_back(all.bytes / seconds / read);
    rounds.dot.push_back(all.flops / seconds / dot);
    rounds.bound.push_back(bound / seconds);
    state.SetIterationTime(seconds);
    before = after;
  }
  const double seconds = median(rounds.seconds);
  state.counters["us"] = seconds * 1e6;
  state.counters["GB_s"] = 1e-9 * all.bytes / seconds;
  state.counters["GF_s"] = 1e-9 * all.flops / seconds;
  state.counters["of_read"] = median(rounds.read);
  state.counters["of_dot"] = median(rounds.dot);
  state.counters["of_bound"] = median(rounds.bound);
}

}  // namespace shoal::bench
