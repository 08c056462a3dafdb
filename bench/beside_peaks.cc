// SPDX-License-Identifier: Apache-2.0
#include "beside_peaks.h"

#include <algorithm>
#include <cmath>

#include "timing.h"

namespace shoal::bench {
namespace {

constexpr double kRoundSeconds = 4e-3;  // of calls, like a sample's

double seconds_of_calls(int64_t calls, const std::function<void()>& op) {
  const double start = seconds_now();
  for (int64_t i = 0; i < calls; ++i) op();
  return (seconds_now() - start) / static_cast<double>(calls);
}

struct Rounds {
  std::vector<double> seconds, read, dot, bound;
};

}  // namespace

void run_beside_peaks(benchmark::State& state, int threads, const std::vector<Work>& parts, bool bf16,
                      const std::function<void()>& op) {
  PeakMeter meter(threads);
  const StayOn stay(meter.cores());
  Work all;
  for (const Work& part : parts) {
    all.bytes += part.bytes;
    all.flops += part.flops;
  }
  op();
  const auto calls = static_cast<int64_t>(std::ceil(kRoundSeconds / seconds_of_calls(1, op)));
  Rounds rounds;
  meter.since_last();
  for (auto _ : state) {
    const double seconds = seconds_of_calls(calls, op);
    const Peaks peaks = meter.since_last();
    const double read = 1e9 * peaks.read_gb_s, dot = 1e9 * (bf16 ? peaks.bf16_gflop_s : peaks.f32_gflop_s);
    double bound = 0;
    for (const Work& part : parts) bound += std::max(part.bytes / read, part.flops / dot);
    rounds.seconds.push_back(seconds);
    rounds.read.push_back(all.bytes / seconds / read);
    rounds.dot.push_back(all.flops / seconds / dot);
    rounds.bound.push_back(bound / seconds);
    state.SetIterationTime(seconds);
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
