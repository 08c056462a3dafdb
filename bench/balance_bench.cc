// SPDX-License-Identifier: Apache-2.0
// Times of expert balancing, for one layer of 256 experts with lognormal loads (log-std 0.665, as DeepSeek-V3's): dividing a batch of 1,024 routed
// copies a rank, planning from scratch (alone, and judged by 8 batches), re-planning after a 10 % drift. Arguments: ranks, slots a rank. Counters
// say what was reached: max / mean - 1. No bound is printed: the work is small and of no fixed size.
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>

#include "parallel/balance.h"
#include "parallel/batch_draw.h"
#include "parallel/greedy_balance.h"
#include "parallel/replan.h"
#include "parallel/replica_split.h"

namespace shoal {
namespace {

constexpr int64_t kExperts = 256;
constexpr int64_t kTokensPerRank = 1024;
constexpr int kBatches = 8;

std::vector<double> lognormal_factors(double sigma, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, sigma);
  std::vector<double> factors(kExperts);
  for (double& factor : factors) factor = std::exp(normal(random));
  return factors;
}

SlotGrid grid_of(const benchmark::State& state) {
  return {.ep = state.range(0), .slots = state.range(0) * state.range(1)};
}

std::vector<std::vector<int64_t>> batches_of(const std::vector<double>& loads, int64_t ep) {
  std::mt19937_64 random(2);
  std::vector<std::vector<int64_t>> batches;
  for (int i = 0; i < kBatches; ++i)
    batches.push_back(draw_batch(loads, kTokensPerRank * ep, kMeasuredConcentration, random));
  return batches;
}

void split(benchmark::State& state) {
  const std::vector<double> loads = lognormal_factors(0.665, 1);
  const SlotGrid grid = grid_of(state);
  const auto batches = batches_of(loads, grid.ep);
  ReplicaSplit split(plan_placement({.mean = loads}, grid));
  size_t next = 0;
  double sum = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(split.split(batches[next++ % batches.size()]).data());
    sum += imbalance(split.tokens_of_rank());
  }
  state.counters["imbalance"] = sum / static_cast<double>(next);
}

void plan(benchmark::State& state, bool judged) {
  LayerLoads loads{.mean = lognormal_factors(0.665, 1)};
  const SlotGrid grid = grid_of(state);
  if (judged) loads.batches = batches_of(loads.mean, grid.ep);
  for (auto _ : state) benchmark::DoNotOptimize(plan_placement(loads, grid));
  state.counters["imbalance"] = even_imbalance(plan_placement(loads, grid), loads.mean);
}

void greedy(benchmark::State& state) {
  const std::vector<double> loads = lognormal_factors(0.665, 1);
  const SlotGrid grid = grid_of(state);
  for (auto _ : state) benchmark::DoNotOptimize(greedy_placement(loads, grid));
  state.counters["imbalance"] = even_imbalance(greedy_placement(loads, grid), loads);
}

void replan(benchmark::State& state, double target) {
  LayerLoads loads{.mean = lognormal_factors(0.665, 1)};
  const Placement current = plan_placement(loads, grid_of(state));
  const std::vector<double> drift = lognormal_factors(0.1, 3);
  for (int64_t e = 0; e < kExperts; ++e) loads.mean[e] *= drift[e];
  const ReplanOptions options{.target = target};
  for (auto _ : state) benchmark::DoNotOptimize(replan_placement(current, loads, options));
  const Replan result = replan_placement(current, loads, options);
  state.counters["copies"] = static_cast<double>(result.copies);
  state.counters["imbalance"] = result.imbalance_after;
}

void grids(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"ranks", "slots"})->Unit(benchmark::kMicrosecond);
  for (const auto& [ranks, slots] : {std::pair{8, 33}, {16, 17}, {32, 9}, {32, 10}, {36, 8}, {72, 4}})
    bench->Args({ranks, slots});
}

BENCHMARK(split)->Apply(grids);
BENCHMARK_CAPTURE(plan, alone, false)->Apply(grids);
BENCHMARK_CAPTURE(plan, judged, true)->Apply(grids);
BENCHMARK(greedy)->Apply(grids);
BENCHMARK_CAPTURE(replan, to_0_02, 0.02)->Apply(grids);
BENCHMARK_CAPTURE(replan, to_0_007, 0.007)->Apply(grids);

}  // namespace
}  // namespace shoal
